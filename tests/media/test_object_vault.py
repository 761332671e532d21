"""What a vault in an object store does besides what every vault does: parts, addresses, copies, outages, races."""

import hashlib
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from object_store import KEYS, ObjectServer, object_server, open_object_vault, running_server

from rotoscope.errors import StorageFailed
from rotoscope.media.addressed_vault import AddressedVault
from rotoscope.media.file_addresses import FileAddresses
from rotoscope.media.known_files import KnownFiles
from rotoscope.media.local_copies import FileCache, Spool
from rotoscope.media.object_vault import ADDRESS_SECONDS, ObjectVault
from rotoscope.media.store_client import PART_BYTES, StorePatience, connect_store
from rotoscope.media.store_place import read_store_place
from rotoscope.media.stored_files import StoredFile
from rotoscope.media.vault import scratch_path
from rotoscope.signing import Signer

__all__ = ["object_server", "running_server"]

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
Start = Callable[[str, list[tuple[str, str]]], object]


@pytest.fixture
def bucket(object_server: ObjectServer) -> str:
    return object_server.make_bucket()


@pytest.fixture
def vault(object_server: ObjectServer, bucket: str, tmp_path: Path) -> ObjectVault:
    return open_object_vault(object_server, tmp_path / "here", bucket, sleep=lambda _: None)


def elsewhere(server: ObjectServer, bucket: str, folder: Path, **more: Any) -> ObjectVault:
    """The same store, as another host sees it."""
    return open_object_vault(server, folder / "elsewhere", bucket, sleep=lambda _: None, **more)


def read(vault: ObjectVault, sha256: str) -> bytes | None:
    with vault.open(sha256) as path:
        return None if path is None else path.read_bytes()


