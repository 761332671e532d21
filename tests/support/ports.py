"""Ports for servers that a test starts as processes of their own."""

import random
import socket
from collections.abc import Sequence
from contextlib import suppress

__all__ = ["find_free_port", "find_free_ports", "is_free"]

_PORTS = range(20_000, 32_000)
"""Below those that systems give to connections (32,768 and up on Linux, 49,152 elsewhere): while its server is not
there yet, or is down, nothing else gets the port by itself."""


def find_free_port() -> int:
    return find_free_ports(1)[0]


def find_free_ports(count: int) -> Sequence[int]:
    """Different ones; drawn, because other tests look for theirs at the same time."""
    free: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        if is_free(port):
            free.append(port)
        if len(free) == count:
            return free
    raise OSError("no port is free")


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers bind it
        with suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False
