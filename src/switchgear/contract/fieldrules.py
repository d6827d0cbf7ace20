"""The rules that one field keeps, once its type is known; see `declaration` for the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import NODEFAULT

from switchgear.contract.kinds import Shape
from switchgear.errors import ContractError

if TYPE_CHECKING:
    from switchgear.contract.declaration import Field

__all__ = ["check_field"]


def check_field(one: Field, extends: object, where: str) -> None:
    """Refuse what contradicts itself, naming the field. `extends` is what it is an extension of."""
    _check_said(one, where, says_nothing=extends is not None)
    _check_wire_default(one, where)
    _check_held(one, where)
    if extends is not None:
        _check_extension(one, extends, where)


def _check_extension(one: Field, extends: object, where: str) -> None:
    """Refuse what an extension cannot be; `extends` is what somebody has written."""
    if not isinstance(extends, str):
        declared = vars(extends).get("__declaration__") if isinstance(extends, type) else None
        if declared is None:
            raise ContractError(
                f"{extends!r} is not a message.", where=where, fix="Extend a message."
            )
        if not any(one.number in numbers for numbers in declared.extensions):
            raise ContractError(
                f"{declared.name} does not offer the number {one.number}.",
                where=where,
                fix="Use a number from its extensions=.",
            )
    if one.type.key is not None or one.spec.required or one.spec.oneof or one.spec.json:
        raise ContractError(
            "An extension is no map, never required, in no oneof, and in JSON called as it is.",
            where=where,
            fix="Put it into a message, and extend with that.",
        )


def _check_held(one: Field, where: str) -> None:
    if one.kind.name == "message" and vars(one.kind.python)["__declaration__"].extends is not None:
        raise ContractError(
            f"{one.kind.python.__name__} holds extensions, and is no message on the wire.",
            where=where,
            fix="Use what it extends; `extensions_of` gives its extensions.",
        )


def _check_wire_default(one: Field, where: str) -> None:
    fitting = one.spec.oneof is not None or one.kind.name == "enum"
    if one.spec.wire_default is not None and (not fitting or one.kind.is_submessage):
        raise ContractError(
            "wire_default= is for the scalar members of a oneof, and for aliases.",
            where=where,
            fix="Say default= and presence=True.",
        )


def _check_said(one: Field, where: str, *, says_nothing: bool) -> None:
    """Refuse what contradicts itself. `says_nothing`: presence=True of an optional field may."""
    spec, given = one.spec, one.spec.default
    if one.type.optional and (spec.factory is not NODEFAULT or given not in (None, NODEFAULT)):
        raise ContractError(
            "The default of an optional field is None: on the wire, None is absence.",
            where=where,
            fix="Remove the default, or `| None` from the type.",
        )
    if spec.oneof is not None and not one.type.optional:
        raise ContractError(
            "A member of a oneof is absent where another is there.",
            where=where,
            fix="Add `| None` to the type.",
        )
    if spec.required and (one.type.optional or one.type.shape is not Shape.ONE):
        raise ContractError(
            "What is required is one value and never None.",
            where=where,
            fix="Remove required=True, or `| None` from the type.",
        )
    if spec.delimited and one.kind.name != "message":
        raise ContractError("delimited=True is for messages.", where=where, fix="Remove it.")
    fitting = one.type.optional is one.kind.is_submessage or (says_nothing and one.type.optional)
    if spec.presence and (one.type.shape is not Shape.ONE or not fitting):
        raise ContractError(
            "presence=True is for a scalar that is not optional.",
            where=where,
            fix="Remove it: None and messages already tell absence, lists and dicts cannot.",
        )
    if spec.strings and not one.kind.is_wide:
        raise ContractError("strings=True is for 64-bit integers.", where=where, fix="Remove it.")
    if given in (None, NODEFAULT):
        if given is None and not one.type.optional:
            raise ContractError(
                "The default is None, which the type does not allow.",
                where=where,
                fix="Add `| None` to the type, or remove the default.",
            )
        return
    if one.type.shape is not Shape.ONE or not one.kind.accepts(given):
        raise ContractError(
            f"The default {given!r} is not of the type of the field.",
            where=where,
            fix="Correct it; for lists and dicts use default_factory=list.",
        )
