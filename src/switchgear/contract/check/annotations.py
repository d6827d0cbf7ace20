"""Google's options: routes (`google.api.http`) and what a request has to hold (`field_behavior`).

The modules register the options, so they are imported before any descriptor is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from switchgear.errors import MissingExtra

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FieldOptions, MethodOptions

    from switchgear.contract.route import Binding

try:
    from google.api import (  # type: ignore[import-untyped]
        annotations_pb2,
        field_behavior_pb2,
    )
except ImportError:
    raise MissingExtra("googleapis-common-protos", "contract") from None

__all__ = ["expected", "routes"]


def expected(options: FieldOptions) -> bool:
    """Whether a service turns requests without the field away."""
    behaviors: Any = options.Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behaviors


def routes(options: MethodOptions) -> list[Binding]:
    """Return the routes of a method."""
    if not options.HasExtension(annotations_pb2.http):
        return []
    from switchgear.contract.bindings import bindings_of  # noqa: PLC0415  with all of declarations

    return bindings_of(options.Extensions[annotations_pb2.http])
