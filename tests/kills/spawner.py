"""Starts processes that drive jobs, quickly: everything is loaded once, and each of them is a fork of it.

Reads commands from stdin, one JSON object a line, and answers each with the process's id:
`{"environment": {...}, "roots": folder, "open": [[tool, arguments], ...], "how": "SIGKILL", "at": 3, "log": file}`. It
is halted by a signal at its n-th step, or, with `"after": "commit_intent"`, when that call of the ledger has returned.
Each step is a line in the log, if there is one.
"""

import json
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
from decoding import InThread

from rotoscope.composition import open_studio, stdio_roots
from rotoscope.contracts.arguments import parse_arguments
from rotoscope.contracts.tools import TOOLS
from rotoscope.jobs import dispatcher, lifecycle, procrastinate_engine  # noqa: F401 - loaded before the fork
from rotoscope.jobs.stages import fetch, finish_video  # noqa: F401 - loaded before the fork
from rotoscope.providers.http.client import ReplyTimeouts, Wire
from rotoscope.providers.http.messages import HttpCall
from rotoscope.settings import read_settings
from rotoscope.store import postgresql, retention  # noqa: F401 - loaded before the fork
from rotoscope.store.database import Database
from rotoscope.store.ledger import Ledger
from rotoscope.store.timing import Intervals
from rotoscope.studio.studio import Studio

TEMPO = Intervals(
    lease=1.5,
    heartbeat=0.4,
    poll=0.2,
    change_poll=0.05,
    starter_preference=0.3,
    post_grace=0.3,
    list_pauses=(0.0, 0.2, 0.5),
)
TIMES = ReplyTimeouts(submit=4.0, ask=4.0, maximum=8.0)


async def drive_jobs(order: dict[str, Any]) -> None:
    settings = read_settings(order["environment"])
    async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
        roots = stdio_roots(settings, Path(order["roots"]), Path(order["roots"]))
        # In this process: the steps of a worker are none of the ledger's, and forty of them would take their time.
        studio = open_studio(
            settings, roots, tasks, closing, sleep=sleep_briefly, intervals=TEMPO, times=TIMES, decoders=InThread()
        )
        studio.start_background(tasks)
        for tool, arguments in order["open"]:
            tasks.start_soon(plan_and_start, studio, tool, arguments)
        await anyio.sleep_forever()


async def plan_and_start(studio: Studio, tool: str, arguments: dict[str, Any]) -> None:
    await studio.start(await studio.plan(tool, parse_arguments(TOOLS[tool].arguments, arguments), "local"))


async def sleep_briefly(seconds: float) -> None:
    await anyio.sleep(min(seconds, 1.0))


def halting(how: signal.Signals, at: int, log: str) -> None:
    """Halt this process at its n-th step: before or after a transaction, before or after a request."""
    steps = iter(range(1, 10_000))

    def step(name: str) -> None:
        if log:
            with Path(log).open("a", encoding="utf-8") as lines:
                lines.write(f"{name}\n")
        if next(steps) == at:
            os.kill(os.getpid(), how)

    transact, send, download = Database.transact, Wire.send, Wire.download

    async def transacting(self: Database, *given: Any, **more: Any) -> Any:
        if not more.get("writes", True):
            return await transact(self, *given, **more)
        step("before a transaction")
        answer = await transact(self, *given, **more)
        step("after a transaction")
        return answer

    async def sending(self: Wire, provider: str, call: HttpCall, *given: Any, **more: Any) -> Any:
        step(f"before {call.method}")
        reply = await send(self, provider, call, *given, **more)
        step(f"after {call.method}")
        return reply

    async def downloading(self: Wire, *given: Any, **more: Any) -> Any:
        step("before a download")
        got = await download(self, *given, **more)
        step("after a download")
        return got

    Database.transact, Wire.send, Wire.download = transacting, sending, downloading  # type: ignore[method-assign]


def halting_after(how: signal.Signals, name: str) -> None:
    """Halt this process when a call of the ledger has returned for the first time."""
    call, halts = getattr(Ledger, name), iter([how])

    async def called(self: Ledger, *given: Any) -> Any:
        answer = await call(self, *given)
        for signal_once in halts:
            os.kill(os.getpid(), signal_once)
        return answer

    setattr(Ledger, name, called)


def main() -> None:
    import cv2
    import httpx  # noqa: F401, TID251 - loaded before the fork

    cv2.setNumThreads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            os.close(0)
            how = signal.Signals[order["how"]]
            if order["at"] or order["log"]:
                halting(how, order["at"], order["log"])
            if order["after"]:
                halting_after(how, order["after"])
            anyio.run(drive_jobs, order)
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
