"""Upload tickets in the ledger: what several replicas do to one at once, whose a file is, and what is removed."""

from pathlib import Path

import anyio
import pytest
from set_clock import Clock
from store_database import StoreDatabase

from rotoscope.errors import InvalidInput, TooLarge
from rotoscope.media.vault import FolderVault
from rotoscope.store.ledger import Ledger
from rotoscope.store.retention import Retention
from rotoscope.store.uploads import Upload, UploadPart, UploadProblem, UploadTickets, upload_hash

pytestmark = pytest.mark.anyio
DAY = 86_400.0
FILE = "f" * 64


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def replicas(database: StoreDatabase, clock: Clock) -> list[UploadTickets]:
    """Three processes on one ledger."""
    return [UploadTickets(database.connect(), clock) for _ in range(3)]


async def current(tickets: UploadTickets, upload: Upload) -> Upload:
    found = await tickets.find(upload.hash)
    assert found is not None
    return found


async def test_of_equal_parts_at_once_one_counts(replicas: list[UploadTickets]) -> None:
    upload = await replicas[0].add("ticket", "anna", "", None)
    counted: list[bool] = []

    async def append(tickets: UploadTickets, name: str) -> None:
        counted.append(await tickets.append(upload, UploadPart(0, 5, name), 10))

    async with anyio.create_task_group() as tasks:
        for number, tickets in enumerate(replicas):
            tasks.start_soon(append, tickets, f"{number}" * 64)
    assert sorted(counted) == [False, False, True]
    assert len(await replicas[0].parts(upload)) == 1
    stands = await current(replicas[1], upload)
    assert (stands.received, stands.total, stands.is_whole) == (5, 10, False)


async def test_of_several_who_would_check_a_file_one_may_and_another_after_its_end(
    replicas: list[UploadTickets], clock: Clock
) -> None:
    upload = await replicas[0].add("ticket", "anna", "", None)
    allowed: list[bool] = []

    async def claim(tickets: UploadTickets, holder: str) -> None:
        allowed.append(await tickets.claim_check(upload, holder, 60.0))

    async with anyio.create_task_group() as tasks:
        for number, tickets in enumerate(replicas):
            tasks.start_soon(claim, tickets, str(number))
    assert sorted(allowed) == [False, False, True]
    assert not await replicas[0].append(upload, UploadPart(0, 5, "a" * 64), 10), "nothing comes while it is checked"
    clock.now += 61
    assert await replicas[1].claim_check(upload, "late", 60.0)
    assert await replicas[0].finish(upload, "0", FILE, 10, {}) is None, "who was too slow has lost the right"
    await replicas[1].renew_check(upload, "late", 60.0)
    clock.now += 59
    assert not await replicas[2].claim_check(upload, "another", 60.0)
    assert await replicas[1].finish(upload, "late", FILE, 10, {"width": 3}) == []
    done = await current(replicas[2], upload)
    assert (done.uri, done.facts, done.received) == (f"artifact://{FILE}", {"width": 3}, 10)
    assert not await replicas[2].claim_check(upload, "another", 60.0)
    assert await replicas[2].clear(upload) == ()


async def test_a_refusal_drops_the_parts_and_the_twentieth_ends_the_ticket(
    replicas: list[UploadTickets], clock: Clock
) -> None:
    tickets = replicas[0]
    upload = await tickets.add("ticket", "anna", "", None)
    part = UploadPart(0, 10, "a" * 64)
    for _ in range(20):
        assert not (await current(tickets, upload)).is_expired(clock.now)
        assert await tickets.append(upload, part, 10)
        assert await tickets.claim_check(upload, "me", 60.0)
        assert await tickets.refuse(upload, "me", UploadProblem("not_media", "No medium.", "Send one.")) == [part]
    stands = await current(tickets, upload)
    assert (stands.received, stands.total, stands.refusals) == (0, None, 20)
    assert stands.problem == UploadProblem("not_media", "No medium.", "Send one.")
    assert stands.is_expired(clock.now)


async def test_a_ticket_is_its_principals_and_so_is_its_file(
    replicas: list[UploadTickets], database: StoreDatabase, clock: Clock
) -> None:
    ledger, tickets = Ledger(database.connect(), clock), replicas[0]
    upload = await tickets.add("ticket", "anna", "", None)
    assert await tickets.find(upload_hash("ticket"), "anna") == upload
    assert await tickets.find(upload_hash("ticket"), "bert") is None
    assert await tickets.append(upload, UploadPart(0, 5, "a" * 64), 10)
    assert not await ledger.can_read_artifact("a" * 64, "anna"), "a part is nobody's"
    await tickets.claim_check(upload, "me", 60.0)
    await tickets.finish(upload, "me", FILE, 10, {})
    assert [await ledger.can_read_artifact(FILE, name) for name in ("anna", "bert")] == [True, False]


async def test_a_principal_has_a_bounded_number_of_tickets_and_bytes(
    replicas: list[UploadTickets], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rotoscope.store.uploads._MAX_OPEN", 2)
    monkeypatch.setattr("rotoscope.store.uploads._MAX_DAY_BYTES", 10)
    opened: list[str] = []

    async def add(number: int) -> None:
        try:
            await replicas[number % 3].add(f"ticket {number}", "anna", "", None)
        except InvalidInput as error:
            opened.append(error.code)
        else:
            opened.append("")

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(add, number)
    assert sorted(opened) == ["", "", *["too_many_uploads"] * 4]
    clock.now += 3601
    upload = await replicas[0].add("large", "anna", "", None)
    await replicas[0].append(upload, UploadPart(0, 10, "a" * 64), 20)
    with pytest.raises(TooLarge):
        await replicas[1].add("more", "anna", "", None)
    await replicas[1].add("others", "bert", "", None)


async def test_what_expired_and_what_no_job_took_is_removed(
    replicas: list[UploadTickets], database: StoreDatabase, clock: Clock, tmp_path: Path
) -> None:
    tickets, vault = replicas[0], FolderVault(tmp_path / "vault")
    upload = await tickets.add("in parts", "anna", "", None)
    await tickets.append(upload, UploadPart(0, 5, "a" * 64), 10)
    taken = await tickets.add("taken", "anna", "", None)
    await tickets.claim_check(taken, "me", 60.0)
    await tickets.finish(taken, "me", FILE, 10, {})
    retention = Retention(database.connect(), vault, clock, 30 * DAY)
    await retention.sweep_when_sure()
    assert await tickets.find(upload.hash) is not None
    for _ in range(16):
        clock.now += DAY / 2
        await retention.sweep_when_sure()
        assert await tickets.find(upload.hash) is None
    assert await tickets.find(taken.hash) is None
    assert list(database.execute("SELECT count(*) FROM upload_parts")) == [(0,)]
