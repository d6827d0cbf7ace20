"""What can be typed after `switchgear`. A command reads its arguments and calls its part."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from switchgear import __version__
from switchgear.cli.contract_commands import contract
from switchgear.cli.event_commands import events
from switchgear.cli.options import (
    Actor,
    AsJson,
    Config,
    Elsewhere,
    ForService,
    Reason,
    finished,
    load,
    me,
)
from switchgear.errors import ConfigError

if TYPE_CHECKING:
    from switchgear.config import Address

__all__ = ["app", "command"]

app = typer.Typer(
    name="switchgear",
    help="Declare how your services talk, run them, and see what is going on.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

WorkItem = Annotated[str, typer.Argument(help="As `saga list` shows it, or the saga's id.")]


saga = typer.Typer(help="Sagas that wait for a person.", no_args_is_help=True)
explain = typer.Typer(help="What follows, before it happens.", no_args_is_help=True)
app.add_typer(saga, name="saga")
app.add_typer(events, name="events")
app.add_typer(contract, name="contract")
app.add_typer(explain, name="explain")


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
        finished(run_up(load(config), names or None, restart=restart, json_lines=json or None))
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
    typer.echo(f"  cd {target}")
    typer.echo("  pip install -e '.[test]'    # once; with what its tests need")
    typer.echo("  pytest && switchgear up")


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


@saga.command("list")
def saga_list(
    service: ForService = None,
    config: Config = None,
    *,
    closed: Annotated[bool, typer.Option("--closed", help="Those that were dealt with.")] = False,
    json: AsJson = False,
) -> None:
    """List the sagas that wait for a person."""
    from switchgear.cli.sagas import list_items  # noqa: PLC0415  others start faster without it

    finished(list_items(load(config), service, closed=closed, as_json=json))


@saga.command("show")
def saga_show(
    id: Annotated[str, typer.Argument(help="Of a saga or a work item.")],  # noqa: A002
    service: ForService = None,
    config: Config = None,
    *,
    json: AsJson = False,
) -> None:
    """Show what is recorded about a saga, and the runbook of what waits."""
    from switchgear.cli.sagas import show  # noqa: PLC0415  others start faster without it

    finished(show(load(config), service, id, as_json=json))


@saga.command("retry")
def saga_retry(
    item: WorkItem,
    *,
    reason: Annotated[str, typer.Option(help="Why it should work now.")] = "tried again by hand",
    actor: Actor = "",
    service: ForService = None,
    config: Config = None,
    elsewhere: Elsewhere = False,
) -> None:
    """Attempt again what gave up."""
    _act(config, service, item, "retry", actor=actor, reason=reason, elsewhere=elsewhere)


@saga.command("resolve")
def saga_resolve(
    item: WorkItem,
    *,
    reason: Reason,
    result: Annotated[
        str | None, typer.Option(help="The step's result as JSON, if later steps need it.")
    ] = None,
    actor: Actor = "",
    service: ForService = None,
    config: Config = None,
    elsewhere: Elsewhere = False,
) -> None:
    """Say that what gave up has been carried out by hand."""
    _act(
        config,
        service,
        item,
        "resolve",
        actor=actor,
        reason=reason,
        elsewhere=elsewhere,
        result=result,
    )


@saga.command("skip")
def saga_skip(
    item: WorkItem,
    *,
    reason: Reason,
    actor: Actor = "",
    service: ForService = None,
    config: Config = None,
    elsewhere: Elsewhere = False,
) -> None:
    """Go on without it: what the step did, or did not, stays."""
    _act(config, service, item, "skip", actor=actor, reason=reason, elsewhere=elsewhere)


@saga.command("abort")
def saga_abort(
    item: WorkItem,
    *,
    reason: Reason,
    actor: Actor = "",
    service: ForService = None,
    config: Config = None,
    elsewhere: Elsewhere = False,
) -> None:
    """Say that a pivot was certainly not done, so that the saga is undone."""
    _act(config, service, item, "abort", actor=actor, reason=reason, elsewhere=elsewhere)


@saga.command("refute")
def saga_refute(
    id: Annotated[str, typer.Argument(help="The saga's id.")],  # noqa: A002
    step: Annotated[str, typer.Argument(help="The step that is recorded as done.")],
    *,
    evidence: Annotated[str, typer.Option(help="What shows that it does not hold; it is kept.")],
    actor: Actor = "",
    service: ForService = None,
    config: Config = None,
    elsewhere: Elsewhere = False,
) -> None:
    """Say that a step does not hold after all, such as a payment that bounced, even at the end."""
    from switchgear.cli.sagas import refute  # noqa: PLC0415  others start faster without it

    shown = {"actor": me(actor), "evidence": evidence}
    finished(refute(load(config), service, id, step, **shown, elsewhere=elsewhere))


class Form(StrEnum):
    """How an explanation is written."""

    TEXT = "text"
    JSON = "json"
    MERMAID = "mermaid"
    SVG = "svg"


class How(StrEnum):
    """How a step fails."""

    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"
    REFUTED = "refuted"


@saga.command("explain")
def saga_explain(
    name: Annotated[str, typer.Argument(help="A saga of the system, or module:name of one.")],
    *,
    fails: Annotated[
        str | None, typer.Option(help="A step or an undo; default: every failure point.")
    ] = None,
    how: Annotated[How, typer.Option(help="In which way.")] = How.REFUSED,
    after: Annotated[
        list[str] | None, typer.Option(help="A step that was done by then; may be repeated.")
    ] = None,
    form: Annotated[Form, typer.Option("--format", "-f", help="How it is written.")] = Form.TEXT,
    config: Config = None,
) -> None:
    """Say what happens when a step fails: what is undone, in order, and what a person does."""
    from switchgear.cli.explain import explain  # noqa: PLC0415  others start faster without it

    explain(load(config), name, fails, how.value, after=after or (), form=form.value)


@explain.command("event")
def explain_event(
    name: Annotated[str, typer.Argument(help="An event: its class, or its whole type.")],
    *,
    fails: Annotated[
        str | None,
        typer.Option(help="A handler, as service.function; default: every failure point."),
    ] = None,
    how: Annotated[
        str | None, typer.Option(help="gives-up (default), or the event that it publishes.")
    ] = None,
    after: Annotated[
        list[str] | None, typer.Option(help="A handler on the way there; may be repeated.")
    ] = None,
    others: Annotated[
        list[Path] | None,
        typer.Option("--with", help="Files of `switchgear export`, or a folder; repeatable."),
    ] = None,
    form: Annotated[Form, typer.Option("--format", "-f", help="How it is written.")] = Form.TEXT,
    config: Config = None,
) -> None:
    """Say what follows from an event, through all services, and what happens when one fails."""
    from switchgear.cli import explain_event as part  # noqa: PLC0415  others start faster

    part.explain_event(
        load(config),
        name,
        fails,
        how,
        after=after or (),
        others=others or (),
        form=form.value,
    )


@app.command()
def export(
    names: Annotated[list[str] | None, typer.Argument(help="Services; default: all.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder: NAME.json of each; default: printed.")
    ] = None,
    config: Config = None,
) -> None:
    """Write what services declare, for other repositories: `explain event --with` reads it."""
    from switchgear.cli.explain_event import export as write  # noqa: PLC0415  as above

    write(load(config), names or (), out)


def _act(
    config: Path | None,
    service: str | None,
    item: str,
    action: str,
    *,
    actor: str,
    reason: str,
    elsewhere: bool,
    result: str | None = None,
) -> None:
    from switchgear.cli.sagas import act  # noqa: PLC0415  others start faster without it
    from switchgear.saga.acting import result_of  # noqa: PLC0415  likewise
    from switchgear.saga.state import What  # noqa: PLC0415  likewise
    from switchgear.saga.story import Decision  # noqa: PLC0415  likewise

    decision = Decision(me(actor), reason, None if result is None else result_of(result))
    finished(act(load(config), service, item, What(action), decision, elsewhere=elsewhere))


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


@app.command()
def simulate(
    scenario: Annotated[
        str | None, typer.Argument(help="A TOML file, or a name; default: list the names.")
    ] = None,
    *,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Runs, each with another seed; default: the file's.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg|FILE.png", help="Draw it as well.")
    ] = None,
    fail: Annotated[
        str | None, typer.Option(metavar="SERVICE", help="What goes down with a service.")
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(metavar="SETTING=VALUE,...", help="Try values: breaker.threshold=0.3,0.4"),
    ] = None,
    json: AsJson = False,
) -> None:
    """Run services, calls and their policies in virtual time, to see what they add up to."""
    from switchgear.cli import simulate as simulator  # noqa: PLC0415  others start faster without
    from switchgear.config.scenario import read_scenario  # noqa: PLC0415  likewise

    if scenario is None:
        simulator.list_scenarios(as_json=json)
        return
    if sum(one is not None for one in (plot, fail, sweep)) > 1:
        raise ConfigError(
            "--plot, --fail and --sweep were given together.", fix="Choose one of them."
        )
    whole = read_scenario(simulator.named(scenario))
    if fail is not None:
        simulator.fail(whole, fail, seeds, as_json=json)
    elif sweep is not None:
        simulator.run_sweep(whole, sweep, seeds, as_json=json)
    else:
        simulator.run(whole, seeds, plot, as_json=json)


def _address(text: str | None, option: str) -> Address | None:
    if text is None:
        return None
    from switchgear.config import Address  # noqa: PLC0415  others start faster without it

    try:
        return Address.of(text)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is not an address: {error}.", where=option, fix="Write host:port."
        ) from error
