"""Uploads over HTTP: whole, as a form or in parts, to any replica; what is refused, and who may read the result."""

import io
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx  # noqa: TID251 - a client of the server in memory
import pytest
from films import film
from object_store import ObjectServer, object_server, open_object_vault, running_server
from photos import PHOTO, draw_photo
from PIL import Image
from set_clock import Clock
from upload_site import PUBLIC_URL, Replica, open_replica, part_headers
from vaults import MemoryVault, stored_path

from rotoscope.errors import InvalidInput
from rotoscope.media.vault import FolderVault
from rotoscope.server.http.upload_bodies import BodyLimits
from rotoscope.settings import Settings, read_settings
from rotoscope.store.uploads import MAX_UPLOAD_BYTES
from rotoscope.studio.uploads import Uploads
from rotoscope_sandbox import Sandbox

__all__ = ["object_server", "running_server"]
pytestmark = pytest.mark.anyio
PHOTO_BYTES = PHOTO.read_bytes()
DAY = 86_400.0
OpenReplica = Callable[..., Any]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_one(settings: Settings, sandbox: Sandbox, clock: Clock) -> OpenReplica:
    """Opens one more replica on the same ledger and vault."""
    return lambda **more: open_replica(settings, sandbox, clock, **more)


@pytest.fixture
async def replica(open_one: OpenReplica) -> AsyncIterator[Replica]:
    async with open_one() as opened:
        yield opened


async def new_address(replica: Replica, principal: str = "anna", **arguments: Any) -> str:
    answer = await replica.ask(principal, **arguments)
    assert (answer["status"], answer["artifact"]) == ("waiting", None)
    return str(answer["upload_url"])


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """The status and the code of a refusal; each has a sentence and a next step."""
    problem = answer.json()["error"]
    assert problem["message"]
    assert problem["hint"]
    return answer.status_code, problem["code"]


def read_artifact(replica: Replica, link: str) -> Image.Image:
    """The kept picture of a link, in a folder vault."""
    return Image.open(stored_path(replica.studio.context.vault, link))


def kept_files(settings: Settings) -> set[str]:
    """The names of what the vault holds: artifacts, parts and scratch files."""
    folder = settings.home / "vault"
    return {path.name for path in folder.rglob("*") if path.is_file() and "made" not in path.parts and path.suffix}


def with_secret() -> bytes:
    """A photo with a place in its metadata and a note behind its end."""
    image, out = draw_photo(), io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "at home"
    image.save(out, "JPEG", exif=exif)
    return out.getvalue() + b"a secret note"


# Whole.


async def test_a_photo_that_is_put_becomes_an_artifact_that_is_prepared_like_a_local_file(replica: Replica) -> None:
    address = await new_address(replica)
    answer = await replica.put(address, with_secret(), {"content-type": "text/plain"})
    assert answer.status_code == 201
    result = answer.json()
    assert (result["status"], result["content_type"]) == ("ready", "image/jpeg")
    assert (result["width"], result["height"]) == (200, 150)
    kept = stored_path(replica.studio.context.vault, result["artifact"]).read_bytes()
    assert b"at home" not in kept
    assert b"secret" not in kept
    assert Image.open(io.BytesIO(kept)).size == (200, 150)


