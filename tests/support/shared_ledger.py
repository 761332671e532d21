"""A ledger that several processes share, which a test starts and kills, and what they pay at one provider."""

import json
import os
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import psycopg
from ledger_rows import read_rows

from rotoscope_sandbox import Sandbox

__all__ = ["SharedLedger"]

KEYS = {"REPLICATE_API_TOKEN": "r8_k", "FAL_KEY": "k", "SEGMIND_API_KEY": "k", "GATEWAY_API_KEY": "k"}


@dataclass
class SharedLedger:
    """One ledger, one provider, and the processes that live on them."""

    app: Sandbox
    url: str
    folder: Path
    spawner: subprocess.Popen[str]
    picture: Path
    new_database: Callable[[], str] | None = None
    """Makes a database of PostgreSQL and gives its URL; None: the ledger is a file."""
    alive: set[int] = field(default_factory=set)
    database: str | None = field(init=False)

    def __post_init__(self) -> None:
        self.database = None if self.new_database is None else self.new_database()

    @property
    def kind(self) -> str:
        """Which database keeps the ledger."""
        return "sqlite" if self.database is None else "postgresql"

    @property
    def home(self) -> Path:
        return self.folder / "rotoscope"

    def elsewhere(self, name: str) -> "SharedLedger":
        """The same provider and the same processes, with another ledger."""
        return replace(self, folder=self.folder / name)

    def environment(self) -> dict[str, str]:
        bases = {f"{name}_BASE_URL": self.url for name in ("REPLICATE", "FAL", "SEGMIND")}
        bases |= {"GATEWAY_BASE_URL": f"{self.url}/replicate", "ROTOSCOPE_SANDBOX": "never"}
        bases |= {} if self.database is None else {"ROTOSCOPE_DATABASE_URL": self.database}
        return {"ROTOSCOPE_HOME": str(self.home), "ROTOSCOPE_AT_ONCE": "100", **KEYS, **bases}

    def start_process(
        self,
        jobs: Sequence[tuple[str, dict[str, Any]]] = (),
        how: str = "SIGKILL",
        at: int = 0,
        after: str = "",
        log: str = "",
    ) -> int:
        """Start a process that opens some jobs and drives what there is.

        It is halted at its n-th step, or after a call of the ledger, if any is named. `log` is a file for its steps.
        """
        order: dict[str, Any] = {"environment": self.environment(), "roots": str(self.picture.parent), "open": jobs}
        order |= {"how": how, "at": at, "after": after, "log": log}
        assert self.spawner.stdin is not None
        assert self.spawner.stdout is not None
        self.spawner.stdin.write(json.dumps(order) + "\n")
        self.spawner.stdin.flush()
        pid = int(self.spawner.stdout.readline())
        self.alive.add(pid)
        return pid

    def kill(self, pid: int) -> None:
        self.alive.discard(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def rows(self, query: str) -> Sequence[tuple[Any, ...]]:
        file = self.home / "ledger.sqlite3"
        if self.database is None and not file.exists():
            return []
        try:
            return read_rows(self.database or file, query)
        except (sqlite3.OperationalError, psycopg.errors.UndefinedTable):  # nobody has made the tables yet
            return []

    def states(self) -> Counter[str]:
        return Counter(state for (state,) in self.rows("SELECT state FROM jobs"))

    async def settled(self, jobs: int, seconds: float = 60.0) -> Counter[str]:
        """The states of all jobs, once there are so many and nobody has to do anything about them any more."""
        with anyio.fail_after(seconds):
            while True:
                states = self.states()
                if sum(states.values()) >= jobs and not states["queued"] + states["running"]:
                    return states
                await anyio.sleep(0.1)

    def bought(self) -> Counter[str]:
        """How often each prompt was accepted by the provider."""
        orders = [one.request for one in self.app.state.core.store.newest_first()]
        return Counter(str(order.input.get("instruction") or order.input.get("prompt")) for order in orders)

    def whole(self) -> bool:
        """Whether the ledger's file is as it should be; a database looks after its own."""
        return self.database is not None or self.rows("PRAGMA integrity_check") == [("ok",)]
