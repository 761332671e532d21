"""One server over HTTP, on SQLite and on PostgreSQL in one run: many jobs wait, are asked about, and end.

A provider in Replicate's shape, in a process of its own, finishes its runs when it is asked to. Jobs are opened at
`rotoscope serve --http`, all of which then wait. Measured are

- `get_job`, called at a fixed rate whatever the answers take: the time from when a call was due to its answer;
- every final change at subscribers that all listen to the same tasks: how often each of them gets each end, and how
  long after the first subscriber the last one has it;
- the memory of the server's process and of its workers, each shared page counted by its share (PSS).

PostgreSQL is the one that `ROTOSCOPE_TEST_DATABASE_URL` names, or a cluster of this run's own; without either, SQLite
is measured alone.
"""

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import cv2
import numpy as np
from figures import arguments, headline, percentile
from ports import find_free_ports
from postgresql import PostgresqlServer, find_binaries, start_cluster
from sqlalchemy import make_url

SERVE = "--serve"
MODEL = "bytedance/sa2va-4b-image"
CONNECTIONS = 32
PAGE = 100
VERSION = "2026-07-28"
TASKS: dict[str, Any] = {"io.modelcontextprotocol/tasks": {}}
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {"extensions": TASKS},
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
}
START_SECONDS = 60.0


class Provider:
    """Takes every run, and finishes the first of those that were asked for once it hears how many."""

    def __init__(self, port: int) -> None:
        self.base, self.ids, self.over = f"http://127.0.0.1:{port}", itertools.count(), 0
        self.numbers: dict[str, int] = {}
        self.created: dict[str, str] = {}
        mask = np.zeros((64, 64), np.uint8)
        mask[10:40, 10:40] = 255
        self.mask = cv2.imencode(".png", mask)[1].tobytes()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        asked = b""
        while (part := await receive())["type"] == "http.request":
            asked += part["body"]
            if not part.get("more_body"):
                break
        status, kind, body = self.answer(scope["method"], scope["path"], asked, scope["query_string"].decode())
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def answer(self, method: str, path: str, asked: bytes, query: str) -> tuple[int, bytes, bytes]:
        if path == "/out.png":
            return 200, b"image/png", self.mask
        if path.startswith("/finish/"):
            self.over = int(path.rpartition("/")[2])
            return 200, b"text/plain", b"ok"
        if path.endswith("/files"):
            found: dict[str, Any] = {"id": "f", "urls": {"get": f"{self.base}/v1/files/f"}}
            return 201, b"application/json", json.dumps(found).encode()
        if method == "POST":
            name = f"p{next(self.ids)}"
            self.numbers[name] = int(json.loads(asked)["input"]["instruction"].rpartition(" ")[2])
            self.created[name] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            return 201, b"application/json", json.dumps(self.run(name, "starting")).encode()
        if path.endswith("/predictions"):
            return 200, b"application/json", json.dumps(self.page(parse_qs(query))).encode()
        return 200, b"application/json", json.dumps(self.state_of(path.rpartition("/")[2])).encode()

    def page(self, query: dict[str, list[str]]) -> dict[str, Any]:
        """A page of the list, the newest run first."""
        skipped = int(query.get("cursor", ["0"])[0])
        newest = list(reversed(self.created))[skipped : skipped + PAGE]
        following = (
            f"{self.base}/v1/predictions?cursor={skipped + PAGE}" if skipped + PAGE < len(self.created) else None
        )
        return {"previous": None, "next": following, "results": [self.state_of(name) for name in newest]}

    def state_of(self, name: str) -> dict[str, Any]:
        return self.run(name, "succeeded" if self.numbers[name] < self.over else "processing")

    def run(self, name: str, status: str) -> dict[str, Any]:
        output = {"img": f"{self.base}/out.png", "response": "Sure, [SEG]."} if status == "succeeded" else None
        known = {"id": name, "model": MODEL, "version": "v", "input": {}, "created_at": self.created[name]}
        return {**known, "status": status, "output": output, "logs": "", "error": None, "metrics": {}, "urls": {}}


def serve(port: int) -> None:
    import uvicorn

    uvicorn.run(Provider(port), port=port, log_level="error", lifespan="off")


