"""Many open jobs at one provider, in one process: how late their ends are delivered, and what it is asked for that.

A provider in Replicate's shape, in a process of its own, finishes each run after a time between half and one and a
half times the expected one; it has the list that Replicate has. The jobs are all claimed together at the start, as
after a restart. A run counts as delivered when its job is `succeeded`, so collecting and measuring are part of the lag.
Meanwhile `get_job` is called ten times a second.
"""

import bisect
import itertools
import json
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from urllib.request import urlopen

import anyio
import cv2
import numpy as np
from figures import arguments, headline, percentile
from sqlalchemy import Connection, select, update

from rotoscope.composition import open_studio, stdio_roots
from rotoscope.contracts.arguments import GetJob
from rotoscope.providers.states import Call, Ticket
from rotoscope.settings import read_settings
from rotoscope.store.job_data import AcceptedRun, JobChanges, JobPlan
from rotoscope.store.records import NewJob
from rotoscope.store.rows import merge_job_data
from rotoscope.store.schema import jobs
from rotoscope.studio.studio import Studio

MODEL = "bytedance/sa2va-4b-image"
PAGE = 100
SHORTEST_RUN = 20.0  # seconds, as expected
ENDS_A_SECOND = 5.0  # more results than these cannot be measured at once by one process
SERVE = "--serve"


class Provider:
    """Finishes each run at its moment; counts what it is asked."""

    def __init__(self, plan: Path, port: int) -> None:
        self.plan, self.base = plan, f"http://127.0.0.1:{port}"
        self.runs: dict[str, list[float]] = {}
        self.read = 0
        self.asked: list[tuple[float, str]] = []
        mask = np.zeros((512, 512), np.uint8)
        mask[100:400, 100:400] = 255
        self.mask = cv2.imencode(".png", mask)[1].tobytes()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        kind, body = self.answer(scope["path"], scope["query_string"].decode())
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def answer(self, path: str, query: str) -> tuple[bytes, bytes]:
        if path == "/out.png":
            return b"image/png", self.mask
        if path == "/counts":
            counts, self.asked = self.counts(), []
            return b"application/json", json.dumps(counts).encode()
        if (written := self.plan.stat().st_mtime_ns) != self.read:
            self.read, self.runs = written, json.loads(self.plan.read_text(encoding="utf-8"))
        name = path.rpartition("/")[2]
        self.asked.append((time.monotonic(), "list" if name == "predictions" else "run"))
        found = self.page(parse_qs(query)) if name == "predictions" else self.state_of(name)
        return b"application/json", json.dumps(found).encode()

    def counts(self) -> dict[str, float]:
        """Questions by kind, and the most in any second."""
        moments = [at for at, _ in self.asked]
        most = max((bisect.bisect_left(moments, at + 1) - n for n, at in enumerate(moments)), default=0)
        return {**Counter(kind for _, kind in self.asked), "most": most}

    def page(self, query: dict[str, list[str]]) -> dict[str, Any]:
        after = datetime.fromisoformat(query["created_after"][0]).timestamp() if "created_after" in query else 0.0
        skipped = int(query.get("cursor", ["0"])[0])
        newest = sorted((-created, name) for name, (created, _) in self.runs.items() if created >= after)
        following = f"{self.base}/v1/predictions?cursor={skipped + PAGE}" if len(newest) > skipped + PAGE else None
        if following and "created_after" in query:
            following += f"&created_after={query['created_after'][0].replace('+', '%2B')}"
        results = [self.state_of(name) for _, name in newest[skipped : skipped + PAGE]]
        return {"previous": None, "next": following, "results": results}

    def state_of(self, name: str) -> dict[str, Any]:
        created, ends = self.runs[name]
        status = "succeeded" if time.time() >= ends else "processing"
        output = {"img": f"{self.base}/out.png", "response": "Sure, [SEG]."} if status == "succeeded" else None
        known = {"id": name, "model": MODEL, "version": "v", "input": {"image": "https://x.invalid/a.png"}}
        when = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            **known,
            "created_at": when,
            "status": status,
            "output": output,
            "logs": "",
            "error": None,
            "metrics": {"predict_time": 1.0},
            "urls": {},
        }


def serve(plan: Path, port: int) -> None:
    import uvicorn

    uvicorn.run(Provider(plan, port), port=port, log_level="error", lifespan="off")