async def test_a_form_and_a_plain_post_carry_a_file_too(replica: Replica) -> None:
    form = await replica.http.post(
        await new_address(replica), data={"note": "hello"}, files={"other": ("x.png", PHOTO_BYTES, "image/png")}
    )
    plain = await replica.http.post(
        await new_address(replica),
        content=PHOTO_BYTES,
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert [form.status_code, plain.status_code] == [201, 201]
    assert form.json()["artifact"] == plain.json()["artifact"]


async def test_a_film_and_a_mask_are_taken_as_what_they_are_said_to_be(replica: Replica, tmp_path: Path) -> None:
    content = film(tmp_path / "clip.mp4").read_bytes()
    taken = (await replica.put(await new_address(replica, kind="video"), content)).json()
    assert (taken["status"], taken["content_type"]) == ("ready", "video/mp4")
    assert taken["duration_seconds"] > 0
    mask = io.BytesIO()
    Image.new("L", (64, 48), 255).save(mask, "PNG")
    taken = (await replica.put(await new_address(replica, kind="mask"), mask.getvalue())).json()
    assert (taken["content_type"], taken["width"]) == ("image/png", 64)


@pytest.mark.parametrize(
    ("kind", "content", "code"),
    [
        (None, b"just some text, whatever its name says", "not_media"),
        ("video", PHOTO_BYTES, "unsupported"),
        (None, PHOTO_BYTES[:2000], "corrupt"),
        (None, b"II*\x00" + bytes(600), "unsupported"),
        (None, b"", "no_file"),
    ],
)
async def test_a_file_that_is_not_what_it_says_is_refused_and_the_ticket_may_be_used_again(
    replica: Replica, settings: Settings, kind: str | None, content: bytes, code: str
) -> None:
    first = await replica.ask(kind=kind)
    answer = await replica.put(first["upload_url"], content, {"content-type": "image/png"})
    status, found = refusal(answer)
    assert (status in (400, 415, 422), found) == (True, code)
    if content:
        asked = await replica.ask(ticket=first["ticket"])
        assert (asked["status"], asked["error"]["code"]) == ("refused", code)
    good = PHOTO_BYTES if kind is None else film(settings.home / "clip.mp4").read_bytes()
    assert (await replica.put(first["upload_url"], good)).status_code == 201
    assert (await replica.ask(ticket=first["ticket"]))["error"] is None


async def test_a_form_without_a_file_is_refused(replica: Replica) -> None:
    address = await new_address(replica)
    empty = await replica.http.post(address, data={"note": "x"}, files={"file": ("", b"", "image/png")})
    assert refusal(empty) == (400, "no_file")
    kind = {"content-type": "multipart/form-data; boundary=x"}
    torn = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc'
    assert refusal(await replica.http.post(address, content=torn, headers=kind)) == (400, "no_file")
    assert refusal(await replica.http.post(address, content=b"?", headers=kind)) == (400, "no_file")
    kind = {"content-type": "multipart/form-data"}
    assert refusal(await replica.http.post(address, content=torn, headers=kind)) == (400, "no_file")


async def test_what_is_too_large_is_refused_by_its_length_and_while_it_comes(
    replica: Replica, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = await new_address(replica)
    length = {"content-length": str(MAX_UPLOAD_BYTES + 1)}
    assert refusal(await replica.put(address, b"x", length)) == (413, "too_large")
    part = {"content-range": f"bytes 0-0/{MAX_UPLOAD_BYTES + 1}"}
    assert refusal(await replica.put(address, b"x", part)) == (413, "too_large")

    monkeypatch.setattr("rotoscope.store.uploads.MAX_UPLOAD_BYTES", 3_000_000)
    address, sent = await new_address(replica), 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield bytes(65_536)

    assert refusal(await replica.put(address, endless())) == (413, "too_large")
    assert sent < 3_200_000
    form = await replica.http.post(address, files={"file": ("a.png", bytes(3_100_000), "image/png")})
    assert refusal(form) == (413, "too_large")
    assert not list((settings.home / "vault" / "scratch").glob("*"))
    assert (await replica.put(address, PHOTO_BYTES)).status_code == 201


async def test_a_ticket_takes_one_file(replica: Replica) -> None:
    address = await new_address(replica)
    first = await replica.put(address, PHOTO_BYTES)
    for again in (
        await replica.put(address, PHOTO_BYTES),
        await replica.http.post(address, files={"file": ("x.jpg", PHOTO_BYTES, "image/jpeg")}),
        await replica.put(address, b"x", {"content-range": "bytes 0-0/77"}),
        await replica.http.delete(address),
    ):
        assert refusal(again) == (409, "upload_used")
    assert (await replica.http.get(address)).json()["artifact"] == first.json()["artifact"]


async def test_two_files_at_once_become_one_artifact(replica: Replica) -> None:
    address = await new_address(replica)
    answers: list[int] = []

    async def put(content: bytes) -> None:
        answers.append((await replica.put(address, content)).status_code)

    other = io.BytesIO()
    draw_photo().save(other, "PNG")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(put, PHOTO_BYTES)
        tasks.start_soon(put, other.getvalue())
    assert sorted(answers) == [201, 409]


async def test_a_ticket_expires_after_an_hour_and_an_unknown_one_is_none(replica: Replica, clock: Clock) -> None:
    first = await replica.ask()
    clock.now += 3601
    assert refusal(await replica.put(first["upload_url"], PHOTO_BYTES)) == (410, "upload_expired")
    assert (await replica.http.get(first["upload_url"])).status_code == 410
    expired = await replica.ask(ticket=first["ticket"])
    assert (expired["status"], expired["artifact"]) == ("expired", None)
    for name in ("a" * 43, "a" * 42 + "%C3%A4", "short"):
        assert refusal(await replica.put(f"{PUBLIC_URL}/uploads/{name}", PHOTO_BYTES)) == (404, "unknown_upload")


# In parts.


async def test_a_file_in_three_parts_with_one_repeated_and_one_out_of_order(
    open_one: OpenReplica, settings: Settings
) -> None:
    content = PHOTO_BYTES
    parts = list(part_headers(content, len(content) // 3 + 1))
    async with open_one() as one, open_one() as two:
        first = await one.ask()
        address = first["upload_url"]
        assert (await one.http.put(address, headers={"content-range": "bytes */*"})).status_code == 308
        begun = await one.put(address, *parts[0])
        assert (begun.status_code, begun.headers["range"]) == (308, f"bytes=0-{len(parts[0][0]) - 1}")
        early = await two.put(address, *parts[2])
        assert refusal(early) == (409, "out_of_order")
        assert early.headers["range"] == begun.headers["range"]
        again = await two.put(address, *parts[0])
        assert (again.status_code, again.headers["range"]) == (308, begun.headers["range"])
        assert (await one.ask(ticket=first["ticket"]))["status"] == "receiving"
        went_on = await two.put(address, *parts[1])
        assert went_on.headers["upload-offset"] == str(len(parts[0][0]) + len(parts[1][0]))
        state = await one.http.head(address)
        assert (state.headers["upload-offset"], state.headers["upload-complete"]) == (
            went_on.headers["upload-offset"],
            "?0",
        )
        done = await one.put(address, *parts[2])
        assert (done.status_code, done.json()["status"]) == (201, "ready")
        lost_answer = await two.put(address, *parts[2])
        assert (lost_answer.status_code, lost_answer.json()["artifact"]) == (200, done.json()["artifact"])
        asked = await two.http.put(address, headers={"content-range": f"bytes */{len(content)}"})
        assert (asked.status_code, asked.json()["artifact"]) == (200, done.json()["artifact"])
        whole = await one.put((await one.ask())["upload_url"], content)
        assert whole.json()["artifact"] == done.json()["artifact"], "the parts make the very file"
        assert len(kept_files(settings)) == 1, "no part is left"


async def test_parts_lie_in_an_object_store_too_and_nobody_can_name_them(
    open_one: OpenReplica, tmp_path: Path, clock: Clock
) -> None:
    vault = MemoryVault(tmp_path / "scratch", clock)
    async with open_one(vault=vault) as one, open_one(vault=vault) as two:
        first = await one.ask()
        (part, headers), (rest, ending) = part_headers(PHOTO_BYTES, len(PHOTO_BYTES) // 2 + 1)
        await one.put(first["upload_url"], part, headers)
        (name,) = vault.objects
        assert vault.objects[name].content.startswith(part)
        assert vault.objects[name].content != part
        for principal in ("anna", "bert"):
            async with one.studio.open_artifact(name, principal) as found:
                assert found is None
        done = await two.put(first["upload_url"], rest, ending)
        assert list(vault.objects) == [done.json()["artifact"].removeprefix("artifact://")]
        assert not list((tmp_path / "scratch").glob("*"))


async def test_replicas_with_disks_of_their_own_share_parts_by_the_object_store(
    open_one: OpenReplica, tmp_path: Path, object_server: ObjectServer
) -> None:
    """Also while the store is away for a part: the client is asked to send it again."""
    bucket = object_server.make_bucket()
    vaults = [open_object_vault(object_server, tmp_path / name, bucket) for name in ("one", "two")]
    parts = list(part_headers(PHOTO_BYTES, len(PHOTO_BYTES) // 3 + 1))
    async with open_one(vault=vaults[0]) as one, open_one(vault=vaults[1]) as two:
        address = await new_address(one)
        assert (await one.put(address, *parts[0])).status_code == 308
        with object_server.outage():
            assert refusal(await two.put(address, *parts[1])) == (503, "storage")
        assert (await two.put(address, *parts[1])).status_code == 308
        done = await one.put(address, *parts[2])
        assert done.status_code == 201
        name = done.json()["artifact"].removeprefix("artifact://")
        assert name in {Path(key).parent.name for key in object_server.keys(bucket)}


async def test_a_part_that_overlaps_adds_what_is_new(replica: Replica) -> None:
    address, total = await new_address(replica), len(PHOTO_BYTES)
    await replica.put(address, PHOTO_BYTES[:1000], {"content-range": f"bytes 0-999/{total}"})
    done = await replica.put(address, PHOTO_BYTES[500:], {"content-range": f"bytes 500-{total - 1}/{total}"})
    assert done.status_code == 201


@pytest.mark.parametrize(
    "content_range", ["bytes 5-4/10", "bytes 0-10/10", "bytes 0-4", "items 0-4/10", "bytes -1-4/10", "bytes 0-4/*"]
)
async def test_a_range_that_is_none_is_refused(replica: Replica, content_range: str) -> None:
    answer = await replica.put(await new_address(replica), b"12345", {"content-range": content_range})
    assert refusal(answer) == (400, "bad_range")


async def test_a_part_that_is_longer_or_of_another_file_is_refused(replica: Replica) -> None:
    address = await new_address(replica)
    assert refusal(await replica.put(address, b"123456", {"content-range": "bytes 0-4/10"})) == (400, "bad_range")
    assert refusal(await replica.http.post(address, content=b"1", headers={"content-range": "bytes 0-0/2"})) == (
        400,
        "bad_range",
    )
    await replica.put(address, b"12345", {"content-range": "bytes 0-4/10"})
    other = await replica.put(address, b"12345", {"content-range": "bytes 0-4/11"})
    assert refusal(other) == (409, "wrong_total")
    assert (await replica.http.delete(address)).status_code == 204
    assert (await replica.put(address, b"12345", {"content-range": "bytes 0-4/11"})).status_code == 308


async def test_a_whole_file_takes_the_place_of_parts(replica: Replica, settings: Settings) -> None:
    address = await new_address(replica)
    await replica.put(address, b"12345", {"content-range": "bytes 0-4/10"})
    assert (await replica.put(address, PHOTO_BYTES)).status_code == 201
    assert len(kept_files(settings)) == 1


async def test_parts_that_make_no_medium_are_refused_and_dropped(replica: Replica, settings: Settings) -> None:
    address = await new_address(replica)
    await replica.put(address, b"12345", {"content-range": "bytes 0-4/10"})
    answer = await replica.put(address, b"67890", {"content-range": "bytes 5-9/10"})
    assert refusal(answer) == (415, "not_media")
    assert not kept_files(settings)
    assert (await replica.http.head(address)).headers["upload-offset"] == "0"


async def test_each_part_gives_a_large_file_another_hour_but_not_for_ever(replica: Replica, clock: Clock) -> None:
    address = await new_address(replica)
    for start in range(7):
        clock.now += 3500
        headers = {"content-range": f"bytes {start}-{start}/100"}
        answer = await replica.put(address, b"x", headers)
        if start < 6:
            assert answer.status_code == 308
    assert refusal(answer) == (410, "upload_expired")


async def test_a_file_comes_in_a_bounded_number_of_parts(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rotoscope.store.uploads._MAX_PARTS", 2)
    address = await new_address(replica)
    for start in range(2):
        assert (await replica.put(address, b"x", {"content-range": f"bytes {start}-{start}/9"})).status_code == 308
    assert refusal(await replica.put(address, b"x", {"content-range": "bytes 2-2/9"})) == (422, "invalid_argument")


# Crashes and lost connections.


class _Crash(BaseException):
    """The process ends here."""


async def test_what_came_before_a_crash_stands_and_another_replica_goes_on(
    open_one: OpenReplica, settings: Settings
) -> None:
    parts = list(part_headers(PHOTO_BYTES, len(PHOTO_BYTES) // 3 + 1))
    async with open_one() as one:
        address = await new_address(one)
        await one.put(address, *parts[0])
    async with open_one() as two:
        asked = await two.http.put(address, headers={"content-range": f"bytes */{len(PHOTO_BYTES)}"})
        assert asked.headers["range"] == f"bytes=0-{len(parts[0][0]) - 1}"
        for part in parts[1:]:
            answer = await two.put(address, *part)
        assert answer.status_code == 201
    assert len(kept_files(settings)) == 1


async def test_a_file_whose_check_ended_with_its_process_is_checked_when_somebody_asks(
    open_one: OpenReplica, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_one() as one, open_one() as two:
        first = await one.ask()
        address = first["upload_url"]
        ((part, headers), (rest, ending)) = part_headers(PHOTO_BYTES, len(PHOTO_BYTES) // 2 + 1)
        await one.put(address, part, headers)

        async def crash(self: Uploads, upload: Any, open_file: Any) -> Any:
            await self.tickets.claim_check(upload, "a process that ends", 60.0)
            raise InvalidInput("The process has ended.", hint="Ask another one.", code="upload_busy")

        with monkeypatch.context() as patched:
            patched.setattr(Uploads, "_check", crash)
            await one.put(address, rest, ending)
        question = {"content-range": f"bytes */{len(PHOTO_BYTES)}"}
        busy = await two.http.put(address, headers=question)
        assert (busy.status_code, busy.json()["status"], busy.headers["retry-after"]) == (202, "checking", "2")
        assert refusal(await two.put(address, PHOTO_BYTES)) == (409, "upload_busy")
        clock.now += 61
        assert (await two.http.put(address, headers=question)).status_code == 201
        assert (await one.ask(ticket=first["ticket"]))["status"] == "ready"


async def test_a_check_that_is_broken_off_may_be_made_again(
    open_one: OpenReplica, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_one() as one:
        address = await new_address(one)

        async def end(self: Uploads, upload: Any, open_file: Any) -> Any:
            raise _Crash

        with monkeypatch.context() as patched:
            patched.setattr(Uploads, "_admit", end)
            with pytest.raises(BaseExceptionGroup) as ended:
                await one.put(address, PHOTO_BYTES)
            assert ended.group_contains(_Crash)
        assert (await one.put(address, PHOTO_BYTES)).status_code == 201


async def send_raw(
    replica: Replica, address: str, messages: list[dict[str, Any]], headers: dict[str, str], *, then_hang: bool = False
) -> list[dict[str, Any]]:
    """Send ASGI messages as a connection would; after them nothing comes, or the client is gone."""
    sent: list[dict[str, Any]] = []
    left = list(messages)

    async def receive() -> dict[str, Any]:
        if left:
            return left.pop(0)
        if then_hang:
            await anyio.sleep_forever()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    path = address.removeprefix(PUBLIC_URL)
    scope: dict[str, Any] = {"type": "http", "method": "PUT", "path": path, "raw_path": path.encode()}
    scope |= {"query_string": b"", "scheme": "https", "server": ("rotoscope.example", 443), "http_version": "1.1"}
    scope["headers"] = [(b"host", b"rotoscope.example"), *((n.encode(), v.encode()) for n, v in headers.items())]
    with anyio.fail_after(120):
        await replica.app(scope, receive, send)
    return sent


async def test_what_came_before_a_connection_broke_stands(replica: Replica) -> None:
    address, total = await new_address(replica), len(PHOTO_BYTES)
    begun = [{"type": "http.request", "body": PHOTO_BYTES[:5000], "more_body": True}]
    await send_raw(replica, address, begun, {"content-length": str(total)})
    asked = await replica.http.put(address, headers={"content-range": f"bytes */{total}"})
    assert (asked.status_code, asked.headers["range"]) == (308, "bytes=0-4999")
    headers = {"content-range": f"bytes 5000-{total - 1}/{total}"}
    assert (await replica.put(address, PHOTO_BYTES[5000:], headers)).status_code == 201


async def test_a_body_that_stops_coming_is_cut_off_and_stands(open_one: OpenReplica) -> None:
    async with open_one(limits=BodyLimits(idle_seconds=0.01)) as one:
        address, total = await new_address(one), len(PHOTO_BYTES)
        begun = [{"type": "http.request", "body": PHOTO_BYTES[:5000], "more_body": True}]
        sent = await send_raw(one, address, begun, {"content-length": str(total)}, then_hang=True)
        assert sent[0]["status"] == 408
        assert json.loads(sent[1]["body"])["error"]["code"] == "too_slow"
        assert (b"range", b"bytes=0-4999") in sent[0]["headers"]


async def test_a_body_that_trickles_is_cut_off(open_one: OpenReplica) -> None:
    limits = BodyLimits(grace_seconds=0.0, least_rate=1e12)
    async with open_one(limits=limits) as one:
        drops = [{"type": "http.request", "body": b"x", "more_body": True}] * 3
        sent = await send_raw(one, await new_address(one), drops, {}, then_hang=True)
        assert sent[0]["status"] == 408


async def test_so_many_bodies_come_at_once_and_no_more(open_one: OpenReplica) -> None:
    async with open_one(limits=BodyLimits(at_once_per_principal=1)) as one:
        address, other, foreign = [await new_address(one, name) for name in ("anna", "anna", "bert")]
        arrived, go_on = anyio.Event(), anyio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield PHOTO_BYTES[:100]
            arrived.set()
            await go_on.wait()
            yield PHOTO_BYTES[100:]

        # The transport in memory reads the whole body before it is asked for: so the test reads it as a connection.
        slow = slowly()

        async def receive() -> dict[str, Any]:
            try:
                return {"type": "http.request", "body": await anext(slow), "more_body": True}
            except StopAsyncIteration:
                return {"type": "http.request", "body": b"", "more_body": False}

        statuses: list[int] = []

        async def send(message: Any) -> None:
            statuses.append(message.get("status", 0))

        path = address.removeprefix(PUBLIC_URL)
        scope: dict[str, Any] = {"type": "http", "method": "PUT", "path": path, "raw_path": path.encode()}
        scope |= {"query_string": b"", "scheme": "https", "server": ("rotoscope.example", 443), "http_version": "1.1"}
        scope["headers"] = [(b"host", b"rotoscope.example")]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.app, scope, receive, send)
            await arrived.wait()
            busy = await one.put(other, PHOTO_BYTES)
            assert refusal(busy) == (503, "busy")
            assert busy.headers["retry-after"]
            assert (await one.put(foreign, PHOTO_BYTES)).status_code == 201
            go_on.set()
        assert statuses[0] == 201
        assert (await one.put(other, PHOTO_BYTES)).status_code == 201


# Whose it is.


async def test_an_upload_of_another_is_answered_like_none(replica: Replica) -> None:
    first = await replica.ask("anna")
    artifact = (await replica.put(first["upload_url"], PHOTO_BYTES)).json()["artifact"]
    sha256 = artifact.removeprefix("artifact://")

    async def answers(principal: str, ticket: str, file: str) -> list[str]:
        """What a principal gets for a ticket and for a file; the names are left out."""
        found = []
        with pytest.raises(InvalidInput) as refused:
            await replica.ask(principal, ticket=ticket)
        found.append(f"{refused.value.code} {refused.value.message} {refused.value.hint}")
        async with replica.studio.open_artifact(file, principal) as opened:
            found.append(repr(opened))
        intake = replica.studio.uploads.open_intake()
        for text in (f"artifact://{file}", str(stored_path(replica.studio.context.vault, sha256))):
            with pytest.raises(Exception) as refused_too:  # noqa: PT011 - which one is compared
                await intake.admit("image", text.replace(sha256, file), "image", principal, pass_urls=False)
            found.append(f"{type(refused_too.value).__name__} {str(refused_too.value).replace(file, 'FILE')}")
        return found

    foreign = await answers("bert", first["ticket"], sha256)
    assert foreign == await answers("bert", first["ticket"][::-1], sha256[::-1])
    async with replica.studio.open_artifact(sha256, "anna") as opened:
        assert opened is not None


async def test_two_principals_may_upload_the_same_file_and_each_may_read_it(replica: Replica) -> None:
    links = set()
    for name in ("anna", "bert"):
        links.add((await replica.put(await new_address(replica, name), PHOTO_BYTES)).json()["artifact"])
    (link,) = links
    for name, may_read in (("anna", True), ("bert", True), ("carl", False)):
        async with replica.studio.open_artifact(link.removeprefix("artifact://"), name) as found:
            assert (found is not None) is may_read


async def test_a_principal_has_a_bounded_number_of_open_tickets(replica: Replica, clock: Clock) -> None:
    addresses = [await new_address(replica) for _ in range(16)]
    with pytest.raises(InvalidInput) as refused:
        await replica.ask()
    assert refused.value.code == "too_many_uploads"
    await new_address(replica, "bert")
    await replica.put(addresses[0], PHOTO_BYTES)
    await new_address(replica)
    clock.now += 3601
    await new_address(replica)


async def test_a_principal_uploads_a_bounded_number_of_bytes_a_day(
    replica: Replica, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rotoscope.store.uploads._MAX_DAY_BYTES", len(PHOTO_BYTES))
    await replica.put(await new_address(replica), PHOTO_BYTES)
    with pytest.raises(Exception, match="uploaded in a day"):
        await replica.ask()
    clock.now += DAY + 1
    await new_address(replica)


# How long it is kept.


def make_old(vault: FolderVault, now: float) -> None:
    """Set the age of every file by the test's clock: a folder takes it from the machine's."""
    for path in vault.folder.glob("??/*"):
        os.utime(path, (now, now))


async def test_an_upload_that_no_job_takes_is_kept_a_week_and_then_removed(replica: Replica, clock: Clock) -> None:
    vault = replica.studio.context.vault
    assert isinstance(vault, FolderVault)
    first = await replica.ask()
    sha256 = (await replica.put(first["upload_url"], PHOTO_BYTES)).json()["artifact"].removeprefix("artifact://")
    make_old(vault, clock.now)
    await replica.studio.retention.sweep_when_sure()  # the first look at the clock
    for _ in range(12):
        clock.now += DAY / 2
        await replica.studio.retention.sweep_when_sure()
    assert vault.address(sha256) is not None, "younger than a week"
    for _ in range(4):
        clock.now += DAY / 2
        await replica.studio.retention.sweep_when_sure()
    assert vault.address(sha256) is None
    with pytest.raises(InvalidInput):
        await replica.ask(ticket=first["ticket"])


async def test_an_upload_outlives_a_short_retention(
    environment: dict[str, str], sandbox: Sandbox, clock: Clock
) -> None:
    settings = read_settings({**environment, "ROTOSCOPE_RETENTION_DAYS": "0.04"})
    async with open_replica(settings, sandbox, clock) as replica:
        vault = replica.studio.context.vault
        assert isinstance(vault, FolderVault)
        link = (await replica.put(await new_address(replica), PHOTO_BYTES)).json()["artifact"]
        make_old(vault, clock.now)
        for _ in range(4):
            clock.now += DAY / 2
            await replica.studio.retention.sweep_when_sure()
        assert vault.address(link.removeprefix("artifact://")) is not None


async def test_parts_of_a_file_that_never_came_whole_are_removed(
    replica: Replica, settings: Settings, clock: Clock
) -> None:
    await replica.put(await new_address(replica), b"12345", {"content-range": "bytes 0-4/10"})
    await replica.studio.retention.sweep_when_sure()
    assert len(kept_files(settings)) == 1
    clock.now += 3 * 3600
    await replica.studio.retention.sweep_when_sure()
    assert not kept_files(settings)


# Pages of other origins.


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://rotoscope.example.evil.example"])
async def test_a_page_of_another_origin_may_send_nothing(replica: Replica, origin: str) -> None:
    address = await new_address(replica)
    headers = {"origin": origin, "access-control-request-method": "PUT"}
    asked = await replica.http.options(address, headers=headers)
    assert not [name for name in asked.headers if name.startswith("access-control")]
    assert refusal(await replica.put(address, PHOTO_BYTES, {"origin": origin})) == (403, "wrong_origin")


async def test_the_page_itself_may_send(replica: Replica) -> None:
    address = await new_address(replica)
    asked = await replica.http.options(address, headers={"origin": PUBLIC_URL})
    assert asked.headers["access-control-allow-origin"] == PUBLIC_URL
    assert (await replica.put(address, PHOTO_BYTES, {"origin": PUBLIC_URL})).status_code == 201


# The address.


async def test_only_the_hash_of_a_ticket_is_kept(replica: Replica, settings: Settings) -> None:
    first = await replica.ask(name="my cat")
    await replica.put(first["upload_url"], PHOTO_BYTES)
    stored = b"".join(path.read_bytes() for path in settings.home.glob("ledger*"))
    assert b"my cat" in stored
    assert first["ticket"].encode() not in stored


async def test_who_waits_learns_the_link_when_the_file_comes_to_another_replica(open_one: OpenReplica) -> None:
    async with open_one() as one, open_one() as two:
        first = await one.ask()
        found: list[dict[str, Any]] = []

        async def wait() -> None:
            found.append(await two.ask(ticket=first["ticket"], wait_seconds=45, seconds=45.0))

        with anyio.fail_after(120):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                done = await one.put(first["upload_url"], PHOTO_BYTES)
        assert found[0]["artifact"] == done.json()["artifact"]
        by_address = await two.ask(ticket=first["upload_url"])
        assert by_address["status"] == "ready"
