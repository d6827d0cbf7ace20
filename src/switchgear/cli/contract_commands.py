"""What can be typed after `switchgear contract`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command", "contract"]

contract = typer.Typer(
    help="Contracts: out to other languages, and in from them.", no_args_is_help=True
)


def command(arguments: Sequence[str] | None = None) -> None:
    """Run one of these alone, as `switchgear contract ...`; see `commands.command`."""
    app = typer.Typer(
        name="switchgear",
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.add_typer(contract, name="contract")
    typer.main.get_command(app).main(arguments, prog_name="switchgear")


Module = Annotated[
    str, typer.Argument(help="A module of contracts, as shop.contracts, or its file.")
]


@contract.command("export")
def contract_export(
    module: Module,
    *,
    proto: Annotated[Path | None, typer.Option(help="A folder for .proto files.")] = None,
    openapi: Annotated[
        Path | None, typer.Option(help="A file for the OpenAPI 3.1 document of the services.")
    ] = None,
    asyncapi: Annotated[
        Path | None, typer.Option(help="A file for the AsyncAPI 3.0 document of the events.")
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(help="A file of `publish`: what older versions had stays reserved."),
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="Of the documents; default: the module's name.")
    ] = None,
    release: Annotated[
        str | None, typer.Option(help="Of the documents; default: that of the distribution.")
    ] = None,
) -> None:
    """Write .proto files, an OpenAPI document and an AsyncAPI document of a module's contracts."""
    from switchgear.cli.contract import export  # noqa: PLC0415  others start faster without it

    _here()
    export(
        module,
        proto=proto,
        openapi_file=openapi,
        asyncapi_file=asyncapi,
        history=history,
        title=title,
        release=release,
    )


@contract.command("check")
def contract_check(
    new: Annotated[
        str,
        typer.Argument(
            help="A folder of .proto files, a module, an OpenAPI or AsyncAPI file, git:REF:PATH."
        ),
    ],
    against: Annotated[
        list[str],
        typer.Option(
            help="The version before, git:REF[:PATH], or a history; then those before it."
        ),
    ],
    *,
    rules: Annotated[
        list[str] | None,
        typer.Option(help="file, package, wire_json, wire, switchgear, or rules; with commas."),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="text, json or github.")] = "text",
    compatibility: Annotated[
        str,
        typer.Option(help="Of events: BACKWARD, FORWARD, FULL, each also with _TRANSITIVE."),
    ] = "FULL",
    history: Annotated[
        Path | None, typer.Option(help="A file of still earlier versions; `record` adds to it.")
    ] = None,
    consumers: Annotated[
        list[Path] | None,
        typer.Option(help="A file, or a folder of files, of who reads what."),
    ] = None,
    waivers: Annotated[
        Path | None, typer.Option(help="A file of findings that are accepted for a time.")
    ] = None,
    errors_only: Annotated[
        bool, typer.Option("--errors-only", help="Warnings alone end with 0.")
    ] = False,
    allow_refs: Annotated[
        list[str] | None,
        typer.Option(help="A folder, or what an address begins with, that a $ref may lead to."),
    ] = None,
) -> None:
    """Say what changed in a contract, whom it breaks, and the safe way to change it."""
    from switchgear.cli.contract_check import run  # noqa: PLC0415  others start faster without it

    _here()
    raise typer.Exit(
        run(
            new,
            against,
            rules=rules or [],
            form=form,
            compatibility=compatibility,
            history=history,
            consumers=consumers or [],
            waivers=waivers,
            errors_only=errors_only,
            allow_refs=allow_refs or [],
        )
    )


@contract.command("import")
def contract_import(
    files: Annotated[list[Path], typer.Argument(help=".proto files.")],
    search: Annotated[
        list[Path] | None,
        typer.Option("-I", help="A folder that imports begin at; default: that of the first file."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The module to write; default: print it.")
    ] = None,
) -> None:
    """Write a Python module of contracts from .proto files that others own."""
    from switchgear.cli.contract import import_files  # noqa: PLC0415  others start faster

    import_files(files, search=search or [], out=out)


@contract.command("publish")
def contract_publish(
    module: Module,
    *,
    history: Annotated[
        Path, typer.Option(help="The file of all versions; it is kept with the contracts.")
    ] = Path("contract-history.jsonl"),
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder for what is built.")] = Path(
        "dist"
    ),
    name: Annotated[
        str | None, typer.Option(help="Of the distribution; default: the module's.")
    ] = None,
    release: Annotated[
        str | None, typer.Option(help="The version; default: the lowest that the change allows.")
    ] = None,
    go: Annotated[
        str | None,
        typer.Option(help="The path of a Go module, as acme.com/contracts/shop, to write as well."),
    ] = None,
    npm: Annotated[
        str | None,
        typer.Option(help="The name of an npm package, as @acme/shop-contracts, to write as well."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
) -> None:
    """Build packages of a module's contracts, with the version that its changes ask for."""
    from switchgear.cli.contract import publish  # noqa: PLC0415  others start faster without it

    _here()
    publish(
        module,
        name=name,
        history=history,
        out=out,
        release=release,
        go=go,
        npm=npm,
        dry_run=dry_run,
    )


@contract.command("record")
def contract_record(
    new: Annotated[str, typer.Argument(help="A folder of .proto files, a module, git:REF:PATH.")],
    *,
    release: Annotated[str, typer.Option(help="What the version is called.")],
    history: Annotated[Path, typer.Option(help="The file, which is only ever added to.")],
) -> None:
    """Add a version to a file of history: the numbers and names that it uses and reserves."""
    from switchgear.contract.check.check import record  # noqa: PLC0415  others start faster without it

    _here()
    record(new, release, history)


def _here() -> None:
    """Let modules be imported from the folder in which the command is given."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
