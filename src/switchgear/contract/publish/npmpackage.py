"""An npm package of contracts: plain ES modules with their types, which nobody has to build.

| in the package | what it is | made by |
| --- | --- | --- |
| `shop/orders/v1` | the messages and services of `shop/orders/v1.proto`, for gRPC | protoc-gen-es |
| `openapi` | types of every path, for REST; nothing at run time | openapi-typescript |
| `proto/`, `history.jsonl`, `openapi.json`, `asyncapi.json` | what the wheel carries too | us |

What a client needs at run time is `@bufbuild/protobuf`, a peer dependency: two copies of it in one
program would not know each other's messages. Its version is at least that of the generator.

The two generators run on Node.js, and only where a package is published.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from switchgear.contract.files import write
from switchgear.contract.protoc import Tree, compile_trees
from switchgear.contract.publish.generators import found, generate, run
from switchgear.contract.publish.replace import replaced
from switchgear.errors import OperationError, UsageError

__all__ = ["Tools", "npm_name", "write_npm"]

_NAME: Final = re.compile(r"(?:@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*")
_LONGEST: Final = 214
_NEEDED: Final = ("@bufbuild/protoc-gen-es", "openapi-typescript")
_NODE: Final = "Install Node.js 22 or later, and then: npm install --save-dev "
_VERSION: Final = re.compile(r"v(\d+)\.\d+\.\d+")
_GENERATION: Final = 2
"""The major version of protoc-gen-es whose modules we know how to name."""
_MARK: Final = "switchgear"
"""The member of `package.json` by which a folder is known as ours to write anew."""
_RUNTIME: Final = "@bufbuild/protobuf"


def npm_name(name: str) -> str:
    """Return a name that npm takes; raises `UsageError` for any other."""
    if len(name) > _LONGEST or _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} is not a name of an npm package.",
            fix="Write it as @acme/shop-contracts: lower case, without spaces.",
        )
    return name


class Tools:
    """The generators, as they are installed.

    They are looked for in `node_modules` of this folder and those above it, and on the PATH.
    Raises `OperationError` where one is missing or too old.
    """

    def __init__(self, here: Path | None = None) -> None:
        here = (here or Path.cwd()).absolute()
        homes = [one / "node_modules" / ".bin" for one in (here, *here.parents)]
        install = f"{_NODE}{' '.join(_NEEDED)}"
        found("node", fix=install)
        self.es = found("protoc-gen-es", homes=homes, fix=install)
        self.openapi = found("openapi-typescript", homes=homes, fix=install)
        told = run([self.es, "--version"], cwd=here, what="protoc-gen-es")
        version = _VERSION.search(told)
        if version is None or int(version[1]) < _GENERATION:
            raise OperationError(
                f"protoc-gen-es is too old: {told.strip()}.",
                where=self.es,
                fix="Run: npm install --save-dev @bufbuild/protoc-gen-es@latest",
            )
        self.version: str = version[0][1:]
        """Of protoc-gen-es, and so the least one of its runtime."""


def write_npm(
    folder: Path, name: str, version: str, documents: Mapping[str, bytes], tools: Tools
) -> None:
    """Write the package into `folder`, in place of an earlier version of it.

    `documents` are what it carries, by path: `.proto` files under `proto/`, and the rest. Raises
    `OperationError` where a generator fails, or where the folder holds something else; then it is
    left as it was.
    """
    with replaced(folder, _ours) as package:
        for path, data in documents.items():
            write(package / path, data)
        modules = package / "gen"
        modules.mkdir()
        arguments = [
            f"--es_out={modules}",
            "--es_opt=target=js+dts",
            "--es_opt=import_extension=js",
        ]
        source = package / "proto"
        generate(source, _with_imports(source), {"protoc-gen-es": tools.es}, arguments)
        typed = "openapi.json" in documents
        if typed:
            command = [tools.openapi, "openapi.json", "--output", "openapi.d.ts"]
            run(command, cwd=package, what="openapi-typescript")
        about = _about(name, version, sorted(documents), tools.version, typed=typed)
        (package / "package.json").write_text(json.dumps(about, indent=2) + "\n")
        (package / "README.md").write_text(_read_me(name, version, sorted(documents), typed=typed))


def _ours(folder: Path) -> bool:
    try:
        about = json.loads((folder / "package.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(about, dict) and _MARK in about


def _with_imports(source: Path) -> list[str]:
    """Return the files of a folder and all that they import but what the runtime brings along."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet  # noqa: PLC0415 - an extra

    (data,) = compile_trees(Tree.of(source), source_info=False)
    names = (one.name for one in FileDescriptorSet.FromString(data).file)
    return [name for name in names if not name.startswith("google/protobuf/")]


def _about(
    name: str, version: str, documents: list[str], runtime: str, *, typed: bool
) -> dict[str, Any]:
    """Return `package.json`."""
    exports: dict[str, Any] = {"./package.json": "./package.json"}
    if typed:
        exports["./openapi"] = {"types": "./openapi.d.ts"}
    exports |= {f"./{one}": f"./{one}" for one in documents if "/" not in one}
    exports["./proto/*"] = "./proto/*"
    exports["./*"] = {"types": "./gen/*_pb.d.ts", "default": "./gen/*_pb.js"}
    return {
        "name": name,
        "version": version,
        "description": f"The contracts of {name}, version {version}.",
        "type": "module",
        "sideEffects": False,
        "exports": exports,
        "peerDependencies": {_RUNTIME: f"^{runtime}"},
        _MARK: {"protoc-gen-es": runtime},
    }


def _read_me(name: str, version: str, documents: list[str], *, typed: bool) -> str:
    """Return what a reader needs to call the services."""
    protos = [one.removesuffix(".proto") for one in documents if one.startswith("proto/")]
    modules = "\n".join(f"- `{name}/{one.removeprefix('proto/')}`" for one in protos)
    rest = _REST.format(name=name) if typed else ""
    return _TEXT.format(name=name, version=version, modules=modules, rest=rest)


_TEXT: Final = """\
# {name} {version}

Written by `switchgear contract publish --npm`. Plain ES modules with their types: nothing has to
be built.

{modules}

## gRPC

With `@connectrpc/connect` and, in Node.js, the transport of `@connectrpc/connect-node`:

```ts
import {{ createClient }} from "@connectrpc/connect";
import {{ createGrpcTransport }} from "@connectrpc/connect-node";

const transport = createGrpcTransport({{ baseUrl: "http://127.0.0.1:7002" }});
const client = createClient(Service, transport); // a service of one of the modules above
```

A refusal is a `ConnectError`; `error.findDetails(OutOfStockSchema)` has its fields. A command that
is safe to repeat with a key takes it in the header `idempotency-key`.
{rest}"""
_REST: Final = """
## REST

With `openapi-fetch`, typed by the OpenAPI document:

```ts
import createClient from "openapi-fetch";
import type {{ paths }} from "{name}/openapi";

const client = createClient<paths>({{ baseUrl: "http://127.0.0.1:7102" }});
```

A message of the modules above is written for REST by `toJson(Schema, message, options)` with the
option `alwaysEmitImplicit: true`, so that zeros are there, and an answer is read by
`fromJson(Schema, body)`.
"""
