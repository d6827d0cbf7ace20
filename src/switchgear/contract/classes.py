"""protobuf's own classes for messages that were described at run time.

protobuf makes a class together with those of the messages inside it, by recursion. What a class is
made of can be a chain of any length, so where that goes too deep the innermost are made first.
"""

from __future__ import annotations

from contextlib import suppress

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

__all__ = ["class_of"]


def class_of(descriptor: Descriptor) -> type[Message]:
    """Return protobuf's class for a message of any pool."""
    try:
        return GetMessageClass(descriptor)
    except RecursionError:
        for one in reversed(_inside(descriptor)):
            with suppress(RecursionError):  # of a circle; each time some more of it is made
                GetMessageClass(one)
        return GetMessageClass(descriptor)


def _inside(descriptor: Descriptor) -> list[Descriptor]:
    """Return a message and all that it is made of, each before what only it leads to."""
    found: dict[str, Descriptor] = {}
    waiting = [descriptor]
    while waiting:
        one = waiting.pop()
        if one.full_name not in found:
            found[one.full_name] = one
            waiting += [each.message_type for each in one.fields if each.message_type is not None]
    return list(found.values())
