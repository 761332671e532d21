"""Starts commands of rotoscope as processes, quickly: everything is loaded once, and each of them is a fork of it.

Reads orders from stdin, one JSON object a line, and answers each with the process's id:
`{"arguments": ["serve", "--http", ...], "environment": {...}, "folder": where, "log": file}`.
"""

import json
import os
import signal
import sys
from typing import Any

from rotoscope.cli.commands import run_command

# Loaded before the fork: what a server and a worker need at their first request and their first job.
PRELOADED = (
    "anyio._backends._asyncio",
    "cv2",
    "httpx",
    "obstore",
    "procrastinate",
    "psycopg",
    "rotoscope.cli.serve_http",
    "rotoscope.jobs.dispatcher",
    "rotoscope.jobs.lifecycle",
    "rotoscope.providers.dialects",
    "rotoscope.store.leases",
    "rotoscope.store.postgresql",
    "rotoscope.store.retention",
    "rotoscope.studio.planning",
    "rotoscope.studio.studio",
    "uvicorn",
)


def run_order(order: dict[str, Any]) -> None:
    os.close(0)
    os.chdir(order["folder"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(order["environment"])
    os._exit(run_command(order["arguments"]))


def main() -> None:
    from importlib import import_module

    for name in PRELOADED:
        import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            run_order(order)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
