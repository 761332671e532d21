"""Who may sign in and what clients were given: rows that several servers read and write at once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from sqlalchemy import Connection, select
from store_database import StoreDatabase

from rotoscope.errors import InvalidInput
from rotoscope.media.vault import FolderVault
from rotoscope.store.access_schema import (
    oauth_clients,
    oauth_codes,
    oauth_grants,
    oauth_tokens,
    rate_counters,
    sign_in_links,
    sign_in_sessions,
)
from rotoscope.store.access_sweep import sweep_access
from rotoscope.store.clients import Clients, StoredClient
from rotoscope.store.database import Database
from rotoscope.store.grants import Code, Grants, TokenHashes
from rotoscope.store.people import People
from rotoscope.store.provider_keys import ProviderKeys
from rotoscope.store.rates import RateLimit, Rates
from rotoscope.store.retention import Retention
from rotoscope.store.sealing import Sealer

pytestmark = pytest.mark.anyio
CODE = Code("app", "anna", ("rotoscope",), "c" * 43, "http://127.0.0.1/", redirect_given=True, resource="https://x/mcp")
DAY = 86_400.0


@dataclass
class Server:
    """One server's view of the ledger, with a clock."""

    database: Database
    clock: Callable[[], float]
    people: People = field(init=False)
    clients: Clients = field(init=False)
    grants: Grants = field(init=False)
    rates: Rates = field(init=False)

    def __post_init__(self) -> None:
        self.people = People(self.database, self.clock)
        self.clients = Clients(self.database, self.clock)
        self.grants = Grants(self.database, self.clock)
        self.rates = Rates(self.database, self.clock)

    async def begin(self, name: str, person: str = "anna") -> bool:
        """Let the client in, and exchange the code; its code, grant and tokens are called after `name`."""
        code = Code(**{**{n: getattr(CODE, n) for n in Code.__slots__}, "person": person})
        assert await self.grants.add_code(f"code {name}", code)
        return await self.grants.begin(f"code {name}", code, f"grant {name}", TokenHashes(f"a {name}", f"r {name}"))


@dataclass
class Time:
    now: float = 1_000_000.0


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def server(database: StoreDatabase, time: Time) -> Server:
    """A server with a person and a client."""
    made = Server(database.connect(), lambda: time.now)
    await made.people.add("anna", "hash")
    await made.clients.keep(StoredClient("app", {"client_name": "App"}, None))
    return made


async def test_of_two_servers_that_exchange_one_code_one_begins_a_grant_and_then_it_ends(
    server: Server, database: StoreDatabase
) -> None:
    await server.grants.add_code("code", CODE)
    others = [Server(database.connect(), server.clock) for _ in range(4)]
    begun: list[bool] = []

    async def exchange(n: int) -> None:
        begun.append(await others[n].grants.begin("code", CODE, f"grant {n}", TokenHashes(f"a{n}", f"r{n}")))

    async with anyio.create_task_group() as tasks:
        for n in range(4):
            tasks.start_soon(exchange, n)
    assert sorted(begun) == [False, False, False, True]
    assert [await server.grants.read_access(f"a{n}") for n in range(4)] == [None] * 4


async def test_servers_that_renew_one_token_at_once_agree_on_its_successors(
    server: Server, database: StoreDatabase
) -> None:
    await server.begin("first")
    others = [Server(database.connect(), server.clock) for _ in range(4)]
    seeds: list[str | None] = []

    async def renew(n: int) -> None:
        state = await others[n].grants.replace("r first", f"seed {n}", TokenHashes(f"a{n}", f"r{n}"))
        seeds.append(None if state is None else state.seed)

    async with anyio.create_task_group() as tasks:
        for n in range(4):
            tasks.start_soon(renew, n)
    assert len(set(seeds)) == 1
    winner = str(seeds[0])[-1]
    good = [n for n in range(4) if await server.grants.read_access(f"a{n}") is not None]
    assert good == [int(winner)]


