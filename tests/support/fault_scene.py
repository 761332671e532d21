"""A studio with keys that speaks to a sandbox over real sockets, which fails as a test asks; and the ways to pay."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from decoding import InThread
from ledger_rows import read_rows

from rotoscope.composition import open_studio, stdio_roots
from rotoscope.composition.driving import Driving
from rotoscope.contracts.arguments import parse_arguments
from rotoscope.contracts.results import JobResult
from rotoscope.contracts.tools import TOOLS
from rotoscope.media.vault import FolderVault
from rotoscope.models.catalog import manifest_folder
from rotoscope.providers.http.client import ReplyTimeouts
from rotoscope.settings import Settings, read_settings
from rotoscope.store.timing import Intervals
from rotoscope.studio.studio import Studio
from rotoscope_sandbox import Sandbox

__all__ = ["BRIEF", "DEADLINE_SECONDS", "KEYS", "Caller", "FaultScene"]

KEYS = {
    "REPLICATE_API_TOKEN": "r8_canary_replicate",
    "FAL_KEY": "canary-fal:0123456789",
    "SEGMIND_API_KEY": "SG_canary_segmind",
    "GATEWAY_API_KEY": "gw_canary_gateway",
}
TEMPO = Intervals(
    lease=3.0,
    heartbeat=0.5,
    poll=0.1,
    change_poll=0.05,
    list_pauses=(0.0, 0.05, 0.1),
    key_refusal_pause=0.05,
    default_result_life=600.0,
)
DRIVES_ALL = Driving()
BRIEF = ReplyTimeouts(submit=1.0, ask=0.5, maximum=3.0)
"""For replies that never come, or come too late."""
PATIENT = ReplyTimeouts(submit=60.0, ask=60.0, maximum=60.0)
"""For all other faults: on a machine that stands still for a second no reply counts as lost that was only late."""
DEADLINE_SECONDS = 120
"""The most that a case may take to the promised state."""


@dataclass(frozen=True)
class Caller:
    """One way to pay: a dialect in one of its forms, with a tool call that is cheap to compute."""

    wire: str
    tool: str
    arguments: dict[str, Any]
    lists: bool = True
    """Whether a lost reply can be looked up."""
    one_shot: bool = False
    """Whether the reply to the paying request is the result itself."""
    cancels: bool = True


@dataclass
class FaultScene:
    """A sandbox, its address, where the studio's files are, and how long that waits for replies."""

    app: Sandbox
    url: str
    folder: Path
    more: dict[str, str] = field(default_factory=dict)
    times: ReplyTimeouts = PATIENT

    @property
    def environment(self) -> dict[str, str]:
        bases = {"REPLICATE_BASE_URL": self.url, "FAL_BASE_URL": self.url, "SEGMIND_BASE_URL": self.url}
        bases |= {"GATEWAY_BASE_URL": f"{self.url}/replicate", "ROTOSCOPE_SANDBOX": "never"}
        return {"ROTOSCOPE_HOME": str(self.folder / "rotoscope"), **KEYS, **bases, **self.more}

    @property
    def settings(self) -> Settings:
        return read_settings(self.environment)

    @property
    def posts(self) -> int:
        """How many paying requests have arrived."""
        return sum(self.app.state.counters.posts.values())

    @property
    def accepted(self) -> int:
        """How many predictions were made for them."""
        return len(self.app.state.accepted)

    @property
    def cancels(self) -> int:
        """How often it was asked to stop a run."""
        return int(self.app.state.counters.cancels)

    def shorten_deadlines(self) -> None:
        """Every model is given up after a second."""
        own = self.settings.home / "models"
        shipped = {file.name: file for file in (manifest_folder() / "models").glob("*.toml")}
        for file in [*shipped.values(), *own.glob("*.toml")]:
            text = re.sub(r"deadline_seconds = \d+", "deadline_seconds = 1", file.read_text(encoding="utf-8"))
            (own / file.name).write_text(text, encoding="utf-8")

    def rows(self, query: str) -> Sequence[tuple[Any, ...]]:
        return read_rows(self.more.get("ROTOSCOPE_DATABASE_URL", self.settings.home / "ledger.sqlite3"), query)

    def written(self) -> bytes:
        """Everything that the studio has put on the disk."""
        return b"".join(path.read_bytes() for path in self.settings.home.rglob("*") if path.is_file())

    @asynccontextmanager
    async def studio(self, driving: Driving = DRIVES_ALL, home: str | None = None) -> AsyncIterator[Studio]:
        """A process that lives until the end of the block.

        Args:
            driving: what it drives.
            home: the name of a home of its own, in which it keeps no results.
        """
        more = {} if home is None else {"ROTOSCOPE_HOME": str(self.folder / home)}
        settings, vault = read_settings({**self.environment, **more}), FolderVault(self.settings.home / "vault")
        async with AsyncExitStack() as ending, anyio.create_task_group() as tasks:
            studio = open_studio(
                settings,
                stdio_roots(settings, self.folder, self.folder),
                tasks,
                ending,
                sleep=briefly,
                intervals=TEMPO,
                times=self.times,
                decoders=InThread(),
                vault=vault,
                driving=driving,
            )
            studio.start_background(tasks)
            yield studio
            tasks.cancel_scope.cancel()

    async def call(self, studio: Studio, caller: Caller, wait: float = DEADLINE_SECONDS) -> JobResult:
        arguments = parse_arguments(TOOLS[caller.tool].arguments, caller.arguments)
        result = await studio.perform(caller.tool, arguments, "local", wait)
        assert isinstance(result, JobResult)
        return result


async def briefly(seconds: float) -> None:
    await anyio.sleep(min(seconds, 0.02))