def put_large(vault: ObjectVault, size: int) -> StoredFile:
    """Put a film of some bytes, no two parts of which are alike."""
    with scratch_path(vault) as scratch:
        with scratch.open("wb") as opened:
            for start in range(0, size, PART_BYTES):
                opened.write(hashlib.sha256(str(start).encode()).digest() * (min(PART_BYTES, size - start) // 32))
        with scratch.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        return vault.put(scratch, sha256, "video/mp4")


def answer(status: str, body: bytes = b"", length: int | None = None) -> Callable[[Any, Start], Iterable[bytes]]:
    """An answer in the store's place; with another length it is cut off."""

    def app(environ: Any, start_response: Start) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(status, [("Content-Length", str(len(body) if length is None else length))])
        return [body]

    return app


def test_a_file_is_one_object_with_its_type_its_name_and_its_life(
    vault: ObjectVault, object_server: ObjectServer, bucket: str
) -> None:
    stored = vault.put_bytes(PNG, "image/png")
    (key,) = object_server.keys(bucket)
    assert key == f"results/{stored.sha256[:2]}/{stored.sha256}/{stored.sha256[:16]}.png"
    address = vault.address(stored.sha256)
    assert address is not None
    assert address.url is not None
    with urllib.request.urlopen(address.url, timeout=10) as opened:
        assert opened.read() == PNG
        assert opened.headers["content-type"] == "image/png"
        assert opened.headers["content-disposition"] == f'inline; filename="{stored.sha256[:16]}.png"'
        assert opened.headers["cache-control"] == "private, max-age=31536000, immutable"


def test_a_signed_address_takes_ranges_and_opens_nothing_when_it_is_changed(vault: ObjectVault) -> None:
    address = vault.address(vault.put_bytes(PNG, "image/png").sha256)
    assert address is not None
    assert address.url is not None
    with urllib.request.urlopen(
        urllib.request.Request(address.url, headers={"Range": "bytes=1-3"}), timeout=10
    ) as opened:
        assert (opened.status, opened.read()) == (206, b"PNG")
    assert f"X-Amz-Expires={int(ADDRESS_SECONDS)}" in address.url
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in address.url


def test_a_document_is_saved_and_not_shown(vault: ObjectVault) -> None:
    address = vault.address(vault.put_bytes(b"{}", "application/json").sha256)
    assert address is not None
    assert address.url is not None
    with urllib.request.urlopen(address.url, timeout=10) as opened:
        assert opened.headers["content-disposition"].startswith("attachment;")


def test_a_large_file_is_sent_and_read_in_parts(object_server: ObjectServer, bucket: str, tmp_path: Path) -> None:
    here = open_object_vault(object_server, tmp_path / "here", bucket)
    stored = put_large(here, 3 * PART_BYTES + 32_000)
    parts = [one for one in object_server.asked if "partNumber=" in one]
    assert len(parts) == 4
    object_server.asked.clear()
    there = elsewhere(object_server, bucket, tmp_path)
    with there.open(stored.sha256) as path:
        assert path is not None
        assert path.stat().st_size == stored.size
        with path.open("rb") as opened:
            assert hashlib.file_digest(opened, "sha256").hexdigest() == stored.sha256
    assert sum(one.startswith("GET") and ".mp4" in one for one in object_server.asked) == 4


def test_a_large_file_whose_sending_breaks_off_is_not_there(
    vault: ObjectVault, object_server: ObjectServer, bucket: str, tmp_path: Path
) -> None:
    object_server.fault = lambda environ: answer("503 Slow Down") if "partNumber=2" in environ["QUERY_STRING"] else None
    with pytest.raises(StorageFailed):
        put_large(vault, 2 * PART_BYTES)
    assert object_server.keys(bucket) == {}
    assert not elsewhere(object_server, bucket, tmp_path).has_files()
    object_server.fault = None
    (held,) = vault.spool.hashes()
    stored = vault.put_held(held)
    assert stored is not None
    assert (stored.size, stored.content_type) == (2 * PART_BYTES, "video/mp4")


def test_to_name_a_file_again_asks_nothing(vault: ObjectVault, object_server: ObjectServer) -> None:
    stored = vault.put_bytes(PNG, "image/png")
    object_server.asked.clear()
    first = vault.address(stored.sha256)
    assert first is not None
    assert [vault.address(stored.sha256) for _ in range(5)] == [first] * 5
    assert object_server.asked == []


def test_a_file_that_somebody_else_removed_is_named_for_a_while_and_not_for_ever(
    object_server: ObjectServer, bucket: str, tmp_path: Path
) -> None:
    now = [0.0]
    known = KnownFiles(lambda: now[0], seconds=600)
    here = open_object_vault(object_server, tmp_path / "here", bucket, known=known)
    stored = here.put_bytes(PNG, "image/png")
    object_server.set_written_at(bucket, stored.sha256, 1000)
    assert elsewhere(object_server, bucket, tmp_path).delete(stored.sha256, before=2000)
    assert here.address(stored.sha256) is not None
    now[0] = 601
    assert here.address(stored.sha256) is None


def test_to_open_a_file_that_is_gone_finds_out_at_once(
    object_server: ObjectServer, bucket: str, tmp_path: Path
) -> None:
    here, there = (
        open_object_vault(object_server, tmp_path / name, bucket, sleep=lambda _: None) for name in ("here", "there")
    )
    stored = here.put_bytes(PNG, "image/png")
    assert there.address(stored.sha256) is not None
    object_server.set_written_at(bucket, stored.sha256, 1000)
    assert here.delete(stored.sha256, before=2000)
    assert read(there, stored.sha256) is None
    assert there.address(stored.sha256) is None


def test_what_was_put_or_read_here_is_not_read_from_the_store_again(
    vault: ObjectVault, object_server: ObjectServer, bucket: str, tmp_path: Path
) -> None:
    stored = vault.put_bytes(PNG, "image/png")
    there = elsewhere(object_server, bucket, tmp_path)
    assert read(there, stored.sha256) == PNG
    object_server.asked.clear()
    assert (read(vault, stored.sha256), read(there, stored.sha256)) == (PNG, PNG)
    assert object_server.asked == []


def test_an_opened_file_stays_when_the_cache_drops_it(vault: ObjectVault) -> None:
    stored = vault.put_bytes(PNG, "image/png")
    with vault.open(stored.sha256) as path:
        assert path is not None
        vault.cache.remove(stored.sha256)
        assert path.read_bytes() == PNG
    assert not path.exists()


def test_the_cache_drops_what_was_used_longest_ago(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache", max_bytes=250, free_bytes=lambda _: 10**9)
    names = [f"{number:064x}" for number in range(3)]
    for at, name in enumerate(names[:2]):
        (tmp_path / "new").write_bytes(bytes(100))
        cache.add(tmp_path / "new", f"{name}.png")
        os.utime(tmp_path / "cache" / f"{name}.png", (at, at))
    assert cache.find(names[0]) is not None
    (tmp_path / "new").write_bytes(bytes(100))
    cache.add(tmp_path / "new", f"{names[2]}.png")
    assert [cache.find(name) is not None for name in names] == [True, False, True]


def test_a_cached_copy_of_the_wrong_size_is_read_again(vault: ObjectVault) -> None:
    stored = vault.put_bytes(PNG, "image/png")
    copy = vault.cache.find(stored.sha256)
    assert copy is not None
    copy.write_bytes(PNG[:5])
    assert read(vault, stored.sha256) == PNG


def test_bytes_that_are_not_those_that_were_put_are_refused(
    vault: ObjectVault, object_server: ObjectServer, bucket: str, tmp_path: Path
) -> None:
    stored = vault.put_bytes(PNG, "image/png")
    object_server.fault = lambda environ: (
        answer("200 OK", b"x" * len(PNG))
        if environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"].endswith(".png")
        else None
    )
    there = elsewhere(object_server, bucket, tmp_path)
    with pytest.raises(StorageFailed):
        read(there, stored.sha256)
    object_server.fault = None
    assert read(there, stored.sha256) == PNG


@pytest.mark.parametrize(
    "fault",
    [
        answer("503 Slow Down", b"<Error><Code>SlowDown</Code></Error>"),
        answer("500 Internal Server Error"),
        answer("200 OK", PNG[:4], length=len(PNG)),
    ],
    ids=["503", "500", "cut off"],
)
def test_a_store_that_does_not_answer_well_is_a_storage_failure_and_no_lost_file(
    vault: ObjectVault, object_server: ObjectServer, bucket: str, tmp_path: Path, fault: Any
) -> None:
    stored = vault.put_bytes(PNG, "image/png")
    there = elsewhere(object_server, bucket, tmp_path)
    object_server.fault = lambda _: fault
    with pytest.raises(StorageFailed) as refusal:
        read(there, stored.sha256)
    with pytest.raises(StorageFailed):
        there.put_bytes(b"other", "image/png")
    assert f"s3://{bucket}/results" in refusal.value.message
    object_server.fault = None
    assert read(there, stored.sha256) == PNG
    assert read(there, hashlib.sha256(b"other").hexdigest()) == b"other"


@pytest.mark.slow
def test_a_store_that_keeps_silent_is_given_up(
    object_server: ObjectServer, bucket: str, tmp_path: Path, vault: ObjectVault
) -> None:
    place = read_store_place(f"s3://{bucket}/results", {**KEYS, "AWS_ENDPOINT_URL": object_server.endpoint}.get)
    client = connect_store(place, StorePatience(connect=1.0, request=0.2, retries=0, retrying=0.2))
    silent, spoken = ObjectVault(client, client, tmp_path / "silent"), threading.Event()

    def keep_silent(environ: Any, start_response: Start) -> Iterable[bytes]:
        spoken.wait(20)
        return answer("503 Slow Down")(environ, start_response)

    object_server.fault = lambda _: keep_silent
    try:
        with pytest.raises(StorageFailed, match="cannot be reached"):
            silent.put_bytes(PNG, "image/png")
    finally:
        spoken.set()
    object_server.fault = None
    assert read(vault, hashlib.sha256(PNG).hexdigest()) is None


def test_what_the_store_does_not_take_is_put_when_it_is_back_also_by_another_process(
    vault: ObjectVault, object_server: ObjectServer, bucket: str, tmp_path: Path
) -> None:
    with object_server.outage():
        with pytest.raises(StorageFailed, match="cannot be reached"):
            vault.put_bytes(PNG, "image/png")
        assert vault.put_all_held() == 1
        assert read(vault, hashlib.sha256(PNG).hexdigest()) == PNG, "it can be read here meanwhile"
    # The process that held it is gone.
    (held,) = (tmp_path / "here" / "spool").iterdir()
    os.utime(held, (1000, 1000))
    assert open_object_vault(object_server, tmp_path / "here", bucket).put_all_held() == 0
    assert read(elsewhere(object_server, bucket, tmp_path), hashlib.sha256(PNG).hexdigest()) == PNG
    assert list((tmp_path / "here" / "spool").iterdir()) == []


def test_what_was_just_held_is_left_to_who_holds_it(vault: ObjectVault, object_server: ObjectServer) -> None:
    object_server.asked.clear()
    stored = vault.hold_bytes(PNG, "image/png")
    assert vault.put_all_held() == 1
    assert object_server.asked == []
    assert vault.put_held(stored.sha256) == stored


def test_nothing_more_is_held_where_the_disk_is_nearly_full(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(PNG)
    spool = Spool(tmp_path / "spool", free_bytes=lambda _: 1_000_000)
    with pytest.raises(StorageFailed, match="full"):
        spool.hold(tmp_path / "new", "0" * 64, "image/png")
    assert spool.hashes() == []


def test_files_that_were_seen_are_named_and_read_while_the_store_is_away(
    object_server: ObjectServer, bucket: str, tmp_path: Path
) -> None:
    now = [0.0]
    here = open_object_vault(object_server, tmp_path / "here", bucket, known=KnownFiles(lambda: now[0]))
    stored = here.put_bytes(PNG, "image/png")
    named = here.address(stored.sha256)
    now[0] = 1e6
    with object_server.outage():
        assert here.address(stored.sha256) == named
        assert read(here, stored.sha256) == PNG
        with pytest.raises(StorageFailed):
            here.address("0" * 64)


def test_the_id_is_known_while_the_store_is_away(
    vault: ObjectVault, object_server: ObjectServer, bucket: str, tmp_path: Path
) -> None:
    vault.write_id("the id")
    assert vault.read_id() == "the id"
    with object_server.outage():
        assert vault.read_id() == "the id"
        with pytest.raises(StorageFailed):
            elsewhere(object_server, bucket, tmp_path).read_id()
    vault.write_id("another")
    assert vault.read_id() == "another"
    with object_server.outage():
        assert vault.read_id() == "another"


def test_a_prefix_keeps_two_vaults_of_one_bucket_apart(
    object_server: ObjectServer, bucket: str, tmp_path: Path
) -> None:
    one, other = (open_object_vault(object_server, tmp_path / name, bucket, name) for name in ("a", "a/b.c_d-e"))
    stored = one.put_bytes(PNG, "image/png")
    other.write_id("other")
    assert other.address(stored.sha256) is None
    assert one.read_id() is None
    assert not other.has_files()
    assert one.hashes_older_than(1e12) == [stored.sha256]


def test_objects_of_others_below_the_prefix_are_left_alone(
    vault: ObjectVault, object_server: ObjectServer, bucket: str
) -> None:
    stored = vault.put_bytes(PNG, "image/png")
    others = ["ab/notes.txt", "ab/%2e%2e/x y+ü.png", f"{stored.sha256[:2]}/short/file.png", "a/b/c/d.png"]
    for key in others:
        vault.client.put_bytes(key, b"theirs")
    assert vault.hashes_older_than(1e12) == [stored.sha256]
    object_server.set_written_at(bucket, stored.sha256, 1000)
    assert vault.delete(stored.sha256, before=2000)
    assert len(object_server.keys(bucket)) == len(others)
    assert not vault.has_files()


def test_many_files_are_listed_page_by_page(vault: ObjectVault, object_server: ObjectServer) -> None:
    hashes = {f"ab{number:062x}" for number in range(1100)}
    for sha256 in hashes:
        vault.client.put_bytes(f"ab/{sha256}/{sha256[:16]}.png")
    object_server.asked.clear()
    assert set(vault.hashes_older_than(1e12, "ab")) == hashes
    assert len(object_server.asked) == 2


def race(server: ObjectServer, at: Callable[[dict[str, Any]], bool], act: Callable[[], object]) -> None:
    """Have something happen once, right before the store answers a request."""
    done: list[bool] = []

    def fault(environ: dict[str, Any]) -> None:
        if not done and at(environ):
            done.append(True)
            act()

    server.fault = fault


def is_file_deletion(environ: dict[str, Any]) -> bool:
    return (environ["REQUEST_METHOD"], environ["QUERY_STRING"]) == ("POST", "delete")


def is_second_listing() -> Callable[[dict[str, Any]], bool]:
    seen: list[str] = []

    def judge(environ: dict[str, Any]) -> bool:
        if environ["REQUEST_METHOD"] == "GET" and "list-type" in environ["QUERY_STRING"]:
            seen.append(environ["QUERY_STRING"])
        return len(seen) == 2

    return judge


@pytest.mark.parametrize("again", ["put", "renewed"])
@pytest.mark.parametrize("moment", ["before the second look", "before the removal"])
def test_a_file_that_is_put_or_renewed_while_it_is_removed_stays_or_is_known_to_be_gone(
    vault: ObjectVault, object_server: ObjectServer, bucket: str, tmp_path: Path, again: str, moment: str
) -> None:
    stored = vault.put_bytes(PNG, "image/png")
    object_server.set_written_at(bucket, stored.sha256, 1000)
    waits, turn, results = threading.Event(), threading.Event(), list[StoredFile | None]()
    other = elsewhere(object_server, bucket, tmp_path)

    def wait_for_turn(_: float) -> None:
        waits.set()
        turn.wait(20)

    object.__setattr__(other, "sleep", wait_for_turn)

    def bring() -> None:
        results.append(other.put_bytes(PNG, "image/png") if again == "put" else other.renew(stored.sha256))

    worker = threading.Thread(target=bring)

    def act() -> None:
        worker.start()
        if moment == "before the second look":
            assert waits.wait(20), "it has written, and sees the mark"

    race(object_server, is_second_listing() if moment == "before the second look" else is_file_deletion, act)
    removed = vault.delete(stored.sha256, before=2000)
    turn.set()
    worker.join(20)
    assert not worker.is_alive()
    (given,) = results
    object_server.fault = None
    kept = read(elsewhere(object_server, bucket, tmp_path / "later"), stored.sha256)
    assert (kept is not None) == (given is not None), "who was given the file finds it"
    if again == "put":
        assert given == stored
    if moment == "before the second look":
        assert not removed
    assert not [key for key in object_server.keys(bucket) if "removing" in key]


def test_a_mark_that_a_dead_process_left_does_not_keep_a_file_from_being_put(
    vault: ObjectVault, object_server: ObjectServer, bucket: str
) -> None:
    sha256 = hashlib.sha256(PNG).hexdigest()
    vault.client.put_bytes(f"{sha256[:2]}/{sha256}/removing-dead")
    stored = vault.put_bytes(PNG, "image/png")
    assert read(vault, stored.sha256) == PNG
    assert not [key for key in object_server.keys(bucket) if "removing" in key]


def test_marks_without_a_file_are_cleared_away_in_the_end(
    vault: ObjectVault, object_server: ObjectServer, bucket: str
) -> None:
    sha256 = "ab" * 32
    vault.mark_prepared(sha256, "image")
    object_server.set_written_at(bucket, sha256, 1000)
    assert vault.hashes_older_than(2000) == [sha256]
    assert not vault.delete(sha256, before=2000)
    assert object_server.keys(bucket) == {}


@pytest.mark.parametrize(
    ("change", "message", "named"),
    [
        ({"bucket": "no-such-bucket"}, "There is no bucket", "ROTOSCOPE_STORE_URL"),
        ({"answer": "403 Forbidden"}, "does not accept the credentials", "AWS_ACCESS_KEY_ID"),
        ({"answer": "401 Unauthorized"}, "does not accept the credentials", "AWS_ACCESS_KEY_ID"),
        ({"down": True}, "cannot be reached", "AWS_ENDPOINT_URL"),
    ],
    ids=["no bucket", "forbidden", "unauthorized", "away"],
)
def test_a_store_that_cannot_be_used_is_one_sentence_that_names_the_setting(
    object_server: ObjectServer, bucket: str, tmp_path: Path, change: dict[str, Any], message: str, named: str
) -> None:
    vault = open_object_vault(object_server, tmp_path, change.get("bucket", bucket))
    if "answer" in change:
        shown = f"<Error><Code>InvalidAccessKeyId</Code><Message>{KEYS['AWS_ACCESS_KEY_ID']}</Message></Error>"
        object_server.fault = lambda _: answer(change["answer"], shown.encode())
    if change.get("down"):
        object_server.stop()
    for call in (vault.read_id, vault.has_files, lambda: vault.put_bytes(PNG, "image/png")):
        with pytest.raises(StorageFailed, match=message) as refusal:
            call()
        assert named in refusal.value.hint
        assert "\n" not in refusal.value.message
        assert refusal.value.__cause__ is None
        assert refusal.value.__suppress_context__
        words = f"{refusal.value.message} {refusal.value.hint}"
        assert KEYS["AWS_ACCESS_KEY_ID"] not in words
        assert urlsplit(object_server.endpoint).netloc not in words


@pytest.mark.parametrize("base", ["https://rotoscope.example", "http://127.0.0.1:8000"])
def test_a_server_gives_its_own_address_of_a_file_in_a_store_that_its_clients_cannot_reach(
    vault: ObjectVault, base: str
) -> None:
    secret = "a secret of more than thirty-two characters"
    server = AddressedVault(vault, FileAddresses(base, Signer((secret,)), lambda: 1e9))
    stored = server.put_bytes(PNG, "image/png")
    address, own = server.address(stored.sha256), vault.address(stored.sha256)
    assert address is not None
    assert own is not None
    assert not server.is_local
    if base.startswith("https"):
        assert (address.url or "").startswith(f"{base}/files/{stored.sha256}.png")
        assert server.hash_of_address(address.url or "") == stored.sha256
    else:
        assert address.url == own.url


def test_an_address_of_a_removed_file_opens_nothing(
    vault: ObjectVault, object_server: ObjectServer, bucket: str
) -> None:
    stored = vault.put_bytes(PNG, "image/png")
    address = vault.address(stored.sha256)
    assert address is not None
    assert address.url is not None
    object_server.set_written_at(bucket, stored.sha256, 1000)
    assert vault.delete(stored.sha256, before=2000)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(address.url, timeout=10)
