"""Runs protoc over what is exported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import google.api
import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from switchgear.contract.export import proto_files


class Protoc:
    """protoc with the exported files of some services and messages in a folder."""

    def __init__(self, folder: Path, *roots: Any) -> None:
        self.folder = folder
        self.files = proto_files(*roots)
        for name, text in self.files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        shared = (
            Path(grpc_tools.__file__).parent / "_proto",
            Path(next(iter(google.api.__path__))).parents[1],
        )
        self._includes = [f"-I{one}" for one in (folder, *shared)]

    def __call__(self, *arguments: str, given: bytes = b"") -> bytes:
        """Return what protoc writes to its standard output."""
        command = [sys.executable, "-m", "grpc_tools.protoc", *self._includes, *arguments]
        done = subprocess.run(
            [*command, *self.files], input=given, capture_output=True, check=False
        )
        told = done.stderr.decode()
        assert done.returncode == 0, told
        assert not [line for line in told.splitlines() if "deprecated field" not in line], told
        return done.stdout

    def compiled(self) -> dict[str, FileDescriptorProto]:
        """Return the compiled files by name."""
        out = self.folder / "descriptors"
        self(f"--descriptor_set_out={out}")
        files = FileDescriptorSet.FromString(out.read_bytes())
        return {file.name: file for file in files.file}
