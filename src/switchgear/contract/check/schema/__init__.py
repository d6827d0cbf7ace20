"""The model that is compared: files, messages, fields, enumerations and services of one version.

It is a thin view of protoc's descriptors. What descriptors leave to the reader is decided here:
which package and syntax a file has, what its features say (see `features`), whether a field has
presence, and where in the text an element stands.
"""

from switchgear.contract.check.schema.element import Element
from switchgear.contract.check.schema.enums import Enum, EnumValue
from switchgear.contract.check.schema.fields import Field
from switchgear.contract.check.schema.files import File
from switchgear.contract.check.schema.messages import Message
from switchgear.contract.check.schema.numbers import (
    ENUM_OPTIONS,
    ENUM_VALUE,
    FIELD_DEFAULT,
    FIELD_JSON,
    FIELD_NAME,
    FIELD_OPTIONS,
    FIELD_TYPE,
    FIELD_TYPE_NAME,
    FILE_EDITION,
    FILE_ENUM,
    FILE_EXTENSION,
    FILE_MESSAGE,
    FILE_OPTIONS,
    FILE_PACKAGE,
    FILE_SERVICE,
    FILE_SYNTAX,
    LABEL_REPEATED,
    LABEL_REQUIRED,
    MESSAGE_ENUM,
    MESSAGE_EXTENSION,
    MESSAGE_FIELD,
    MESSAGE_NESTED,
    MESSAGE_OPTIONS,
    METHOD_INPUT,
    METHOD_OPTIONS,
    METHOD_OUTPUT,
    SERVICE_METHOD,
    TYPE_BYTES,
    TYPE_ENUM,
    TYPE_GROUP,
    TYPE_MESSAGE,
    TYPE_STRING,
    VALUE_NUMBER,
    Path,
)
from switchgear.contract.check.schema.place import Place
from switchgear.contract.check.schema.services import Method, Service
from switchgear.contract.check.schema.version import Schema

__all__ = [
    "ENUM_OPTIONS",
    "ENUM_VALUE",
    "FIELD_DEFAULT",
    "FIELD_JSON",
    "FIELD_NAME",
    "FIELD_OPTIONS",
    "FIELD_TYPE",
    "FIELD_TYPE_NAME",
    "FILE_EDITION",
    "FILE_ENUM",
    "FILE_EXTENSION",
    "FILE_MESSAGE",
    "FILE_OPTIONS",
    "FILE_PACKAGE",
    "FILE_SERVICE",
    "FILE_SYNTAX",
    "LABEL_REPEATED",
    "LABEL_REQUIRED",
    "MESSAGE_ENUM",
    "MESSAGE_EXTENSION",
    "MESSAGE_FIELD",
    "MESSAGE_NESTED",
    "MESSAGE_OPTIONS",
    "METHOD_INPUT",
    "METHOD_OPTIONS",
    "METHOD_OUTPUT",
    "SERVICE_METHOD",
    "TYPE_BYTES",
    "TYPE_ENUM",
    "TYPE_GROUP",
    "TYPE_MESSAGE",
    "TYPE_STRING",
    "VALUE_NUMBER",
    "Element",
    "Enum",
    "EnumValue",
    "Field",
    "File",
    "Message",
    "Method",
    "Path",
    "Place",
    "Schema",
    "Service",
]
