"""What can be typed after `switchgear`. A command reads its arguments and calls its part."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from switchgear import __version__
from switchgear.config import Address, load
from switchgear.errors import ConfigError

__all__ = ["app", "command"]

app = typer.Typer(
    name="switchgear",
    help="Declare how your services talk, run them, and see what is going on.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="The system's file; default: SWITCHGEAR_CONFIG, ./switchgear.toml."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def command(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Ends with `SystemExit`; our own errors are raised."""
    typer.main.get_command(app).main(arguments, prog_name="switchgear")


def _version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"switchgear {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    del version


@app.command()
def up(
    names: Annotated[list[str] | None, typer.Argument(help="Services; default: all.")] = None,
    config: Config = None,
    *,
    restart: Annotated[
        bool, typer.Option(help="Start a service again that ends by itself.")
    ] = True,
    json: AsJson = False,
) -> None:
    """Run every service of a system, each as its own process. Ctrl-C drains and stops them."""
    from switchgear.cli.up import up as run_up  # noqa: PLC0415  others start faster without it

    raise typer.Exit(
        asyncio.run(run_up(load(config), names or None, restart=restart, json_lines=json or None))
    )


@app.command()
def run(
    target: Annotated[str, typer.Argument(help="module:app, or a name in switchgear.toml.")],
    http: Annotated[str | None, typer.Option(help="host:port of the REST door.")] = None,
    grpc: Annotated[str | None, typer.Option(help="host:port of the gRPC door.")] = None,
    config: Config = None,
    *,
    json: Annotated[
        bool | None,
        typer.Option("--json/--text", help="Form of the log; default: text on a terminal."),
    ] = None,
) -> None:
    """Run one service in this process, as in a container. SIGTERM drains it."""
    from switchgear.app.run import run as run_one  # noqa: PLC0415  others start faster without it

    raise typer.Exit(
        run_one(
            target,
            config=load(config),
            http=_address(http, "--http"),
            grpc=_address(grpc, "--grpc"),
            json_lines=json,
            path=[Path.cwd()],
        )
    )


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Of the project; its package has the same.")],
    folder: Annotated[
        Path | None, typer.Option(help="Where to write it; default: a folder of that name.")
    ] = None,
) -> None:
    """Write a working system of two services, with its tests."""
    from switchgear.app.new import new as write_new  # noqa: PLC0415  others start faster without it

    target = folder or Path(name)
    files = write_new(name, target)
    typer.echo(f"{len(files)} files in {target}. What to do next:")
    typer.echo(f"  cd {target} && pytest && switchgear up")


@app.command()
def services(config: Config = None, *, json: AsJson = False) -> None:
    """List the services of a system: what they serve and where they listen."""
    from switchgear.cli.system import show_services  # noqa: PLC0415  others start faster without it

    show_services(load(config), as_json=json)


@app.command()
def edges(config: Config = None, *, json: AsJson = False) -> None:
    """List who depends on what: calls with their policy, events, steps of sagas."""
    from switchgear.cli.system import show_edges  # noqa: PLC0415  others start faster without it

    show_edges(load(config), as_json=json)


@app.command()
def drill(
    names: Annotated[list[str], typer.Argument(help="Drills by name, or all.")],
    json: Annotated[
        Path | None, typer.Option("--json", help="A file for one JSON object a line and drill.")
    ] = None,
) -> None:
    """Break something on purpose, measure, and check the books."""
    from rich.console import Console  # noqa: PLC0415  others start faster without it

    from switchgear.drills.main import run as run_drills  # noqa: PLC0415  likewise

    raise typer.Exit(run_drills(names, json, Console()))


def _address(text: str | None, option: str) -> Address | None:
    if text is None:
        return None
    try:
        return Address.of(text)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is not an address: {error}.", where=option, fix="Write host:port."
        ) from error
