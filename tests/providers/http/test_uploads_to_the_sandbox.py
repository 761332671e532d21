"""Files on their way to each provider: our dialects and wire on one side, the sandbox's own wires on the other."""

import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from rotoscope.models.access import SANDBOX_URL, resolve_access
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.providers.dialects import DIALECTS, UploadFile
from rotoscope.providers.http.client import ProviderAccess, Wire
from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.runner import Runner
from rotoscope.providers.states import Prediction
from rotoscope.settings import read_settings
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio
PROVIDERS = load_catalog(manifest_folder()).providers
ACCESS = {name: ProviderAccess(p.auth.header, p.auth.prefix, "sandbox") for name, p in PROVIDERS.items()}


@pytest.fixture
async def wire(sandbox: Sandbox) -> AsyncIterator[Wire]:
    found = Wire(ACCESS, frozenset({SANDBOX_URL.removeprefix("https://")}), sandbox)
    yield found
    await found.aclose()


def runner(wire: Wire, provider: str) -> Runner:
    async def send(call: HttpCall, before_send: Callable[[], None] | None = None, *, pays: bool = False) -> Reply:
        return await wire.send(provider, call)

    async def record(_: Prediction) -> None:
        raise AssertionError("an upload has no state")

    bases = resolve_access(read_settings({}), PROVIDERS).base_urls[provider]
    return Runner(DIALECTS[PROVIDERS[provider].dialect](bases), send, record, anyio.sleep)


def written(path: Path, size: int) -> UploadFile:
    path.write_bytes((b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 400_000)[:size])
    return UploadFile(path, "a.png", "image/png", size)


@pytest.mark.parametrize(
    ("provider", "size"),
    [("fal", 3_000_000), pytest.param("fal", 95_000_000, marks=pytest.mark.slow), ("segmind", 300_000)],
)
async def test_a_file_arrives_whole_and_is_read_back_the_same(
    wire: Wire, tmp_path: Path, provider: str, size: int
) -> None:
    """95 MB go to fal in parts; the others in one piece."""
    sent_file, back = written(tmp_path / "a.png", size), tmp_path / "b.png"
    with anyio.fail_after(180):
        got = await wire.download(provider, await runner(wire, provider).upload(sent_file), back, 200_000_000)
    assert got.size == size
    assert back.read_bytes() == sent_file.path.read_bytes()


async def test_a_file_at_replicate_is_served_with_the_key_only_and_has_its_hash(wire: Wire, tmp_path: Path) -> None:
    sent_file = written(tmp_path / "a.png", 3_000_000)
    with anyio.fail_after(180):
        url = await runner(wire, "replicate").upload(sent_file)
        shown = (await wire.send("replicate", HttpCall("GET", url))).fields()
    assert shown["size"] == 3_000_000
    assert isinstance(shown["checksums"], dict)
    assert shown["checksums"]["sha256"] == hashlib.sha256(sent_file.path.read_bytes()).hexdigest()
