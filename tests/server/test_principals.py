"""What belongs to another principal is answered exactly like what does not exist, whichever way it is asked for."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from calls import BOX
from decoding import InThread
from mcp import Client, MCPError
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPDeprecationWarning
from principal_requests import LISTS, REQUESTS, Names, listen

from rotoscope.composition import make_studio_opener, stdio_roots
from rotoscope.models.catalog import manifest_folder
from rotoscope.server.app import build_server
from rotoscope.server.clients.profiles import read_client_profiles
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.settings import Settings
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio


class Principal:
    """On whose behalf the next request of a test comes."""

    def __init__(self) -> None:
        self.name = "anna"

    def __call__(self, _: object) -> str:
        return self.name


@pytest.fixture
def principal() -> Principal:
    return Principal()


@pytest.fixture
def shared(settings: Settings, sandbox: Sandbox, home: Path, principal: Principal) -> MCPServer[LazyStudio]:
    """A server that several principals use, as the principal of each request is what the test sets."""
    opener = make_studio_opener(settings, stdio_roots(settings, home, home), sandbox, InThread())
    clients = read_client_profiles(manifest_folder() / "clients.toml")
    return build_server(opener, clients, settings.inline_seconds, find_principal=principal)


@pytest.fixture
async def wire(shared: MCPServer[LazyStudio], speak: Callable[[MCPServer[Any]], Any]) -> AsyncIterator[Any]:
    async with speak(shared) as connected:
        yield connected


@pytest.fixture
async def annas(wire: Any, photo: Path) -> Names:
    """A finished job of anna's."""
    result = (await wire.call("segment_image", tasks=False, image=str(photo), box=BOX))["structuredContent"]
    assert result["status"] == "succeeded"
    mask = result["masks"][0]["media"]
    return Names(result["job_id"], mask["sha256"], mask["path"])


@pytest.fixture
def nobodys(annas: Names) -> Names:
    """Names of the same form that lead nowhere."""
    sha256 = annas.sha256[::-1]
    return Names(annas.job[::-1], sha256, str(Path(annas.path).parents[1] / sha256[:2] / f"{sha256}.png"))


@pytest.mark.parametrize("kind", REQUESTS)
async def test_another_principals_job_or_file_is_answered_like_none(
    wire: Any, principal: Principal, annas: Names, nobodys: Names, kind: str
) -> None:
    for method, params in REQUESTS[kind]:
        principal.name = "bert"
        foreign = annas.hide(await wire.ask(method, **annas.fill(params)))
        absent = nobodys.hide(await wire.ask(method, **nobodys.fill(params)))
        assert foreign == absent, params
        principal.name = "anna"
        owner = annas.hide(await wire.ask(method, **annas.fill(params)))
        answers_all_alike = method in ("tasks/cancel", "tasks/update")  # an empty acknowledgement, whatever there is
        assert owner != absent or answers_all_alike, params
    kept = await wire.call("get_job", tasks=False, job_id=annas.job)
    assert kept["structuredContent"]["status"] == "succeeded"


@pytest.mark.parametrize("asked", LISTS)
async def test_a_list_holds_nothing_of_another_principal(
    wire: Any, principal: Principal, annas: Names, asked: str
) -> None:
    method, params = LISTS[asked]
    assert annas.job in json.dumps(await wire.ask(method, **params))
    principal.name = "bert"
    assert annas.job not in json.dumps(await wire.ask(method, **params))


@pytest.mark.parametrize("asked", [{"resourceSubscriptions": ["job://{job}"]}, {"taskIds": ["{job}"]}])
async def test_a_stream_is_granted_nothing_of_another_principal(
    wire: Any, principal: Principal, annas: Names, nobodys: Names, asked: dict[str, Any]
) -> None:
    async def granted(names: Names) -> str:
        method, params = listen(**names.fill(asked))
        number = await wire.post(method, **params)
        while (message := await wire.read()).get("method") != "notifications/subscriptions/acknowledged":
            assert message.get("id") != number, message
        meta = message["params"].pop("_meta")
        assert meta
        return names.hide(message)

    owner = await granted(annas)
    principal.name = "bert"
    foreign, absent = await granted(annas), await granted(nobodys)
    assert foreign == absent
    assert owner != absent


@pytest.mark.filterwarnings(f"ignore::{MCPDeprecationWarning.__module__}.{MCPDeprecationWarning.__name__}")
async def test_another_principals_job_cannot_be_subscribed_to_in_the_handshake_era(
    shared: MCPServer[LazyStudio], principal: Principal, photo: Path
) -> None:
    async with Client(shared, mode="legacy") as client:
        done = await client.call_tool("segment_image", {"image": str(photo), "box": BOX})
        assert done.structured_content is not None
        job_id = done.structured_content["job_id"]
        await client.session.subscribe_resource(f"job://{job_id}")
        principal.name = "bert"
        with pytest.raises(MCPError) as foreign:
            await client.session.subscribe_resource(f"job://{job_id}")
        with pytest.raises(MCPError) as absent:
            await client.session.subscribe_resource(f"job://{job_id[::-1]}")
        assert (foreign.value.error.code, foreign.value.error.message) == (
            absent.value.error.code,
            absent.value.error.message,
        )


async def test_a_file_that_two_principals_have_made_belongs_to_both(
    wire: Any, principal: Principal, annas: Names, photo: Path
) -> None:
    principal.name = "bert"
    own = (await wire.call("segment_image", tasks=False, image=str(photo), box=BOX))["structuredContent"]
    assert own["job_id"] != annas.job
    assert own["masks"][0]["media"]["sha256"] == annas.sha256
    read = await wire.ask("resources/read", uri=f"artifact://{annas.sha256}")
    assert "error" not in read


async def test_the_picture_of_a_dry_run_can_be_looked_at_before_there_is_a_job(wire: Any, photo: Path) -> None:
    shown = (await wire.call("segment_image", tasks=False, image=str(photo), box=BOX, dry_run=True))[
        "structuredContent"
    ]
    link = next(value for value in shown["planned_input"].values() if str(value).startswith("artifact://"))
    assert not (await wire.call("view_media", tasks=False, uri=link)).get("isError")
