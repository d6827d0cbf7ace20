"""Ports of loopback for servers that are told beforehand where to listen."""

import socket

__all__ = ["reserved_port"]

_held: list[socket.socket] = []


def reserved_port() -> int:
    """Return a port that nobody else is given for as long as this process lives.

    Whoever is told it can listen there, with SO_REUSEADDR as servers do: what keeps the port is a
    socket that does not listen. Until then connections are refused.
    """
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    _held.append(keeper)
    port: int = keeper.getsockname()[1]
    return port