async def opened(studio: Studio, plan: Path, many: int, expected: float) -> dict[str, str]:
    """Jobs that were accepted just now and that nobody drives yet: the run of each."""
    call = Call("replicate", MODEL, {"image": "https://x.invalid/a.png", "instruction": "x"}, "v", "version")
    chance, mine, runs = random.Random(many), {}, {}
    accepted_runs: dict[str, AcceptedRun] = {}
    now = time.time() + 0.002 * many  # when about all of them will be open
    for number in range(many):
        name = f"p{many:06d}{number:06d}{chance.randrange(16**8):08x}"
        runs[name] = [now, now + expected * chance.uniform(0.5, 1.5)]
        ticket = Ticket(name, MODEL)
        planned = JobPlan(call=call, expected_seconds=expected)
        new = NewJob("segment_image", MODEL, "replicate", "bench", True, {"overlay": False}, planned)
        job_id = (await studio.context.ledger.open(new)).job.id
        mine[job_id], accepted_runs[job_id] = name, AcceptedRun(ticket, now)

    def accept(connection: Connection) -> None:
        for job_id, run in accepted_runs.items():
            data = merge_job_data(connection, job_id, JobChanges(accepted=run))
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(stage="watch", data=data))

    await studio.context.ledger._database.transact(accept)  # noqa: SLF001 - the quick way to where they wait
    plan.write_text(json.dumps(runs), encoding="utf-8")
    return mine


async def ended(studio: Studio) -> dict[str, float]:
    """When the jobs that have ended did."""
    query = select(jobs.c.id, jobs.c.finished_at).where(jobs.c.finished_at.is_not(None))
    read = studio.context.ledger._database.transact  # noqa: SLF001 - all at once, which no tool tells
    return dict(await read(lambda c: [(row.id, row.finished_at) for row in c.execute(query)], writes=False))


async def waited(studio: Studio, ids: list[str], longest: float) -> list[float]:
    """Wait for every job to end; what `get_job` took meanwhile, in seconds."""
    chance, took, known = random.Random(2), list[float](), 0
    with anyio.fail_after(longest):
        for turn in itertools.count():
            asked = time.perf_counter()
            await studio.perform("get_job", GetJob(job_id=chance.choice(ids), wait_seconds=0), "bench", 0)
            took.append(time.perf_counter() - asked)
            if turn % 10 == 0:
                known = len(await ended(studio))
            if known == len(ids):
                return took
            await anyio.sleep(0.1)
    raise AssertionError  # it returns, or the time is up


async def measure(many: int, expected: float, plan: Path, port: int) -> str:
    with tempfile.TemporaryDirectory() as home:
        settings = read_settings({"ROTOSCOPE_HOME": f"{home}/r", "ROTOSCOPE_SANDBOX": f"http://127.0.0.1:{port}"})
        async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
            studio = open_studio(settings, stdio_roots(settings, Path(home), Path(home)), tasks, closing)
            mine = await opened(studio, plan, many, expected)
            runs = json.loads(plan.read_text(encoding="utf-8"))
            counts(port)
            begun, used = time.monotonic(), spent()
            studio.start_background(tasks)
            took = await waited(studio, list(mine), 10 * expected + 120)
            seconds, used = time.monotonic() - begun, spent() - used
            late = [max(at - runs[mine[job]][1], 0.0) for job, at in (await ended(studio)).items()]
            tasks.cancel_scope.cancel()
    return worded(many, expected, late, took, counts(port), seconds, used)


def worded(
    many: int, expected: float, late: list[float], took: list[float], asked: dict[str, float], over: float, used: float
) -> str:
    runs, lists = asked.get("run", 0), asked.get("list", 0)
    hold = " (to hold: p95 5 s, 40 a second, get_job p99 100 ms)" if many == 1000 else ""
    return (
        f"  {many:5} jobs of about {expected:3.0f} s: lag p50 {percentile(late, 0.5):.2f} s, "
        f"p95 {percentile(late, 0.95):.2f} s, at most {max(late):.2f} s; questions a job {runs / many:.1f}, "
        f"lists {lists}, together {(runs + lists) / over:.1f} a second and {asked['most']} at most; "
        f"get_job p99 {percentile(took, 0.99) * 1000:.0f} ms, at most {max(took) * 1000:.0f} ms; "
        f"{used / over:.0%} of a core{hold}"
    )


def spent() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def counts(port: int) -> dict[str, float]:
    """What the provider was asked since the last time."""
    with urlopen(f"http://127.0.0.1:{port}/counts", timeout=10) as reply:
        found: dict[str, float] = json.load(reply)
    return found


def ready(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return


def main(largest: int, shortest: float) -> None:
    print(headline("open jobs at one provider in one process"), flush=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.json"
        server = subprocess.Popen([sys.executable, __file__, SERVE, str(plan), str(port)])
        try:
            ready(port)
            for many in sorted({*(size for size in (1, 10, 100) if size < largest), largest}):
                said = anyio.run(measure, many, max(shortest, many / ENDS_A_SECOND), plan, port)
                print(said, flush=True)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == [SERVE]:
        serve(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        given = arguments(
            __doc__,
            jobs=(1000, 2, "how many open jobs, at most"),
            seconds=(SHORTEST_RUN, 1.0, "how long the runs take, at least"),
        )
        main(int(given["jobs"]), given["seconds"])
