"""Dialects: how each wire protocol is spoken. Pure code; nothing here opens a socket.

Three dialects are shipped. An installed package adds one by an entry point in the group `rotoscope.dialects`: its name
is the dialect's, its object a class with the methods of `Dialect` (see docs/add-a-provider.md).
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from rotoscope.errors import InvalidInput
from rotoscope.providers.dialects.base import Dialect, DialectBase, UploadFile, UploadPlan
from rotoscope.providers.dialects.fal import Fal
from rotoscope.providers.dialects.replicate import Replicate
from rotoscope.providers.dialects.segmind import Segmind

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "DIALECTS",
    "Dialect",
    "DialectBase",
    "UploadFile",
    "UploadPlan",
    "find_dialect",
    "make_dialect",
    "read_dialect_entry_points",
]

DIALECTS: Mapping[str, type[Dialect]] = {"replicate": Replicate, "fal": Fal, "segmind": Segmind}
"""The shipped dialects by name, as `dialect` in `providers.toml` names them. No installed package can replace one."""

_GROUP = "rotoscope.dialects"
_METHODS = tuple(name for name, value in vars(Dialect).items() if callable(value) and not name.startswith("_"))
_MAX_REASON_CHARS = 300  # characters


@cache
def read_dialect_entry_points() -> tuple["EntryPoint", ...]:
    """The dialects that installed packages offer; none of their code runs. Read once for each process."""
    from importlib.metadata import entry_points

    return tuple(sorted(set(entry_points(group=_GROUP)), key=lambda one: (one.name, one.value)))


def find_dialect(name: str, offers: Callable[[], Iterable["EntryPoint"]] = read_dialect_entry_points) -> type[Dialect]:
    """The dialect of a name: a shipped one, else that of an installed package, whose code is imported here.

    Args:
        name: as in `providers.toml`.
        offers: what installed packages offer; only asked for when the name is none of the shipped ones.

    Raises:
        InvalidInput: no package or more than one offers it, its module cannot be imported, or it is no dialect.
    """
    if name in DIALECTS:
        return DIALECTS[name]
    found = [one for one in offers() if one.name == name]
    if not found:
        raise InvalidInput(
            f"No dialect {name!r} is shipped or installed.",
            hint=f"Shipped are {', '.join(DIALECTS)}; others come from a package with the entry point group {_GROUP}.",
        )
    if len({one.value for one in found}) > 1:
        raise InvalidInput(
            f"Several packages offer the dialect {name!r}: {', '.join(one.value for one in found)}.",
            hint="Uninstall all but one.",
        )
    return _load_dialect(found[0])


def make_dialect(
    name: str,
    bases: Mapping[str, str],
    offers: Callable[[], Iterable["EntryPoint"]] = read_dialect_entry_points,
    *,
    version_path: str | None = None,
) -> Dialect:
    """The dialect of a name, made for a provider's base URLs.

    Args:
        name: as in `providers.toml`.
        bases: the base URLs by purpose.
        offers: what installed packages offer.
        version_path: what the provider's record says of the version in its base URL; None where it says nothing. Only a
            dialect with an attribute of that name takes it.

    Raises:
        InvalidInput: there is no such dialect, or it cannot be used (see `find_dialect`), or not with these base URLs.
    """
    found = find_dialect(name, offers)
    if version_path is not None and not hasattr(found, "version_path"):
        raise InvalidInput(f"The dialect {name} takes no version_path.", hint="Leave it out of providers.toml.")
    more = {} if version_path is None else {"version_path": version_path}
    try:
        return found(bases, **more)
    except Exception as error:  # code of an installed package: whatever it raises, that is the fault
        raise _broken_dialect_error(name, "made for its base URLs", error) from error


def _load_dialect(offer: "EntryPoint") -> type[Dialect]:
    try:
        found = offer.load()
    except Exception as error:  # code of an installed package: whatever it raises, that is the fault
        raise _broken_dialect_error(f"{offer.name} ({offer.value})", "imported", error) from error
    missing = [name for name in _METHODS if not callable(getattr(found, name, None))]
    if not isinstance(getattr(found, "price_metrics", None), Mapping):
        missing.append("price_metrics")
    if not isinstance(found, type) or missing:
        reason = f"it has no {', '.join(missing)}" if isinstance(found, type) else "it is no class"
        raise InvalidInput(
            f"The dialect {offer.name} ({offer.value}) cannot be used: {reason}.",
            hint="Update the package that has it, or remove it.",
        )
    dialect: type[Dialect] = found
    return dialect


def _broken_dialect_error(name: str, step: str, error: Exception) -> InvalidInput:
    reason = f"{type(error).__name__}: {error}"[:_MAX_REASON_CHARS]
    return InvalidInput(
        f"The dialect {name} cannot be {step}: {reason}.", hint="Correct or uninstall the package that it comes from."
    )
