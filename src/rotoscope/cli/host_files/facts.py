"""What the files for hosts say, from where it stands: pyproject.toml, the contracts, the prompts, the environment.

Nothing here has the value of a key: variables are named, never read.
"""

import inspect
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from rotoscope.contracts.tools import TOOLS
from rotoscope.environment import SETTINGS
from rotoscope.models.catalog import manifest_folder, read_providers
from rotoscope.models.provider import Provider
from rotoscope.network_environment import NETWORK_SETTINGS
from rotoscope.server.prompts import PROMPTS
from rotoscope.variables import Setting

__all__ = ["CHECKOUT", "NO_OWNER", "ProjectFacts", "Prompt", "Tool", "Variable", "read_facts", "read_keys"]

NO_OWNER = "OWNER"
"""Stands in pyproject.toml until it is known who publishes the project; no release has it."""

CHECKOUT = Path(__file__).parents[4]
"""The top of the repository, when this runs in one."""

_SHARED = frozenset(setting.name for setting in NETWORK_SETTINGS)  # of a server that others reach; no host starts one
_FORMATS: Mapping[str, Literal["number", "filepath"]] = {
    "ROTOSCOPE_HOME": "filepath",
    "ROTOSCOPE_SANDBOX_WEIGHTS": "filepath",
    "ROTOSCOPE_INLINE_SECONDS": "number",
    "ROTOSCOPE_RESEND_BELOW_USD": "number",
    "ROTOSCOPE_RETENTION_DAYS": "number",
}
_CHOICES: Mapping[str, tuple[str, ...]] = {"ROTOSCOPE_UNPRICED": ("ask", "run", "refuse")}
_TITLES: Mapping[str, str] = {
    "ROTOSCOPE_HOME": "Folder of results",
    "ROTOSCOPE_MAX_USD_PER_CALL": "Most that one run may cost (USD)",
    "ROTOSCOPE_MAX_USD_PER_DAY": "Most that a day may cost (USD)",
}
_VALUE = re.compile(r"`([^`~]+)`")
_SECRETS = frozenset({"ROTOSCOPE_DATABASE_URL"})  # it may hold a password


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable that a person may set; none has to be.

    Attributes:
        name: as in the environment.
        title: in a few words, for a form; the name, where no form has it.
        meaning: one or two sentences in plain text.
        is_secret: hosts hide what is typed, and keep it apart.
        needs_more: it does nothing without a second variable, so nobody is asked for it unasked.
        format: how its text is read.
        default: what holds without it, where that is a value.
        choices: the values that it takes, where they are few.
    """

    name: str
    title: str
    meaning: str
    is_secret: bool = False
    needs_more: bool = False
    format: Literal["string", "number", "filepath"] = "string"
    default: str | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as it is listed."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as it is listed.

    Attributes:
        name: of the prompt.
        description: one sentence.
        arguments: those that it needs.
        function: makes its text.
    """

    name: str
    description: str
    arguments: tuple[str, ...]
    function: Callable[..., str]


@dataclass(frozen=True, slots=True)
class ProjectFacts:
    """Everything that a file for a host says.

    Attributes:
        version, description, author, licence, keywords: of the project.
        owner: the GitHub account that publishes it, or `NO_OWNER`.
        hosts: that the server reaches, while nobody sets another base URL.
        keys: the providers' keys, and the addresses that some of them need.
        settings: what decides about a server on one's own machine.
        tools, prompts: of a server over stdio.
    """

    version: str
    description: str
    author: str
    licence: str
    keywords: tuple[str, ...]
    owner: str
    hosts: tuple[str, ...]
    keys: tuple[Variable, ...]
    settings: tuple[Variable, ...]
    tools: tuple[Tool, ...]
    prompts: tuple[Prompt, ...]

    @property
    def repository(self) -> str:
        """Where the project is developed; "" until it is known who publishes it, and then nothing links there."""
        return "" if self.owner == NO_OWNER else f"https://github.com/{self.owner}/rotoscope"


def read_facts(top: Path = CHECKOUT) -> ProjectFacts:
    """The facts of a checkout.

    Args:
        top: the folder of pyproject.toml.
    """
    whole = tomllib.loads((top / "pyproject.toml").read_text(encoding="utf-8"))
    project = whole["project"]
    return ProjectFacts(
        version=project["version"],
        description=project["description"],
        author=project["authors"][0]["name"],
        licence=project["license"],
        keywords=tuple(project["keywords"]),
        owner=whole["tool"]["rotoscope"]["owner"],
        hosts=tuple(sorted(set().union(*map(_hosts_of, _read_providers())))),
        keys=read_keys(),
        settings=tuple(_setting_variable(one) for one in SETTINGS if one.name not in _SHARED),
        tools=tuple(Tool(name, contract.description) for name, contract in TOOLS.items()),
        prompts=tuple(_prompt_of(function) for _, function in PROMPTS),
    )


def read_keys() -> tuple[Variable, ...]:
    """The providers' keys, the first name of each; before the key of one that has no host of its own, its address."""
    return tuple(variable for provider in _read_providers() for variable in _provider_variables(provider))


def _read_providers() -> tuple[Provider, ...]:
    return tuple(read_providers(manifest_folder() / "providers.toml").values())


def _hosts_of(provider: Provider) -> set[str]:
    bases = () if provider.base_required else tuple(urlsplit(base).hostname or "" for base in provider.bases.values())
    return {*bases, *provider.output_hosts, *provider.upload_hosts}


def _provider_variables(provider: Provider) -> tuple[Variable, ...]:
    title, is_apart = provider.title, provider.base_required
    key = Variable(
        provider.key_variables[0],
        f"{title} key",
        f"Key for {title}. Without any key the built-in sandbox answers.",
        is_secret=True,
        needs_more=is_apart,
    )
    if not is_apart:
        return (key,)
    meaning = f"Base URL of the {title}, with its path; needed beside the key."
    return (Variable(provider.base_variable, f"{title} address", meaning, needs_more=True), key)


def _setting_variable(setting: Setting) -> Variable:
    # A default in words, or below the user's home, is for people: as a value it would stand in the way.
    value = _VALUE.fullmatch(setting.default)
    return Variable(
        setting.name,
        _TITLES.get(setting.name, setting.name),
        setting.meaning.replace("`", ""),
        is_secret=setting.name in _SECRETS,
        format=_FORMATS.get(setting.name, "string"),
        default=value[1] if value else None,
        choices=_CHOICES.get(setting.name, ()),
    )


def _prompt_of(function: Callable[..., str]) -> Prompt:
    parameters = inspect.signature(function).parameters.values()
    needed = tuple(one.name for one in parameters if one.default is inspect.Parameter.empty)
    return Prompt(function.__name__, inspect.getdoc(function) or "", needed, function)
