"""`rotoscope models add`: from a model's name at a provider to a checked manifest in the user's folder."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from rotoscope import signals
from rotoscope.cli.output import print_example
from rotoscope.composition import add_kept_keys, load_user_catalog, make_private_folder, open_reading_wire
from rotoscope.contracts.characters import visible_text
from rotoscope.errors import InvalidInput, MissingKey, ProviderError, RotoscopeError
from rotoscope.models.access import resolve_access
from rotoscope.models.catalog import Access, Catalog, read_manifest
from rotoscope.models.manifest import Price, ToolName
from rotoscope.models.schemas.documents import ModelDocument, ModelName, parse_model_name, read_document
from rotoscope.models.schemas.drafting import Draft, draft_manifest
from rotoscope.models.schemas.requests import (
    document_calls,
    join_documents,
    parse_document,
    price_call,
    read_document_reply,
    read_price,
)
from rotoscope.models.schemas.tools import DraftRefusal
from rotoscope.models.schemas.writing import write_manifest
from rotoscope.providers.http.client import Wire
from rotoscope.providers.http.messages import HttpCall, Json
from rotoscope.settings import Settings

__all__ = ["AddRequest", "add_model"]

_MAX_FILE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class AddRequest:
    """What the command line asks for.

    Attributes:
        model: as `fal:ID`, `replicate:OWNER/NAME` or `replicate:OWNER/NAME:VERSION`.
        tool: the tool that it is for, where the user says so.
        schema: a file with the provider's document, in place of the network.
        prints_only: whether the manifest is printed, and nothing written.
        overwrites: whether a file that is there is replaced.
    """

    model: str
    tool: ToolName | None = None
    schema: Path | None = None
    prints_only: bool = False
    overwrites: bool = False


@dataclass(frozen=True, slots=True)
class _Source:
    """What was read: the document, the price if it is known, and what the provider says of the price."""

    document: ModelDocument
    price: Price | None = None
    price_words: str = ""


def add_model(asked: AddRequest, settings: Settings) -> None:
    """Read a model's schema, draft its manifest, check it, write it, and print what a person should know.

    Raises:
        InvalidInput: the name or the schema cannot be used, the file is there already, or the model fits no tool.
        UnknownModel: the provider has no such model.
        MissingKey: Replicate shows schemas to those with a key alone.
        ProviderError: the provider cannot be asked.
    """
    name = parse_model_name(asked.model)
    file = settings.home / "models" / f"{name.endpoint.replace('/', '-')}.toml"
    if file.exists() and not asked.overwrites and not asked.prints_only:
        raise InvalidInput(f"{file} is there already.", hint="Give --force to replace it, or --print to look first.")
    catalog = load_user_catalog(settings)
    access = resolve_access(add_kept_keys(replace(settings, sandbox="never"), catalog), catalog.providers)
    today = datetime.now(UTC).date().isoformat()
    source = (
        _read_file(name, asked.schema)
        if asked.schema is not None
        else signals.run_until_signal(_fetch, settings, catalog, access, name, today)
    )
    draft = draft_manifest(source.document, catalog.providers, today, asked.tool, source.price)
    if isinstance(draft, DraftRefusal):
        raise InvalidInput(f"{name} gives no manifest. {draft.message}", hint=draft.hint)
    text = write_manifest(draft.manifest, _with_price(draft, source))
    if asked.prints_only:
        print(text, end="")
        return
    make_private_folder(settings.home)
    make_private_folder(file.parent)
    _write_file(file, text, overwrites=asked.overwrites)
    print(f"wrote {file}")
    if draft.manifest.id in catalog.models:
        print(f"note: from now on it is used in place of the {draft.manifest.id} that there was")
    _print_findings(draft, source)
    print_example(read_manifest(file, catalog.providers), draft.report, catalog, access)


def _with_price(draft: Draft, source: _Source) -> Mapping[str, list[str]]:
    said = [f"{source.price_words}."] if source.price_words else []
    comments = {place: list(lines) for place, lines in draft.comments.items()}
    return {**comments, "price": [*said, *comments.get("price", [])]}


def _read_file(name: ModelName, file: Path) -> _Source:
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise InvalidInput(f"{file} is too large for a schema.", hint="Give the provider's own document.")
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read.", hint="Give the path of a JSON file.") from error
    return _Source(read_document(name, parse_document(text)))


async def _fetch(settings: Settings, catalog: Catalog, access: Access, name: ModelName, today: str) -> _Source:
    has_key = name.provider in access.keys
    if name.provider == "replicate" and not has_key:
        variable = catalog.providers["replicate"].setup_variables
        raise MissingKey(
            f"Replicate shows schemas only with a key: {variable} is not set.",
            hint=f"Set {variable}, or save the schema and give it with --from FILE.",
        )
    bases = access.base_urls[name.provider]
    calls = document_calls(name, bases, has_key=has_key)
    async with AsyncExitStack() as closing:
        wire = open_reading_wire(settings, catalog, access, closing)
        read = _read_first if name.provider == "fal" else _read_all
        document = await read(wire, name, calls)
        price, words = await _fetch_price(wire, name, bases, today) if has_key else (None, "")
    return _Source(read_document(name, document), price, words)


async def _read_all(wire: Wire, name: ModelName, calls: Sequence[HttpCall]) -> Json:
    """One document of the answers to all requests."""
    return join_documents(name, [read_document_reply(name, await wire.send(name.provider, call)) for call in calls])


async def _read_first(wire: Wire, name: ModelName, calls: Sequence[HttpCall]) -> Json:
    """The first answer with a schema; if there is none, why the first one has none."""
    failure: RotoscopeError | None = None
    for call in calls:
        try:
            document = read_document_reply(name, await wire.send(name.provider, call))
            read_document(name, document)
        except RotoscopeError as error:
            failure = failure or error
        else:
            return document
    assert failure is not None
    raise failure


async def _fetch_price(wire: Wire, name: ModelName, bases: Mapping[str, str], today: str) -> tuple[Price | None, str]:
    """The price and what is said of it; a price that cannot be asked for stops nothing."""
    call = price_call(name, bases)
    if call is None:
        return None, ""
    try:
        reply = await wire.send(name.provider, call)
    except ProviderError:
        return None, ""
    return read_price(name, reply.json(), today) if reply.is_success else (None, "")


def _write_file(file: Path, text: str, *, overwrites: bool) -> None:
    if overwrites:
        file.unlink(missing_ok=True)
    try:
        with file.open("x", encoding="utf-8", newline="\n") as opened:
            file.chmod(0o600)
            opened.write(text)
    except FileExistsError:
        raise InvalidInput(f"{file} is there already.", hint="Give --force to replace it.") from None


def _print_findings(draft: Draft, source: _Source) -> None:
    for sentence in draft.guesses:
        print(visible_text(f"guess: {sentence}"))
    for sentence in draft.open_inputs:
        print(visible_text(f"open: {sentence}"))
    if source.price is None:
        said = f" ({source.price_words})" if source.price_words else ""
        print(visible_text(f"price: not known{said}; write a [price] table where you know it"))
    sys.stdout.flush()
