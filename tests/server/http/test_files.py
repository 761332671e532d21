"""The file route: what an address gives, whole and in parts, and that every wrong address gets the same answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import httpx2
import pytest
from http_client import BASE, http_client
from starlette.applications import Starlette

from rotoscope.media.file_addresses import FileAddresses
from rotoscope.media.vault import FolderVault, enter_in_thread
from rotoscope.server.http.addresses import ListenAddress, build_access_rules
from rotoscope.server.http.files import ByteRange, FileServing, file_routes, read_range
from rotoscope.server.http.guard import Guard
from rotoscope.server.http.limits import HttpLimits
from rotoscope.signing import DAY, Signer

pytestmark = pytest.mark.anyio
NOW = 1_800_000_000.0
PNG = b"\x89PNG\r\n\x1a\n" + b"".join(n.to_bytes(2, "big") for n in range(512))
SIGNER = Signer(("s" * 32,))


class Files:
    """A vault with its route, and a clock that the test moves."""

    def __init__(self, folder: Path) -> None:
        self.vault, self.now = FolderVault(folder / "vault"), NOW
        self.addresses = FileAddresses(BASE, SIGNER, lambda: self.now)
        serving = FileServing(self.addresses, self.open, 4)
        rules = build_access_rules(ListenAddress("127.0.0.1", 8000), None, (), ("/files/",))
        self.app = Guard(Starlette(routes=file_routes(serving)), rules, HttpLimits())

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[Path | None]:
        async with enter_in_thread(self.vault.open(name)) as path:
            yield path

    def put(self, content: bytes = PNG, kind: str = "image/png") -> str:
        """Keep a file; its address."""
        kept = self.vault.put_bytes(content, kind)
        place = self.vault.address(kept.sha256)
        assert place is not None
        return self.addresses.sign(place.name).url


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def ask(files: Files, url: str, method: str = "GET", **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http_client(files.app) as http:
        return await http.request(method, url, headers=named)


async def test_an_address_gives_the_whole_file_with_what_guards_it(files: Files) -> None:
    answer = await ask(files, files.put())
    digest = sha256(PNG).hexdigest()
    assert (answer.status_code, answer.content) == (200, PNG)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["etag"] == f'"{digest}"'
    assert answer.headers["content-disposition"] == f'inline; filename="{digest[:12]}.png"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["cache-control"].startswith("private")
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("video/mp4", "inline"),
        ("application/json", "attachment"),
        ("audio/wav", "attachment"),
        ("text/html", "attachment"),
    ],
)
async def test_pictures_and_films_are_shown_and_all_else_is_saved(files: Files, kind: str, shown: str) -> None:
    answer = await ask(files, files.put(b"<script>alert(1)</script>", kind))
    assert answer.headers["content-disposition"].startswith(f"{shown};")
    assert answer.headers["content-type"] != "text/html"
    assert "access-control-allow-origin" not in answer.headers


async def test_only_the_head_is_given_where_only_it_is_asked_for(files: Files) -> None:
    answer = await ask(files, files.put(), "HEAD", range="bytes=0-1")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", str(len(PNG)))


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", PNG[:1]), ("bytes=0-99", PNG[:100]), ("bytes=1000-", PNG[1000:]), ("bytes=-10", PNG[-10:]),
        ("bytes=-99999", PNG), ("bytes=5-99999", PNG[5:]),
    ],
)  # fmt: skip
async def test_a_part_is_given_alone(files: Files, asked: str, part: bytes) -> None:
    answer = await ask(files, files.put(), range=asked)
    first = PNG.index(part)
    assert (answer.status_code, answer.content) == (206, part)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(part) - 1}/{len(PNG)}"
    assert answer.headers["content-length"] == str(len(part))


@pytest.mark.parametrize("asked", ["bytes=99999-", "bytes=1032-", "bytes=-0"])
async def test_a_part_that_is_not_there_is_refused_with_the_size(files: Files, asked: str) -> None:
    answer = await ask(files, files.put(), range=asked)
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(PNG)}")


@pytest.mark.parametrize(
    "asked", ["bytes=5-1", "bytes=", "bytes=-", "bytes=0-1,3-4", "lines=1-2", "bytes=a-b", "x" * 99]
)
async def test_what_asks_for_no_single_part_gets_the_whole(files: Files, asked: str) -> None:
    assert (await ask(files, files.put(), range=asked)).content == PNG


async def test_who_has_the_file_is_not_sent_it_again(files: Files) -> None:
    url = files.put()
    tag = f'"{sha256(PNG).hexdigest()}"'
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = await ask(files, url, if_none_match=known)
        assert (answer.status_code, answer.content) == (304, b"")
    assert (await ask(files, url, if_none_match='"other"')).status_code == 200


async def test_a_part_of_another_state_of_the_file_is_not_given(files: Files) -> None:
    url = files.put()
    same = await ask(files, url, range="bytes=0-9", if_range=f'"{sha256(PNG).hexdigest()}"')
    other = await ask(files, url, range="bytes=0-9", if_range='"other"')
    assert (same.status_code, other.status_code) == (206, 200)


async def test_every_wrong_address_gets_the_same_answer(files: Files) -> None:
    url = files.put()
    plain, _, query = url.partition("?")
    name = plain.rpartition("/")[2]
    unknown = name.replace(name[:4], "0000")
    signed = files.addresses.sign(unknown).url
    wrong = [
        plain, f"{plain}?inline=", url[:-1], f"{url}x", url.replace("inline=", "attachment="), f"{url}&inline=1",
        f"{plain}?{query}&x=1", url.replace(".png?", ".jpg?"), url.replace(".png?", "?"), signed,
        f"{BASE}/files/..%2Fid?{query}", f"{BASE}/files/.id?{query}", f"{BASE}/files/{name.upper()}?{query}",
        f"{BASE}/files/%2e%2e%2f{name}?{query}",
    ]  # fmt: skip
    answers = [await ask(files, one) for one in wrong]
    assert {answer.status_code for answer in answers} == {404}
    first = answers[0]
    for url_, answer in zip(wrong, answers, strict=True):
        if "/files/" in httpx2.URL(url_).path and httpx2.URL(url_).path.count("/") == 2:
            assert (answer.content, dict(answer.headers)) == (first.content, dict(first.headers)), url_


async def test_an_address_ends_after_a_day(files: Files) -> None:
    url = files.put()
    files.now = NOW + DAY - 900.0
    assert (await ask(files, url)).status_code == 200
    files.now = NOW + DAY
    assert (await ask(files, url)).status_code == 404


async def test_a_page_of_any_origin_may_read_a_picture(files: Files) -> None:
    assert (await ask(files, files.put(), origin="https://chat.example")).status_code == 200
    assert (await ask(files, files.put(), host="evil.example")).status_code == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_is_written_at_an_address(files: Files, method: str) -> None:
    assert (await ask(files, files.put(), method)).status_code == 405


async def test_a_file_is_sent_in_small_parts(files: Files) -> None:
    content = PNG + bytes(3_000_000)
    url = files.put(content)
    async with http_client(files.app) as http, http.stream("GET", url) as answer:
        sizes = [len(chunk) async for chunk in answer.aiter_raw()]
    assert (sum(sizes), max(sizes)) == (len(content), 256 * 1024)


async def test_a_url_is_recognised_as_the_file_that_it_names(files: Files) -> None:
    url = files.put()
    digest = sha256(PNG).hexdigest()
    assert files.addresses.hash_of(url) == digest
    assert files.addresses.hash_of(url.partition("?")[0]) == digest
    for other in (
        url.replace("127.0.0.1", "127.0.0.2"),
        f"{BASE}/files/x.png",
        f"{url}#a",
        url.replace("files", "file"),
    ):
        assert files.addresses.hash_of(other) is None


def test_a_range_of_an_empty_file_is_refused() -> None:
    assert read_range("bytes=0-", 1) == ByteRange(0, 1)
    for asked in ("bytes=0-", "bytes=-1"):
        with pytest.raises(ValueError, match="bytes"):
            read_range(asked, 0)
