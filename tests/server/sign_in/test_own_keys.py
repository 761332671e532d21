"""ROTOSCOPE_KEYS=principal: each principal's runs go out with its own key, and with no other, whatever happens."""

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import SECONDS, StudioOpener, open_job, segment_arguments
from cryptography.fernet import Fernet
from keyed_provider import HOST, KeyedProvider
from postgresql import PostgresqlServer
from sqlalchemy import select, update
from store_database import POSTGRESQL_PARAM

from rotoscope.cli.commands import run_command
from rotoscope.composition import open_studio
from rotoscope.composition.keys import open_key_store
from rotoscope.contracts.results import JobResult
from rotoscope.errors import InvalidInput, MissingKey, RotoscopeError
from rotoscope.settings import Settings, read_settings
from rotoscope.store.access_schema import provider_keys
from rotoscope.store.provider_keys import ProviderKeys
from rotoscope.store.sealing import Sealer
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio

ANNAS, BERTS, OPERATORS = "r8_annas-own-key-0123456789", "r8_berts-own-key-0123456789", "r8_operators-key-0123456789"
SECRET = "e" * 40


@pytest.fixture(params=["sqlite", POSTGRESQL_PARAM])
def environment(request: pytest.FixtureRequest, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """The settings, on either database: on PostgreSQL jobs are driven from a queue."""
    with ExitStack() as closing:
        if request.param == "postgresql":
            server: PostgresqlServer = request.getfixturevalue("postgresql")
            environment["ROTOSCOPE_DATABASE_URL"] = closing.enter_context(server.new_ledger())
        yield own_key_environment(environment)


def own_key_environment(environment: dict[str, str]) -> dict[str, str]:
    return {
        **environment,
        "ROTOSCOPE_KEYS": "principal",
        "ROTOSCOPE_ENCRYPTION_KEYS": SECRET,
        "REPLICATE_BASE_URL": f"https://{HOST}",
        "REPLICATE_API_TOKEN": OPERATORS,  # it must be used for nothing
    }


@pytest.fixture
def provider() -> KeyedProvider:
    return KeyedProvider()


@pytest.fixture
async def keys(settings: Settings) -> AsyncIterator[ProviderKeys]:
    async with AsyncExitStack() as closing:
        yield open_key_store(settings, closing)


async def result_of(studio: Studio, photo: Path, principal: str, words: str = "the helmet") -> JobResult:
    with anyio.fail_after(SECONDS):
        found = await studio.perform("segment_image", segment_arguments(photo, words), principal, SECONDS)
    assert isinstance(found, JobResult)
    return found


async def test_each_principals_run_is_paid_and_read_with_its_own_key(
    settings: Settings, provider: KeyedProvider, opened: StudioOpener, keys: ProviderKeys, photo: Path
) -> None:
    await keys.set("anna", "replicate", ANNAS)
    await keys.set("bert", "replicate", BERTS)
    async with opened(settings, provider) as studio:
        assert (await result_of(studio, photo, "anna")).status == "succeeded"
        assert provider.keys_of("POST") == {ANNAS}
        assert (await result_of(studio, photo, "bert")).status == "succeeded"
    assert provider.owners == {"p1": ANNAS, "p2": BERTS}  # the same request is another run of another principal
    assert provider.keys_of("GET", "/v1/predictions/p1") == {ANNAS}
    assert provider.keys_of("GET", "/v1/predictions/p2") == {BERTS}
    assert provider.keys_of("GET", "/out.png") == {""}
    assert OPERATORS not in provider.keys


async def test_without_a_key_nothing_is_sent_and_no_job_is_opened(
    settings: Settings, provider: KeyedProvider, opened: StudioOpener, keys: ProviderKeys, photo: Path
) -> None:
    await keys.set("bert", "replicate", BERTS)
    async with opened(settings, provider) as studio:
        with pytest.raises(MissingKey, match="a key of your own for Replicate") as refused:
            await result_of(studio, photo, "anna")
        assert "rotoscope keys set replicate --principal anna" in refused.value.hint
        assert (await studio.list("anna", None, 10)).jobs == []
    assert provider.asked == []


async def test_a_key_that_is_entered_is_used_at_once(
    settings: Settings, provider: KeyedProvider, opened: StudioOpener, keys: ProviderKeys, photo: Path
) -> None:
    async with opened(settings, provider) as studio:
        with pytest.raises(MissingKey):
            await result_of(studio, photo, "anna")
        await keys.set("anna", "replicate", ANNAS)
        assert (await result_of(studio, photo, "anna")).status == "succeeded"
        await keys.remove("anna", "replicate")
        with pytest.raises(MissingKey):
            await result_of(studio, photo, "anna", "something else")


async def test_a_key_that_changes_before_the_payment_pays_nothing(
    settings: Settings,
    provider: KeyedProvider,
    opened: StudioOpener,
    keys: ProviderKeys,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The job was claimed with the key that it was opened with; between that and the payment another one is entered."""
    await keys.set("anna", "replicate", ANNAS)

    async def change_at_upload(method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/v1/files":
            await keys.set("anna", "replicate", BERTS)
        return await provider.answer_account(method, path, body)

    provider.respond = change_at_upload
    async with opened(settings, provider) as studio:
        result = await result_of(studio, photo, "anna")
    assert provider.posts == 0
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.code == "auth"
    assert result.cost is not None
    assert result.cost.charged_usd == 0.0


async def test_a_job_whose_key_is_gone_waits_for_it_and_says_so(
    settings: Settings, provider: KeyedProvider, opened: StudioOpener, keys: ProviderKeys, photo: Path
) -> None:
    await keys.set("anna", "replicate", ANNAS)
    async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
        roots = studio_roots(photo)
        studio = open_studio(settings, roots, tasks, closing, provider)  # nothing is driven in this process
        opening = await studio.context.ledger.open(
            (await studio.plan("segment_image", segment_arguments(photo), "anna")).new_job, studio.caps, None
        )
        tasks.cancel_scope.cancel()
    await keys.remove("anna", "replicate")
    later = clock_after(60.0)
    async with opened(settings, provider, clock=later) as studio:
        why = (await studio.idle_jobs("anna"))[0][1]
        assert "anna has no key for replicate any more" in why
        assert provider.asked == []
        await keys.set("anna", "replicate", BERTS)
        assert "begun with another key of anna" in (await studio.idle_jobs("anna"))[0][1]
        assert await studio.open_jobs("anna") == []
        await keys.set("anna", "replicate", ANNAS)
        with anyio.fail_after(SECONDS):
            done = await studio.wait(await studio.job(opening.job.id, "anna"), SECONDS)
        assert done.state == "succeeded"
    assert set(provider.keys) == {ANNAS, ""}


def studio_roots(photo: Path) -> Any:
    from rotoscope.media.paths import Roots

    return Roots((photo.parent,), photo.parent)


def clock_after(seconds: float) -> Callable[[], float]:
    import time

    return lambda: time.time() + seconds


async def test_a_process_with_the_operators_key_takes_no_job_of_a_principals_own(
    settings: Settings,
    environment: dict[str, str],
    provider: KeyedProvider,
    opened: StudioOpener,
    keys: ProviderKeys,
    photo: Path,
) -> None:
    """Not even with the very same key: what it would be asked to send is for the principal's own process."""
    await keys.set("anna", "replicate", OPERATORS)
    async with opened(settings, provider) as own:
        provider.hold = anyio.Event()
        await open_job(own, segment_arguments(photo), "anna")
        job = (await own.list("anna", None, 1)).jobs[0].job_id
    operators = read_settings({**environment, "ROTOSCOPE_KEYS": "operator"})
    provider.hold = None
    async with opened(operators, provider) as other:
        assert await other.open_jobs("anna") == []
        assert (await result_of(other, photo, "anna")).job_id != job  # its own run, with the operator's key
    async with opened(settings, provider) as own:
        assert [one.id for one in await own.open_jobs("anna")] == [job]


# What is kept, and with what it is opened.


async def test_a_key_is_nowhere_but_sealed(
    settings: Settings,
    provider: KeyedProvider,
    opened: StudioOpener,
    keys: ProviderKeys,
    photo: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    await keys.set("anna", "replicate", ANNAS)
    provider.valid = {BERTS}  # the provider refuses it, and repeats it
    provider.created = (401, {"detail": f"Invalid token {ANNAS}", "title": ANNAS})

    async def refuse(method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/v1/files":
            return 201, {"id": "f1", "urls": {"get": f"https://{HOST}/v1/files/f1"}}
        return 401, {"detail": f"Invalid token {ANNAS}", "title": ANNAS}

    provider.respond = refuse
    async with opened(settings, provider) as studio:
        result = await result_of(studio, photo, "anna")
        assert result.status == "failed"
        assert ANNAS not in result.model_dump_json()
    assert ANNAS in provider.keys
    assert ANNAS not in caplog.text
    for path in settings.home.rglob("*"):
        if path.is_file():
            assert ANNAS.encode() not in path.read_bytes(), path
    assert ANNAS not in repr(await keys.list())


async def test_a_row_that_is_copied_to_another_principal_or_provider_opens_nothing(
    keys: ProviderKeys, caplog: pytest.LogCaptureFixture
) -> None:
    await keys.set("anna", "replicate", ANNAS)
    await keys.set("bert", "replicate", BERTS)
    await keys.set("anna", "fal", "id:secret-of-anna")
    annas = select(provider_keys.c.sealed).where(
        provider_keys.c.principal == "anna", provider_keys.c.provider == "replicate"
    )

    def copy(connection: Any) -> None:
        sealed = connection.execute(annas).scalar_one()
        connection.execute(update(provider_keys).values(sealed=sealed))

    await keys.database.transact(copy)
    assert await keys.read("bert") == {}
    assert await keys.read("anna") == {"replicate": ANNAS}
    assert "sealed for somebody else" in caplog.text
    assert ANNAS not in caplog.text


async def test_a_new_encryption_key_seals_again_at_the_next_use(settings: Settings, keys: ProviderKeys) -> None:
    await keys.set("anna", "replicate", ANNAS)
    new = "n" * 40
    both = replace(keys, sealer=Sealer((new, SECRET)))
    assert await both.read("anna") == {"replicate": ANNAS}
    only_new = replace(keys, sealer=Sealer((new,)))
    assert await only_new.read("anna") == {"replicate": ANNAS}
    assert await keys.read("anna") == {}  # the old key alone opens it no more


async def test_a_key_that_nothing_opens_is_as_none_and_the_log_says_why(
    keys: ProviderKeys, caplog: pytest.LogCaptureFixture
) -> None:
    await keys.set("anna", "replicate", ANNAS)
    assert await replace(keys, sealer=Sealer(("x" * 40,))).read("anna") == {}
    assert "encrypted with a key that is not set now" in caplog.text


def test_two_seals_of_one_key_differ_and_no_altered_one_opens() -> None:
    sealer = Sealer((SECRET,))
    first, second = sealer.seal("anna", "replicate", ANNAS), sealer.seal("anna", "replicate", ANNAS)
    assert first != second
    flipped = first[:40] + ("A" if first[40] != "A" else "B") + first[41:]
    for altered in (flipped, first[:-8], "", "x", Fernet(Fernet.generate_key()).encrypt(b"[]").decode()):
        with pytest.raises(RotoscopeError):
            sealer.open("anna", "replicate", altered)
    for owner, purpose in (("bert", "replicate"), ("anna", "fal"), ("annareplicate", ""), ("", "")):
        with pytest.raises(RotoscopeError, match="somebody else"):
            sealer.open(owner, purpose, first)


async def test_nothing_starts_without_an_encryption_key(
    environment: dict[str, str], home: Path, provider: KeyedProvider
) -> None:
    del environment["ROTOSCOPE_ENCRYPTION_KEYS"]
    settings = read_settings(environment)
    async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
        with pytest.raises(InvalidInput, match="needs ROTOSCOPE_ENCRYPTION_KEYS"):
            open_studio(settings, studio_roots(home / "x"), tasks, closing, provider)
    assert not settings.home.exists()


# The command.


@pytest.fixture
def command(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs `rotoscope keys ...` with a line on its stdin; what it prints."""
    import io

    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(*words: str, line: str = "", code: int = 0) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(line))
        assert run_command(["keys", *words]) == code
        shown = capsys.readouterr()
        assert ANNAS not in shown.out + shown.err
        return shown.out if code == 0 else shown.err

    return run


def test_the_command_keeps_lists_and_removes_keys_and_shows_none(
    command: Callable[..., str], settings: Settings
) -> None:
    command("set", "replicate", "--principal", "anna", line=f"{ANNAS}\n")
    command("set", "fal", "--principal", "https://id.example#42", line=" id:secret \n")
    listed = command("list")
    assert "anna" in listed
    assert "https://id.example#42" in listed
    assert "replicate" not in command("list", "--principal", "bert")
    command("remove", "replicate", "--principal", "anna")
    assert "anna" not in command("list", "--json")
    assert "has no key" in command("remove", "replicate", "--principal", "anna", code=2)


@pytest.mark.parametrize("line", ["", "\n", "two words\n", "schlüssel\n", "x" * 5000])
def test_what_is_no_key_is_refused(command: Callable[..., str], line: str) -> None:
    assert "no key of Replicate" in command("set", "replicate", "--principal", "anna", line=line, code=2)
    assert "anna" not in command("list")


def test_an_unknown_provider_is_refused_before_a_key_is_asked_for(command: Callable[..., str]) -> None:
    assert "There is no provider 'nobody' here" in command("set", "nobody", "--principal", "anna", code=2)
