"""Certificates for servers of tests, made by the openssl that is on every machine with one."""

import subprocess
from pathlib import Path

__all__ = ["certificate"]


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for this machine that signs itself; return it and its key, as PEM.

    Who trusts it (`ca`) trusts the server, by either of its names.
    """
    chain, key = folder / "chain.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    files = ["-keyout", str(key), "-out", str(chain)]
    subprocess.run(
        ["openssl", "req", "-x509", *curve, "-nodes", "-days", "2", *subject, *files],
        check=True,
        capture_output=True,
    )
    return chain, key
