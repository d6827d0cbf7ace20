"""The command line of the servers; see the package."""

from __future__ import annotations

import argparse
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from services import SERVERS, Missing, ServerError, Shared, sweep, variable
from services.programs import cache

_DEFAULT = "without one, all but those that take minutes to build"


def main() -> int:
    """Do what the command line says; 1 if any of it failed."""
    parser = argparse.ArgumentParser(prog="services", description="Servers on loopback.")
    parser.add_argument("what", choices=["up", "down", "fetch"])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SERVERS)}; {_DEFAULT}")
    given = parser.parse_args()
    unknown = set(given.names) - set(SERVERS)
    if unknown:
        parser.error(f"no server is named {min(unknown)}; there are {', '.join(SERVERS)}")
    sweep()
    shared = Shared(cache() / "running")
    if given.what == "down":
        for name in shared.stop():
            print(f"{name} has ended.")
        return 0
    names = given.names or [name for name, server in SERVERS.items() if not server.named]
    with ThreadPoolExecutor() as pool:
        work = shared.fetch if given.what == "fetch" else shared.url
        results = {name: pool.submit(work, name) for name in names}
    failed = False
    for name, result in results.items():
        error = result.exception()
        if error is None:
            url = result.result()
            print(f"export {variable(name)}={shlex.quote(url)}" if url else f"{name} is here.")
        elif isinstance(error, Missing | ServerError):
            failed = True
            print(f"{name}: {error}", file=sys.stderr)
        else:
            raise error
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
