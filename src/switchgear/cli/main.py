"""The entry point: what goes wrong on the way is one line and an exit code, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from switchgear.errors import MissingExtra, SwitchgearError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process: 0 done, 1 failed, 2 wrongly asked, 130 stopped."""
    sys.exit(_main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    try:
        try:
            if given[:1] == ["contract"]:  # in a pipeline: nothing of services is imported
                from switchgear.cli.contract_commands import command  # noqa: PLC0415
            else:
                from switchgear.cli.commands import command  # noqa: PLC0415  optional dependencies
        except ModuleNotFoundError as error:
            if error.name in ("typer", "rich"):
                raise MissingExtra(error.name, "cli") from error
            raise
        command(arguments)
    except SwitchgearError as error:
        from switchgear.app.report import exit_code, one_line  # noqa: PLC0415  reads settings

        print(one_line(error), file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        return 130
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0