class Connection:
    """A connection that is kept: one request after the other, each answered as JSON or as a stream of events."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter
        self.ids = itertools.count(1)

    async def open(self) -> "Connection":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def send(self, method: str, name: str | None, params: dict[str, Any]) -> None:
        request = {"jsonrpc": "2.0", "id": next(self.ids), "method": method, "params": {**params, "_meta": META}}
        body = json.dumps(request).encode()
        headers = [
            "POST /mcp HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            "Content-Type: application/json",
            "Accept: application/json, text/event-stream",
            f"MCP-Protocol-Version: {VERSION}",
            f"Mcp-Method: {method}",
            *([f"Mcp-Name: {name}"] if name else []),
            f"Content-Length: {len(body)}",
        ]
        self.writer.write("\r\n".join([*headers, "", ""]).encode() + body)
        await self.writer.drain()

    async def call(self, tool: str, given: dict[str, Any]) -> dict[str, Any]:
        """The structured content of a tool's answer, or the task that it became."""
        await self.send("tools/call", tool, {"name": tool, "arguments": given})
        async for message in self.messages():
            if "result" in message:
                found: dict[str, Any] = message["result"]
                return found.get("structuredContent") or found
            if "error" in message:
                raise RuntimeError(message["error"])
        raise RuntimeError("no answer")

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """The messages of one answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        if " 200 " not in head.partition("\r\n")[0]:
            raise RuntimeError(head)
        if "transfer-encoding: chunked" not in head:
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            yield json.loads(await self.reader.readexactly(length))
            return
        text = b""
        while size := int((await self.reader.readline()).strip() or b"0", 16):
            text += (await self.reader.readexactly(size + 2))[:size]
            *whole, text = text.replace(b"\r\n", b"\n").split(b"\n\n")
            for event in whole:
                data = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
                if data and data[0]:
                    yield json.loads(b"".join(data))
        await self.reader.readline()


@contextlib.contextmanager
def started(command: list[str], environment: dict[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


async def wait_until_open(port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            (await asyncio.open_connection("127.0.0.1", port))[1].close()
        except OSError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.1)
        else:
            return


def memory_of_tree(pid: int) -> float:
    """MB of a process and its children, shared pages counted by their share."""
    kilobytes = 0
    for one in [str(pid), *Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]:
        lines = Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii").splitlines()
        kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes / 1000


async def open_jobs(port: int, picture: Path, many: int) -> list[str]:
    """The ids of new jobs, which all wait for their provider."""
    ids = [""] * many
    numbers = iter(range(many))

    async def work() -> None:
        connection = await Connection(port).open()
        for number in numbers:
            given = {"image": str(picture), "instruction": f"thing {number}", "model": MODEL}
            found = await connection.call("segment_image", given)
            ids[number] = found.get("job_id") or found["taskId"]

    await asyncio.gather(*(work() for _ in range(8)))
    return ids


async def ask(port: int, ids: list[str], rate: float, seconds: float) -> tuple[list[float], int]:
    """How long each call of `get_job` took from when it was due, and how many had no answer."""
    lags: list[float] = []
    failures = 0
    due = iter([number / rate for number in range(int(rate * seconds))])
    begun, names = time.perf_counter(), itertools.cycle(ids)

    async def work() -> None:
        nonlocal failures
        connection = await Connection(port).open()
        for at in due:
            await asyncio.sleep(max(0.0, begun + at - time.perf_counter()))
            try:
                await connection.call("get_job", {"job_id": next(names)})
                lags.append(time.perf_counter() - begun - at)
            except (RuntimeError, OSError, asyncio.IncompleteReadError):
                failures += 1
                connection = await Connection(port).open()

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return lags, failures


async def listen(
    port: int, ids: list[str], number: int, ends: "Counter[tuple[int, str]]", at: dict[str, list[float]]
) -> None:
    """Listen to tasks until all have ended, and a moment longer."""
    connection = await Connection(port).open()
    await connection.send("subscriptions/listen", None, {"notifications": {"taskIds": ids}})
    left = set(ids)
    async for message in connection.messages():
        if message.get("method") != "notifications/tasks":
            continue
        task = message["params"]
        if task["status"] in ("completed", "failed", "cancelled"):
            ends[number, task["taskId"]] += 1
            at.setdefault(task["taskId"], []).append(time.perf_counter())
            left.discard(task["taskId"])
            if not left:
                await asyncio.sleep(2.0)  # one more would come now
                connection.writer.close()
                return


async def measure(name: str, database: str | None, sizes: dict[str, float], folder: Path) -> str:
    """One line of figures for a database."""
    provider_port, port = find_free_ports(2)
    picture = folder / "pictures" / "ball.png"
    picture.parent.mkdir(parents=True)
    cv2.imwrite(str(picture), np.full((64, 64, 3), 90, np.uint8))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "ROTOSCOPE_HOME": str(folder / "home"),
        "ROTOSCOPE_ROOTS": str(picture.parent),
        "ROTOSCOPE_SANDBOX": "never",
        "ROTOSCOPE_MAX_USD_PER_DAY": "none",
        "ROTOSCOPE_INLINE_SECONDS": "0",
        "REPLICATE_API_TOKEN": "r8_none",
        "REPLICATE_BASE_URL": f"http://127.0.0.1:{provider_port}",
        **({"ROTOSCOPE_DATABASE_URL": database} if database else {}),
    }
    command = [sys.executable, "-m", "rotoscope", "serve", "--http", f"127.0.0.1:{port}"]
    with (
        started([sys.executable, __file__, SERVE, str(provider_port)], dict(os.environ), folder / "provider.log"),
        started(command, environment, folder / "server.log") as server,
    ):
        await wait_until_open(provider_port)
        await wait_until_open(port)
        begun = time.perf_counter()
        ids = await open_jobs(port, picture, int(sizes["jobs"]))
        opening = (time.perf_counter() - begun) / len(ids)
        lags, failures = await ask(port, ids, sizes["rate"], sizes["seconds"])
        ends, at = Counter[tuple[int, str]](), dict[str, list[float]]()
        watched = ids[: int(sizes["watched"])]
        listeners = [
            asyncio.create_task(listen(port, watched, number, ends, at)) for number in range(int(sizes["listeners"]))
        ]
        await asyncio.sleep(2.0)
        reader, writer = await asyncio.open_connection("127.0.0.1", provider_port)
        writer.write(f"GET /finish/{len(watched)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        await reader.read()
        memory = memory_of_tree(server.pid)
        done, pending = await asyncio.wait(listeners, timeout=90.0)
        for task in (*done, *pending):
            task.cancel()
        memory = max(memory, memory_of_tree(server.pid))
    expected = len(watched) * len(listeners)
    spread = percentile([max(times) - min(times) for times in at.values()], 0.95) if at else float("nan")
    return (
        f"{name:<11} open {1000 * opening:6.1f} ms a job   get_job p50 {1000 * percentile(lags, 0.5):6.1f} ms, "
        f"p99 {1000 * percentile(lags, 0.99):6.1f} ms, {failures} failed   ends {sum(ends.values())} of {expected}, "
        f"most {max(ends.values(), default=0)} times, spread p95 {1000 * spread:6.1f} ms   memory {memory:5.0f} MB"
    )


@contextlib.contextmanager
def postgresql_database() -> Iterator[str | None]:
    named, binaries = os.environ.get("ROTOSCOPE_TEST_DATABASE_URL"), find_binaries()
    if named:
        with PostgresqlServer(make_url(named)).new_database() as url:
            yield url
    elif binaries is not None:
        with start_cluster(binaries) as cluster, cluster.new_database() as url:
            yield url
    else:
        yield None


def main() -> None:
    if SERVE in sys.argv:
        serve(int(sys.argv[-1]))
        return
    sizes = arguments(
        __doc__,
        jobs=(1000, 12, "jobs that wait"),
        rate=(200.0, 20.0, "calls of get_job a second"),
        seconds=(20.0, 1.0, "for how long"),
        listeners=(200, 4, "subscribers"),
        watched=(20, 3, "jobs that each of them listens to"),
    )
    words = f"{sizes['jobs']} jobs wait; {sizes['rate']:g} calls a second; {sizes['listeners']} subscribers"
    print(headline(f"a server over HTTP ({words})"))
    with postgresql_database() as database:
        for name, url in (("SQLite", None), ("PostgreSQL", database)):
            if name == "SQLite" or url is not None:
                with tempfile.TemporaryDirectory(prefix=f"serve-{secrets.token_hex(2)}") as folder:
                    print(asyncio.run(measure(name, url, sizes, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
