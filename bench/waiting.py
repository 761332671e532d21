"""A thousand jobs that wait at once in one process: its memory, its share of a core, and how fast it answers meanwhile.

All are in `watch`, between a tenth and seven tenths of the ten minutes that they are expected to take; the provider
says "processing" in Replicate's words. It is asked inside the process (then its own work is counted in) and over a
loopback socket, where another process serves it.
"""

import json
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
from figures import arguments, headline
from sqlalchemy import Connection, update

from rotoscope.composition import open_studio, stdio_roots
from rotoscope.contracts.arguments import GetJob
from rotoscope.providers.states import Call, Ticket
from rotoscope.settings import read_settings
from rotoscope.store.job_data import AcceptedRun, JobChanges, JobPlan
from rotoscope.store.records import NewJob
from rotoscope.store.rows import merge_job_data
from rotoscope.store.schema import jobs
from rotoscope.studio.studio import Studio

EXPECTED = 600.0
MODEL = "bytedance/sa2va-4b-image"
LINES = [f"{number}%|####| {number}/1000" for number in range(1000)]


class Processing:
    """Says of everything that it is being worked on."""

    asked = 0

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        self.asked += 1
        name = scope["path"].rpartition("/")[2]
        urls = {what: f"https://api.replicate.com/v1/predictions/{name}/{what}" for what in ("get", "cancel", "stream")}
        known = {"id": name, "model": MODEL, "version": "v", "input": {"image": "https://x.invalid/a.png"}}
        logs = "\n".join(LINES[: self.asked % 40 + 1])  # another word at each question: each is written down
        body = json.dumps({**known, "status": "processing", "logs": logs, "error": None, "output": None, "urls": urls})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body.encode()})


def serve(port: int) -> None:
    import uvicorn

    uvicorn.run(Processing(), port=port, log_level="error", lifespan="off")


async def opened(studio: Studio, many: int) -> list[str]:
    """Jobs that were accepted a while ago and that nobody drives yet."""
    call = Call("replicate", MODEL, {"image": "https://x.invalid/a.png", "instruction": "x"}, "v", "version")
    chance, ids = random.Random(1), []
    accepted_runs: dict[str, AcceptedRun] = {}
    for number in range(many):
        accepted = time.time() - EXPECTED * chance.uniform(0.1, 0.6)
        ticket = Ticket(f"p{number:030d}", MODEL)
        planned = JobPlan(call=call, expected_seconds=EXPECTED)
        new = NewJob("segment_image", MODEL, "replicate", "bench", True, {"instruction": "x"}, planned)
        ids.append((await studio.context.ledger.open(new)).job.id)
        accepted_runs[ids[-1]] = AcceptedRun(ticket, accepted)

    def accept(connection: Connection) -> None:
        for job_id, run in accepted_runs.items():
            data = merge_job_data(connection, job_id, JobChanges(accepted=run))
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(stage="watch", data=data))

    await studio.context.ledger._database.transact(accept)  # noqa: SLF001 - the quick way to where they wait
    return ids


def resident() -> float:
    """Megabytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def spent() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(studio: Studio, ids: list[str], seconds: float) -> str:
    with anyio.fail_after(120):
        while len(studio.context.pacers.for_provider("replicate").slots) < len(ids):  # noqa: ASYNC110 - it is a count, and nobody tells of it
            await anyio.sleep(0.5)
    await anyio.sleep(min(5, seconds))
    chance, took = random.Random(2), []
    before, begun = spent(), time.perf_counter()
    while time.perf_counter() - begun < seconds:
        asked = time.perf_counter()
        await studio.perform("get_job", GetJob(job_id=chance.choice(ids), wait_seconds=0), "bench", 0)
        took.append(time.perf_counter() - asked)
        await anyio.sleep(0.1)
    share = (spent() - before) / (time.perf_counter() - begun)
    p99 = statistics.quantiles(took, n=100)[98]
    return f"{resident():.0f} MB (to hold: 300), {share:.0%} of a core (to hold: 50 %), get_job p99 {p99 * 1000:.0f} ms"


async def wait(way: str, many: int, seconds: float, port: int) -> None:
    provider = Processing()
    where = "always" if way == "inside" else f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as home:
        settings = read_settings({"ROTOSCOPE_HOME": f"{home}/r", "ROTOSCOPE_SANDBOX": where})
        async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
            studio = open_studio(settings, stdio_roots(settings, Path(home), Path(home)), tasks, closing, provider)
            ids = await opened(studio, many)
            studio.start_background(tasks)
            print(await measure(studio, ids, seconds))
            tasks.cancel_scope.cancel()


def main(many: int, seconds: float) -> None:
    print(headline(f"{many} jobs waiting in one process, {seconds:g} s"), flush=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, __file__, "--serve", str(port)])
    try:
        for way in ("inside", "socket"):
            command = [sys.executable, __file__, "--way", way, str(many), str(seconds), str(port)]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            print(f"  {way:7} {said}")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--way", way, many, seconds, port]:
            anyio.run(wait, way, int(many), float(seconds), int(port))
        case ["--serve", port]:
            serve(int(port))
        case _:
            given = arguments(
                __doc__, jobs=(1000, 10, "how many jobs"), seconds=(30.0, 1.0, "how long to measure each way")
            )
            main(int(given["jobs"]), given["seconds"])
