"""The catalog: every model and provider there is, which of them fits a request, and which may be used for it."""

import difflib
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from rotoscope.errors import InvalidInput, MissingKey, TooLarge, UnknownModel
from rotoscope.models.manifest import Manifest, PromptKind, Route, ToolName
from rotoscope.models.own_prices import apply_own_prices
from rotoscope.models.provider import Provider
from rotoscope.models.toml_facts import parse_toml, validate_facts
from rotoscope.ownership import find_fault

__all__ = [
    "OWN_KEY_MARK",
    "Access",
    "Catalog",
    "UploadLimit",
    "can_take_prompts",
    "describe_writing_by_hand",
    "file_size_error",
    "fingerprint_keys",
    "first_route_for_sizes",
    "largest_upload_limit",
    "load_catalog",
    "manifest_folder",
    "read_manifest",
    "read_providers",
]


_OTHER_FILES = frozenset({"providers.toml", "prices.toml"})  # files of the operator's that are no manifests
_NAMED_CHARACTERS = 240  # of the names of models in a hint
_SIZE_HINT = "Give a smaller file, or a public https URL."


@dataclass(frozen=True, slots=True)
class Catalog:
    """Models by id and providers by name; `problems` names the files that could not be used, and why."""

    providers: Mapping[str, Provider]
    models: Mapping[str, Manifest]
    problems: tuple[str, ...] = ()

    def find(self, model: str) -> Manifest:
        """The manifest of an id.

        Raises:
            UnknownModel: there is none; the hint has the nearest id.
        """
        found = self.models.get(model)
        same = [one for name, one in self.models.items() if name.casefold() == model.strip().casefold()]
        if found is None and len(same) == 1:
            return same[0]
        if found is None:
            near = difflib.get_close_matches(model, self.models, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known models: {_name_some(sorted(self.models))}."
            raise UnknownModel(f"There is no model {model[:100]!r}.", hint=hint)
        return found

    def find_at(self, model: str, provider: str, endpoint: str | None = None) -> Manifest:
        """The manifest of an id as one of its routes has it: the one of a provider, and of an endpoint there.

        Where that route is gone meanwhile it is the first one: a job that was opened on it is read by what stands.

        Raises:
            UnknownModel: there is no such model.
        """
        manifest = self.find(model)
        there = [route for route in manifest.routes if route.provider == provider]
        named = [route for route in there if endpoint in route.endpoints]
        return manifest.at(next(iter((*named, *there, *manifest.routes))))

    def choose(
        self,
        tool: ToolName,
        kinds: frozenset[PromptKind],
        model: str | None,
        is_usable: Callable[[str], bool],
    ) -> tuple[Manifest, tuple[Route, ...]]:
        """The named model, or the first fitting one that can be used, and its routes that can be used.

        Args:
            tool: the tool that was called.
            kinds: the kinds of prompt that were given.
            model: an id, also as `id@provider`; None for any.
            is_usable: whether a provider can be used, by its name.

        Raises:
            UnknownModel: no such model, or it is for another tool.
            InvalidInput: it does not take this kind of prompt.
            MissingKey: no fitting model has a key; names the variables.
        """
        name, at, provider = (model or "").partition("@")
        if model is not None and not (name and (provider or not at)):
            raise UnknownModel(f"There is no model {model[:100]!r}.", hint="Write MODEL or MODEL@PROVIDER.")
        candidates = [self._find_named_model(name, tool, kinds)] if name else self._fitting_models(tool, kinds)
        routes = [(m, r) for m in candidates for r in m.routes if provider in ("", r.provider)]
        if not routes:
            offered = ", ".join(r.provider for m in candidates for r in m.routes)
            raise UnknownModel(f"{name!r} is not offered by {provider[:40]!r}.", hint=f"It is offered by: {offered}.")
        for manifest, _ in routes:
            ready = tuple(route for one, route in routes if one is manifest and is_usable(route.provider))
            if ready:
                return manifest, ready
        raise self._missing_key_error([route for _, route in routes], name)

    def _find_named_model(self, name: str, tool: ToolName, kinds: frozenset[PromptKind]) -> Manifest:
        manifest = self.find(name)
        if manifest.tool != tool:
            raise UnknownModel(
                f"{name!r} is a model of {manifest.tool}, not of {tool}.",
                hint=f"Call {manifest.tool}, or leave out the model.",
            )
        if not can_take_prompts(manifest, kinds):
            raise InvalidInput(
                f"{name!r} does not take {_describe_prompt_kinds(kinds)}; it takes {_prompt_choices(manifest)}.",
                hint="Change the prompt, or leave out the model and one that fits is chosen.",
            )
        return manifest

    def _fitting_models(self, tool: ToolName, kinds: frozenset[PromptKind]) -> list[Manifest]:
        # A model that takes no mask edits more than was meant: it is chosen where no other can be used.
        offered = (m for m in self.models.values() if m.tool == tool)
        ranked = sorted(offered, key=lambda m: (m.edits_by_words, m.rank, m.id))
        fitting = [m for m in ranked if can_take_prompts(m, kinds)]
        if not fitting:
            offers = "; ".join(f"{m.id}: {_prompt_choices(m)}" for m in ranked) or "none"
            raise InvalidInput(
                f"No model of {tool} takes {_describe_prompt_kinds(kinds)} together.",
                hint=f"Leave one out. Models: {offers}.",
            )
        return fitting

    def _missing_key_error(self, routes: Sequence[Route], name: str) -> MissingKey:
        variables = list(dict.fromkeys(self.providers[route.provider].setup_variables for route in routes))
        wanted = f"The model {name!r}" if name else "Every model that fits"
        return MissingKey(
            f"{wanted} needs a key that is not set: {' or '.join(variables)}.",
            hint=f"Set {' or '.join(variables)} for the server, or name a model whose key is set.",
            providers=tuple(dict.fromkeys(route.provider for route in routes)),
        )


OWN_KEY_MARK = "#own"
"""Ends the name of what a process must have to drive a job that runs with its principal's own key."""


@dataclass(frozen=True, slots=True)
class Access:
    """The providers that can be used, with their keys and base URLs.

    Attributes:
        sandbox: the sandbox serves every provider.
        is_built_in: that sandbox is the built-in one, not one at an address.
        keys: the key of each provider that has one; never shown.
        base_urls: the base URLs of each provider, by purpose.
        trusted_hosts: hosts that are trusted for every provider: they may be http and private, and may serve their
            own outputs.
        headers: what goes with the key of a provider, by the name of the header; never shown.
        secrets: what in those headers is a key of its own; never shown.
        own_hosts: the hosts that the operator set for a provider, trusted in the same way for that provider alone.
        own_for: the providers that each principal may give a key of its own for; None: the keys are the operator's.
    """

    sandbox: bool
    is_built_in: bool
    base_urls: Mapping[str, Mapping[str, str]]
    trusted_hosts: frozenset[str]
    keys: Mapping[str, str] = field(repr=False)
    own_hosts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    own_for: frozenset[str] | None = None

    def is_usable(self, provider: str) -> bool:
        """Whether a provider can be used now."""
        return provider in self.keys

    def driver_key(self, provider: str) -> str:
        """The name of what a process must have to drive a job: the provider at its host, so no job changes hosts."""
        whose = "" if self.own_for is None else OWN_KEY_MARK
        return f"{provider}@{urlsplit(self.base_urls[provider]['api']).netloc.lower()}{whose}"

    def account_fingerprint(self, provider: str) -> str:
        """32 bits of a hash of the keys: tells two accounts apart, and no key can be recovered from it."""
        # A gateway's own key is the operator's; whose account it is, a principal's own key alone says.
        more = self.secrets.get(provider, ()) if self.own_for is None else ()
        return fingerprint_keys(provider, self.keys.get(provider, ""), *more)


def fingerprint_keys(provider: str, *keys: str) -> str:
    """32 bits of a hash of a provider's keys, as hex."""
    return hashlib.sha256(":".join((provider, *keys)).encode()).hexdigest()[:8]


def file_size_error(provider: Provider, size: int) -> TooLarge | None:
    """The error for a file of `size` bytes that cannot reach a provider; None when it can."""
    if provider.can_upload:
        most = provider.upload_bytes
        if most is None or size <= most:
            return None
        return TooLarge(
            f"{provider.title} takes files of up to {most / 1e6:g} MB, and this one has {size / 1e6:.1f} MB.",
            hint=_SIZE_HINT,
        )
    if size <= provider.inline_bytes:
        return None
    return TooLarge(
        f"{provider.title} takes no uploads, and this file has {size / 1000:.0f} kB; "
        f"at most {provider.inline_bytes / 1000:.0f} kB travel inside a request.",
        hint=_SIZE_HINT,
    )


@dataclass(frozen=True, slots=True)
class UploadLimit:
    """The largest file that any of some providers takes, in bytes, and the title of that provider."""

    title: str
    max_bytes: int


def largest_upload_limit(routes: Sequence[Route], providers: Mapping[str, Provider]) -> UploadLimit | None:
    """The largest upload limit among the routes to a model; None where one of them has no known limit."""
    found: UploadLimit | None = None
    for provider in (providers[route.provider] for route in routes):
        most = provider.upload_bytes if provider.can_upload else provider.inline_bytes
        if most is None:
            return None
        if found is None or most > found.max_bytes:
            found = UploadLimit(provider.title, most)
    return found


def first_route_for_sizes(routes: Sequence[Route], providers: Mapping[str, Provider], sizes: Iterable[int]) -> Route:
    """The first route whose provider takes every file.

    Raises:
        TooLarge: none does; the message explains it for the first route.
    """
    largest = max(sizes, default=0)
    for route in routes:
        if file_size_error(providers[route.provider], largest) is None:
            return route
    refused = file_size_error(providers[routes[0].provider], largest)
    assert refused is not None
    raise refused


def can_take_prompts(manifest: Manifest, kinds: frozenset[PromptKind]) -> bool:
    """Whether a model takes these kinds of prompt in one request."""
    if not kinds or not manifest.prompts:
        return True
    return kinds <= set(manifest.prompts) and (manifest.combines or len(kinds) == 1)


def _describe_prompt_kinds(kinds: Iterable[PromptKind]) -> str:
    return " and ".join(_KIND_WORDS[kind] for kind in sorted(kinds))


def _prompt_choices(manifest: Manifest) -> str:
    joined = " and " if manifest.combines else " or "
    return joined.join(_KIND_WORDS[kind] for kind in manifest.prompts)


def _name_some(names: Sequence[str]) -> str:
    """The first of some names, as many as fit into a hint, and how many there are beside them."""
    shown, left_over = list[str](), _NAMED_CHARACTERS
    for name in names:
        if len(name) > left_over:
            break
        shown.append(name)
        left_over -= len(name)
    left = len(names) - len(shown)
    return ", ".join(shown) + (f" and {left} more" if left else "")


_KIND_WORDS: Mapping[PromptKind, str] = {"text": "words", "points": "points", "box": "a box", "mask": "a mask"}


def manifest_folder() -> Path:
    """Where the shipped manifests are: in the wheel inside the package, in a checkout at its top."""
    packaged = Path(__file__).parents[1] / "manifests"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "manifests"


def describe_writing_by_hand() -> str:
    """How somebody makes a manifest that cannot be drafted, with nothing but what is installed."""
    return f"write the manifest by hand, after one in {manifest_folder() / 'models'}; rotoscope models check tries it"


def load_catalog(shipped: Path, own: Path | None = None) -> Catalog:
    """Read the providers and all manifests; a user's manifest replaces a shipped one of the same id.

    A user's file that cannot be used is left out and named in `problems`: one typo must not stop the server.
    """
    providers = read_providers(shipped / "providers.toml")
    problems: list[str] = []
    if own is not None and (own / "providers.toml").is_file():
        try:
            _check_owner(own / "providers.toml")
            providers |= read_providers(own / "providers.toml")
        except InvalidInput as error:
            problems.append(error.message)
    models = {m.id: m for m in (read_manifest(f, providers) for f in sorted((shipped / "models").glob("*.toml")))}
    for file in sorted(own.glob("*.toml")) if own is not None else ():
        if file.name in _OTHER_FILES:
            continue
        try:
            _check_owner(file)
            manifest = read_manifest(file, providers)
        except InvalidInput as error:
            problems.append(error.message)
        else:
            models[manifest.id] = manifest
    if own is not None and (own / "prices.toml").is_file():
        try:
            _check_owner(own / "prices.toml")
            models |= apply_own_prices(own / "prices.toml", models)
        except InvalidInput as error:
            problems.append(error.message)
    return Catalog(providers, models, tuple(problems))


def _check_owner(file: Path) -> None:
    """Refuse a file that other users may write: a provider's file decides where a key is sent."""
    try:
        fault = find_fault(file, group_may_write=True)
    except OSError as error:
        raise InvalidInput(f"{file.name} cannot be read.", hint="Check its permissions.") from error
    if fault is not None:
        raise InvalidInput(f"{file.name} {fault}, so it is not read.", hint="Check who put it there, and its rights.")


def read_manifest(file: Path, providers: Mapping[str, Provider]) -> Manifest:
    """Read and check one manifest.

    Raises:
        InvalidInput: it cannot be read, or a fact in it is wrong; the message names the file and the fact.
    """
    manifest = validate_facts(Manifest, parse_toml(file), file)
    for route in manifest.routes:
        if route.provider not in providers:
            known = ", ".join(sorted(providers))
            raise InvalidInput(f"{file.name}: no provider {route.provider!r}.", hint=f"Known providers: {known}.")
    return manifest


class _Providers(BaseModel):
    model_config = ConfigDict(extra="forbid")
    providers: dict[str, Provider]


def read_providers(file: Path) -> dict[str, Provider]:
    """Read and check `providers.toml`.

    Raises:
        InvalidInput: it cannot be read, a fact in it is wrong, or a dialect that it names cannot be used.
    """
    from rotoscope.providers.dialects import make_dialect

    providers = validate_facts(_Providers, {"providers": parse_toml(file)}, file).providers
    for name, provider in providers.items():
        try:
            make_dialect(provider.dialect, provider.bases, version_path=provider.version_path)
        except InvalidInput as error:
            raise InvalidInput(f"{file.name}: {name}.dialect: {error.message}", hint=error.hint) from error
        if provider.forms:
            _check_forms(f"{file.name}: {name}.forms", provider)
    return providers


def _check_forms(place: str, provider: Provider) -> None:
    from rotoscope.models.manifest_check import REQUEST_FORMS

    known = REQUEST_FORMS.get(provider.dialect, {})
    strange = next((one for pair in provider.forms.items() for one in pair if known and one not in known), None)
    if strange is not None:
        message = f"{place}: {provider.dialect} has no request form {strange!r}."
        raise InvalidInput(message, hint=f"It has {', '.join(known)}.")
