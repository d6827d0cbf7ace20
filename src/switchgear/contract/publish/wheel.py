"""A wheel of contracts, written by hand: a zip file with three lists in it (PEP 427).

It holds data and one module, so nothing has to be built; equal contents give equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from switchgear.contract.files import write

__all__ = ["wheel_name", "write_wheel"]

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


def wheel_name(name: str, version: str) -> str:
    """Return the file name of the wheel of a distribution."""
    return f"{_escaped(name)}-{version}-py3-none-any.whl"


def write_wheel(
    folder: Path, name: str, version: str, files: Mapping[str, bytes], requires: list[str]
) -> Path:
    """Write the wheel of `files`, by their path in it, into `folder`.

    Raises `OperationError` where it cannot be written.
    """
    about = f"{_escaped(name)}-{version}.dist-info"
    metadata = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        f"Summary: The contracts of {name}, version {version}.",
        "Requires-Python: >=3.11",
        *(f"Requires-Dist: {one}" for one in requires),
    ]
    wheel = [
        "Wheel-Version: 1.0",
        "Generator: switchgear",
        "Root-Is-Purelib: true",
        "Tag: py3-none-any",
    ]
    contents = {
        **files,
        f"{about}/METADATA": _text(metadata),
        f"{about}/WHEEL": _text(wheel),
    }
    record = [f"{path},{_digest(data)},{len(data)}" for path, data in contents.items()]
    contents[f"{about}/RECORD"] = _text([*record, f"{about}/RECORD,,"])
    path = folder / wheel_name(name, version)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, content in contents.items():
            info = zipfile.ZipInfo(inside, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    write(path, data.getvalue())
    return path


def _escaped(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _digest(data: bytes) -> str:
    found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"sha256={found}"
