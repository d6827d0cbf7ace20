"""The message without fields that every language has."""

from switchgear.contract.file import ProtoFile
from switchgear.contract.message import Message

__all__ = ["Empty"]


class Empty(Message, package=ProtoFile("google/protobuf/empty.proto", "google.protobuf")):
    """`google.protobuf.Empty`: what a method takes or gives that has nothing to say."""
