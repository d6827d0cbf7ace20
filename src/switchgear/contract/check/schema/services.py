"""Services and their methods."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from switchgear.contract.check.schema.element import Element, scoped
from switchgear.contract.check.schema.numbers import SERVICE_METHOD, Path

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import MethodDescriptorProto, ServiceDescriptorProto

    from switchgear.contract.check.schema.files import File

__all__ = ["Method", "Service"]


class Service(Element):
    """One service."""

    def __init__(self, proto: ServiceDescriptorProto, file: File, path: Path) -> None:
        self.proto = proto
        self.file = file
        self.path = path
        self.name = proto.name
        self.nested_name, self.full_name = scoped(proto.name, file, None)
        self.features = file.features

    @cached_property
    def methods(self) -> Mapping[str, Method]:
        """The methods by name."""
        return {
            one.name: Method(one, self, (*self.path, SERVICE_METHOD, index))
            for index, one in enumerate(self.proto.method)
        }


class Method(Element):
    """One method of a service."""

    def __init__(self, proto: MethodDescriptorProto, service: Service, path: Path) -> None:
        self.proto = proto
        self.service = service
        self.file = service.file
        self.path = path
        self.name = proto.name
        self.full_name = f"{service.full_name}.{proto.name}"
        self.features = service.features

    @property
    def request(self) -> str:
        """The full name of the request."""
        return self.proto.input_type.removeprefix(".")

    @property
    def reply(self) -> str:
        """The full name of the reply, or of each of them."""
        return self.proto.output_type.removeprefix(".")