async def test_tries_at_once_are_no_more_than_tries_in_turn(server: Server, database: StoreDatabase) -> None:
    others = [Server(database.connect(), server.clock) for _ in range(3)]
    allowed: list[bool] = []

    async def take(n: int) -> None:
        allowed.append(await others[n % 3].rates.take(RateLimit("sign-in", "anna", 5, 60.0)))

    async with anyio.create_task_group() as tasks:
        for n in range(12):
            tasks.start_soon(take, n)
    assert allowed.count(True) == 5


async def test_a_window_ends_at_its_time_although_it_is_tried_meanwhile(server: Server, time: Time) -> None:
    limit = RateLimit("sign-in", "anna", 2, 60.0)
    assert [await server.rates.take(limit) for _ in range(3)] == [True, True, False]
    time.now += 59
    assert not await server.rates.take(limit)
    time.now += 2
    assert await server.rates.take(limit)


async def test_more_counters_than_there_may_be_refuse_what_would_need_another(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rotoscope.store.rates._MAX_COUNTERS", 2)
    assert [await server.rates.take(RateLimit("x", str(n), 5, 60.0)) for n in range(3)] == [True, True, False]
    assert await server.rates.take(RateLimit("x", "0", 5, 60.0))


async def test_of_two_browsers_one_uses_a_link(server: Server, database: StoreDatabase) -> None:
    await server.people.add_link("anna", "link", server.clock() + 60)
    assert await server.people.read_link("link") == "anna"
    used: list[str | None] = []

    async def use(one: Server) -> None:
        used.append(await one.people.use_link("link"))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(use, Server(database.connect(), server.clock))
    assert sorted(map(str, used)) == ["None", "None", "anna"]
    assert await server.people.read_link("link") is None


async def test_a_link_that_is_too_old_signs_nobody_in(server: Server, time: Time) -> None:
    await server.people.add_link("anna", "link", time.now + 60)
    time.now += 61
    assert await server.people.use_link("link") is None


async def test_a_person_who_is_removed_is_out_at_once(server: Server) -> None:
    await server.begin("first")
    await server.grants.add_code("open", CODE)
    await server.people.add_link("anna", "link", server.clock() + 60)
    await server.people.begin_session("cookie", "anna", server.clock() + 60)
    assert await server.people.remove("anna")
    assert await server.grants.read_access("a first") is None
    assert await server.grants.read_refresh("r first") is None
    assert not await server.grants.begin("open", CODE, "grant", TokenHashes("a", "r"))
    assert await server.people.use_link("link") is None
    assert await server.people.find_session("cookie") is None
    assert await server.people.find("anna") is None
    assert not await server.people.remove("anna")


async def test_the_provider_keys_of_a_person_who_is_removed_are_gone_and_nobody_elses(
    server: Server, database: StoreDatabase
) -> None:
    keys = ProviderKeys(database.connect(), Sealer(("k" * 32,)), server.clock)
    await keys.set("anna", "fal", "hers")
    await keys.set("ben", "fal", "his")
    await server.people.remove("anna")
    assert [one.principal for one in await keys.list()] == ["ben"]


async def test_a_name_that_was_removed_is_given_to_nobody_by_accident(server: Server) -> None:
    await server.begin("first")
    await server.people.remove("anna")
    with pytest.raises(InvalidInput, match="was removed"):
        await server.people.add("anna", "other")
    await server.people.add("anna", "other", restore=True)
    found = await server.people.find("anna")
    assert found is not None
    assert found.passphrase_hash == "other"
    assert await server.grants.read_access("a first") is None  # what was ended stays so


@pytest.mark.parametrize("name", ["", "a b", "local", "Local", "ANNA", "anna", "x" * 129, "a|b"])
async def test_a_name_that_could_be_taken_for_another_is_refused(server: Server, name: str) -> None:
    with pytest.raises(InvalidInput):
        await server.people.add(name, None)


async def test_people_and_their_grants_are_listed(server: Server) -> None:
    await server.people.add("bert", None)
    await server.begin("first")
    await server.begin("second", "bert")
    assert [(one.name, one.grants) for one in await server.people.list_all()] == [("anna", 1), ("bert", 1)]
    assert [(one.id, one.client_name) for one in await server.grants.list_open("anna")] == [("grant first", "App")]
    assert await server.grants.end("bert", "grant first") == 0
    assert await server.grants.end("anna", "grant f") == 1
    assert await server.grants.read_access("a first") is None
    assert await server.grants.read_access("a second") is not None


async def test_grants_codes_and_browsers_of_a_person_are_bounded(
    server: Server, monkeypatch: pytest.MonkeyPatch, time: Time
) -> None:
    monkeypatch.setattr("rotoscope.store.grants._MAX_GRANTS", 2)
    monkeypatch.setattr("rotoscope.store.grants._MAX_CODES", 4)
    monkeypatch.setattr("rotoscope.store.people._MAX_SESSIONS", 2)
    for n in range(3):
        await server.begin(str(n))
        await server.people.begin_session(f"cookie {n}", "anna", time.now + 60)
        time.now += 1
    assert [one.id for one in await server.grants.list_open("anna")] == ["grant 2", "grant 1"]
    found = [await server.people.find_session(f"cookie {n}") for n in range(3)]
    assert found == [None, "anna", "anna"]
    assert [await server.grants.add_code(f"more {n}", CODE) for n in range(2)] == [True, False]


async def test_a_grant_that_is_renewed_often_keeps_a_bounded_number_of_tokens(
    server: Server, database: StoreDatabase, monkeypatch: pytest.MonkeyPatch, time: Time
) -> None:
    monkeypatch.setattr("rotoscope.store.grants._MAX_TOKENS", 3)
    await server.begin("0")
    for n in range(6):
        time.now += 1
        assert await server.grants.replace(f"r {n}", "seed", TokenHashes(f"a {n + 1}", f"r {n + 1}"))
    counted = "SELECT kind, count(*) FROM oauth_tokens GROUP BY kind ORDER BY kind"
    assert [tuple(row) for row in database.execute(counted)] == [("access", 3), ("refresh", 3)]
    assert await server.grants.read_access("a 6") is not None


async def test_the_sweep_removes_what_lets_nobody_in_any_more_and_nothing_else(server: Server, time: Time) -> None:
    await server.begin("old")
    await server.people.add_link("anna", "old", time.now + 60)
    await server.people.begin_session("old", "anna", time.now + 60)
    await server.rates.take(RateLimit("x", "old", 5, 60.0))
    await server.clients.keep(StoredClient("unused", {}, None))
    time.now += 29 * DAY
    await server.begin("new")
    time.now += 2 * DAY  # the old grant has ended by now; one code of the new one is a day too old
    await server.people.add_link("anna", "new", time.now + 60)
    await server.people.begin_session("new", "anna", time.now + 60)
    now = time.now
    await server.database.transact(lambda connection: sweep_access(connection, now))

    def left(connection: Connection) -> list[list[str]]:
        columns = (oauth_grants.c.id, oauth_codes.c.hash, sign_in_links.c.hash, sign_in_sessions.c.hash)
        more = (rate_counters.c.key, oauth_clients.c.client_id, oauth_tokens.c.hash)
        return [sorted(connection.execute(select(one)).scalars()) for one in (*columns, *more)]

    assert await server.database.transact(left, writes=False) == [
        ["grant new"], [], ["new"], ["new"], [], ["app"], ["r new"]
    ]  # fmt: skip


async def test_the_sweep_of_a_server_removes_it_too(server: Server, time: Time, tmp_path: Path) -> None:
    await server.people.begin_session("old", "anna", time.now + 60)
    retention = Retention(server.database, FolderVault(tmp_path / "vault"), server.clock, 30 * DAY)
    await retention.sweep_when_sure()
    time.now += 61
    await retention.sweep_when_sure()

    def count(connection: Connection) -> int:
        return len(connection.execute(select(sign_in_sessions.c.hash)).all())

    assert await server.database.transact(count, writes=False) == 0
