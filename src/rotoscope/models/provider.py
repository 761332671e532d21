"""What is known of one provider, as checked data: one table of `providers.toml`.

The descriptions and examples beside the fields are the source of docs/manifest.md.
"""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Auth", "Count", "FactRecord", "Header", "Provider"]

DialectName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")]  # shipped, or of an installed package
BaseUrl = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9\[][!-~]{0,2000}$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,100}$")]
HeaderText = Annotated[str, Field(pattern=r"^[ -~]{0,100}$")]
HostPattern = Annotated[str, Field(pattern=r"^(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]
Bytes = Annotated[int, Field(ge=0, le=1_000_000_000_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
RetentionSeconds = Annotated[int, Field(ge=1, le=3_153_600_000)]  # seconds; at most a century
# Headers that the request itself has: another value would change where it goes, or what the other side reads.
_OWN_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "accept-encoding", "cookie"}
)


class FactRecord(BaseModel):
    """The base of every table of a manifest and of `providers.toml`: unknown names are refused."""

    # TOML has nan and inf: no cap holds against the one, and no clock reaches the other.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Auth(FactRecord):
    """The header that carries a provider's key."""

    header: Annotated[HeaderName, Field(description="The header's name.", examples=["Authorization"])]
    prefix: Annotated[HeaderText, Field(description="What stands before the key.", examples=["Bearer "])]


class Header(FactRecord):
    """One more header, which goes wherever the key goes: a second key out of a variable, or a fixed value."""

    variable: Annotated[
        str,
        Field(
            pattern=r"^([A-Za-z_][A-Za-z0-9_]{0,199})?$",
            description="Variable that holds its value; it is treated as a key, and must be set.",
            examples=["CF_AIG_TOKEN"],
        ),
    ] = ""
    prefix: Annotated[HeaderText, Field(description="What stands before that value.", examples=["Bearer "])] = ""
    value: Annotated[
        HeaderText, Field(description="A value that is no secret, instead of a variable.", examples=["replicate"])
    ] = ""

    @model_validator(mode="after")
    def _require_one_value(self) -> Self:
        if bool(self.variable) == bool(self.value):
            raise ValueError("it has either a variable or a value")
        if self.value and self.prefix:
            raise ValueError("a prefix stands before a variable's value alone")
        return self


class Provider(FactRecord):
    """One table of `providers.toml`: where a provider is, with which key, in which dialect, and what it can do."""

    title: Annotated[str, Field(description="Its name for people.", examples=["Replicate"])]
    dialect: Annotated[DialectName, Field(description="The wire protocol that it speaks.", examples=["replicate"])]
    bases: Annotated[
        Mapping[str, BaseUrl],
        Field(
            description="Base URLs by purpose; `api` is required and receives the paying request.",
            examples=[{"api": "https://api.replicate.com"}],
        ),
    ]
    base_variable: Annotated[
        str, Field(description="Variable for another base URL; trusted.", examples=["REPLICATE_BASE_URL"])
    ]
    version_path: Annotated[
        str | None,
        Field(
            pattern=r"^(/[A-Za-z0-9._-]{1,100})?$",
            description="The version that the base URL ends in, added where it does not; empty: the base URL is whole "
            "as it stands. Absent: the dialect's own, unless the path has one anywhere.",
            examples=["/v1"],
        ),
    ] = None
    forms: Annotated[
        Mapping[str, str],
        Field(description="Request forms of routes that it takes as another one.", examples=[{"official": "version"}]),
    ] = {}
    base_required: Annotated[
        bool, Field(description="There is no host to assume: the base URL must be set beside the key.")
    ] = False
    key_variables: Annotated[
        tuple[str, ...],
        Field(
            min_length=1,
            description="Variables that may hold the key; the first one set counts. `A+B`: two hold its halves.",
            examples=[["FAL_KEY", "FAL_KEY_ID+FAL_KEY_SECRET"]],
        ),
    ]
    auth: Annotated[
        Auth, Field(description="How the key travels.", examples=[{"header": "Authorization", "prefix": "Bearer "}])
    ]
    headers: Annotated[
        Mapping[HeaderName, Header],
        Field(
            description="More headers, by name, that go with the key.",
            examples=[{"cf-aig-authorization": {"variable": "CF_AIG_TOKEN", "prefix": "Bearer "}}],
        ),
    ] = {}
    output_hosts: Annotated[
        tuple[HostPattern, ...],
        Field(description="Hosts that outputs may be downloaded from.", examples=[["fal.media", "*.fal.media"]]),
    ]
    upload_hosts: Annotated[
        tuple[HostPattern, ...],
        Field(description="Hosts that a file may be uploaded to, without the key.", examples=[["*.fal.media"]]),
    ] = ()
    can_cancel: Annotated[bool, Field(description="A run can be cancelled.")]
    can_upload: Annotated[bool, Field(description="Files can be uploaded before the run.")]
    can_list: Annotated[
        bool, Field(description="It lists recent runs with their input: a lost reply is found again.")
    ] = False
    webhooks: Annotated[
        bool,
        Field(
            description="It calls an address of ours when a run has ended, signed as its dialect expects; a gateway's "
            "record says so of the gateway itself."
        ),
    ] = False
    stops_at_deadline: Annotated[
        bool, Field(description="It ends a run at the deadline that is sent with it, which bounds computing time.")
    ] = False
    at_once: Annotated[
        Count | None, Field(description="How many jobs may run there at once; absent: no limit.", examples=[10])
    ] = None
    inline_bytes: Annotated[
        Bytes, Field(description="Up to this size a file may travel as a data URI.", examples=[256000])
    ]
    upload_bytes: Annotated[
        Bytes | None, Field(description="The largest file it takes; absent: no known limit.", examples=[100000000])
    ] = None
    output_seconds: Annotated[
        RetentionSeconds | None, Field(description="How long outputs are kept; absent: not known.", examples=[3600])
    ] = None
    large_answer_seconds: Annotated[
        RetentionSeconds | None, Field(description="The same for a large answer, where shorter.", examples=[360])
    ] = None
    list_seconds: Annotated[
        RetentionSeconds | None, Field(description="How long a run is listed; absent: not known.", examples=[7200])
    ] = None
    list_note: Annotated[
        str, Field(description="What is not known of the list, for the person who reviews a lost reply.")
    ] = ""
    source: Annotated[str, Field(description="Where the facts are from.", examples=["https://replicate.com/docs"])]

    @model_validator(mode="after")
    def _require_api_base(self) -> Self:
        if "api" not in self.bases:
            message = "bases.api is missing: it receives the paying request"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _check_header_names(self) -> Self:
        names = [name.lower() for name in (self.auth.header, *self.headers)]
        wrong = next((name for name in names if name in _OWN_HEADERS or names.count(name) > 1), None)
        if wrong is not None:
            raise ValueError(f"the header {wrong} belongs to the request itself, or is named twice")
        return self

    @property
    def setup_variables(self) -> str:
        """The variables that must be set before it can be used."""
        more = [header.variable for header in self.headers.values() if header.variable]
        return " and ".join([self.key_variables[0], *more, *([self.base_variable] if self.base_required else [])])

    @property
    def shown_headers(self) -> Mapping[str, str]:
        """The headers that go with a request, with the name of its variable in place of every key."""
        more = {name: one.value or f"{one.prefix}${one.variable}" for name, one in self.headers.items()}
        return {self.auth.header: f"{self.auth.prefix}${self.key_variables[0]}", **more}

    def form_of(self, form: str) -> str:
        """The request form in which this provider takes a route's."""
        return self.forms.get(form, form)
