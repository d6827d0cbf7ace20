"""What can be typed after `switchgear events`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from switchgear.cli.options import (
    Actor,
    AsJson,
    Config,
    ForService,
    Reason,
    finished,
    load,
    me,
)
from switchgear.errors import UsageError

__all__ = ["events"]

Event = Annotated[str, typer.Argument(help="Service and number, as `events parked` shows it.")]
Key = Annotated[str | None, typer.Option(help="Only events of this key.")]
Consumer = Annotated[str | None, typer.Option(help="Only those of one subscription: kitchen.cook.")]

events = typer.Typer(
    help="Events: how far behind, and which wait for a person.", no_args_is_help=True
)


class Dialect(StrEnum):
    """The databases whose SQL the library speaks."""

    SQLITE = "sqlite"
    POSTGRES = "postgres"


@events.command("lag")
def events_lag(
    service: ForService = None,
    watch: Annotated[
        float | None,
        typer.Option(min=0.1, help="Look again after so many seconds: what has not moved?"),
    ] = None,
    config: Config = None,
    *,
    json: AsJson = False,
) -> None:
    """Show how far every subscription is behind, and what the outboxes hold."""
    from switchgear.cli.lag import lag  # noqa: PLC0415  others start faster without it

    finished(lag(load(config), service, watch=watch, as_json=json))


@events.command("declare")
def events_declare(service: ForService = None, config: Config = None) -> None:
    """Declare every group on the broker, so that it misses nothing that is published first."""
    from switchgear.cli.declare import declare  # noqa: PLC0415  others start faster without it

    finished(declare(load(config), service))


@events.command("sql")
def events_sql(
    dialect: Annotated[Dialect, typer.Option(help="Whose SQL.")],
    part: Annotated[
        list[str] | None,
        typer.Option(help="outbox, inbox, parked or log; default: the first three."),
    ] = None,
) -> None:
    """Print the statements that make the tables of events, for migrations of your own."""
    from switchgear.events.migrations import COMPONENTS, SERVICE, script  # noqa: PLC0415  as below

    for name in part or ():
        if name not in COMPONENTS:
            raise UsageError(f"there is no part {name!r}.", fix=f"Parts: {', '.join(COMPONENTS)}.")
    for statement in script(dialect.value, part or SERVICE):
        typer.echo(f"{statement};\n")


@events.command("parked")
def events_parked(
    service: ForService = None,
    key: Key = None,
    consumer: Consumer = None,
    limit: Annotated[int, typer.Option(min=1, help="How many of each service.")] = 100,
    config: Config = None,
    *,
    json: AsJson = False,
) -> None:
    """List the events that wait for a person, and those that wait behind them."""
    from switchgear.cli.events import parked  # noqa: PLC0415  others start faster without it

    settings = load(config)
    finished(parked(settings, service, key=key, consumer=consumer, limit=limit, as_json=json))


@events.command("show")
def events_show(
    event: Event,
    config: Config = None,
    *,
    json: AsJson = False,
    raw: Annotated[bool, typer.Option("--raw", help="Its data alone, as it is.")] = False,
) -> None:
    """Show one parked event, with its headers and data."""
    from switchgear.cli.events import show  # noqa: PLC0415  others start faster without it

    finished(show(load(config), event, as_json=json, raw=raw))


@events.command("redrive")
def events_redrive(
    event: Annotated[
        str | None, typer.Argument(help="Service and number: its whole queue is released.")
    ] = None,
    *,
    service: ForService = None,
    key: Key = None,
    consumer: Consumer = None,
    reason: Annotated[str, typer.Option(help="Why they should work now.")] = "",
    actor: Actor = "",
    config: Config = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
) -> None:
    """Let events be handled again, in order."""
    from switchgear.cli.events import redrive  # noqa: PLC0415  others start faster without it

    finished(
        redrive(
            load(config),
            event,
            service,
            key=key,
            consumer=consumer,
            actor=me(actor),
            reason=reason,
            dry_run=dry_run,
        )
    )


@events.command("discard")
def events_discard(event: Event, reason: Reason, actor: Actor = "", config: Config = None) -> None:
    """Drop one event for good. The audit keeps it, with who and why."""
    from switchgear.cli.events import discard  # noqa: PLC0415  others start faster without it

    finished(discard(load(config), event, actor=me(actor), reason=reason))


@events.command("edit")
def events_edit(
    event: Event,
    payload: Annotated[Path, typer.Option(help="A file with the right data; - is the input.")],
    reason: Reason,
    actor: Actor = "",
    config: Config = None,
    *,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Take data that the handler may not read.")
    ] = False,
) -> None:
    """Put a corrected event in the place of a parked one. It names the old one, which is kept."""
    from switchgear.cli.events import edit  # noqa: PLC0415  others start faster without it

    finished(
        edit(load(config), event, payload, actor=me(actor), reason=reason, unchecked=unchecked)
    )


@events.command("trace")
def events_trace(
    correlation: Annotated[
        str, typer.Argument(help="A correlation id, or the id of an event or a saga.")
    ],
    others: Annotated[
        list[Path] | None,
        typer.Option("--with", help="Files of `switchgear export`, or a folder; repeatable."),
    ] = None,
    config: Config = None,
    *,
    json: AsJson = False,
) -> None:
    """Tell what became of a chain of events: what was published, who handled it, what waits."""
    from switchgear.cli.trace import trace  # noqa: PLC0415  others start faster without it

    finished(trace(load(config), correlation, others=others or (), as_json=json))


@events.command("hold")
def events_hold(
    topic: Annotated[str, typer.Argument(help="A topic, as shop.orders.")],
    seconds: Annotated[
        float, typer.Option("--for", min=1.0, max=86_400.0, help="Seconds; then it ends by itself.")
    ] = 600.0,
    within: Annotated[
        float, typer.Option(min=0.0, help="Seconds to wait for relays that may be publishing.")
    ] = 120.0,
    config: Config = None,
) -> None:
    """Publish nothing to a topic for a while: its events wait in the outboxes."""
    from switchgear.cli.arrange import hold  # noqa: PLC0415  others start faster without it

    finished(hold(load(config), topic, seconds, within=within))


@events.command("release")
def events_release(
    topic: Annotated[str, typer.Argument(help="A topic, as shop.orders.")],
    *,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="How many it has from now on; only more than it had.")
    ] = None,
    rekey: Annotated[
        bool, typer.Option("--rekey", help="Give waiting events the key of their new contract.")
    ] = False,
    within: Annotated[
        float, typer.Option(min=0.0, help="Seconds to wait until everybody has read the topic.")
    ] = 60.0,
    config: Config = None,
) -> None:
    """Publish to a topic again, with more partitions or another key, once the order allows it."""
    from switchgear.cli.arrange import release  # noqa: PLC0415  others start faster without it

    finished(release(load(config), topic, partitions=partitions, rekey=rekey, within=within))
