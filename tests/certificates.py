"""Certificates for servers of tests, made by the openssl that is on every machine with one."""

import subprocess
from pathlib import Path

__all__ = ["authority", "certificate"]


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


def authority(folder: Path, names: str) -> None:
    """Make an authority (`ca`), and certificates of it: a `server` of these names and a `client`.

    Each is two files, `NAME.pem` and `NAME.key`. Names are as `DNS:localhost,IP:127.0.0.1`.
    """
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    signs = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE"]
    signed += ["-addext", f"subjectAltName={names}"]
    for name, more in (("ca", signs), ("server", signed), ("client", signed)):
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(
            ["openssl", *new, "-days", "2", "-subj", f"/CN={name}", *more, *files],
            cwd=folder,
            check=True,
            capture_output=True,
        )
