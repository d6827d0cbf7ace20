"""Contracts for others: `.proto` files for any language, and an OpenAPI 3.1 document."""

from switchgear.contract.openapi import openapi
from switchgear.contract.prototext import proto_files

__all__ = ["openapi", "proto_files"]
