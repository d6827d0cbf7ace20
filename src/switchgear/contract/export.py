"""Contracts for others: `.proto` files for any language, OpenAPI 3.1 and AsyncAPI 3 documents."""

from switchgear.contract.asyncapi import asyncapi
from switchgear.contract.openapi import openapi
from switchgear.contract.prototext import proto_files

__all__ = ["asyncapi", "openapi", "proto_files"]
