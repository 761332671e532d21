"""What is known of one provider, as checked data: one table of `providers.toml`.

The descriptions and examples beside the fields are the source of docs/manifest.md.
"""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Auth", "Count", "FactRecord", "Provider"]

DialectName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")]  # shipped, or of an installed package
BaseUrl = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9\[][!-~]{0,2000}$")]
HostPattern = Annotated[str, Field(pattern=r"^(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]
Bytes = Annotated[int, Field(ge=0, le=1_000_000_000_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
RetentionSeconds = Annotated[int, Field(ge=1, le=3_153_600_000)]  # seconds; at most a century


class FactRecord(BaseModel):
    """The base of every table of a manifest and of `providers.toml`: unknown names are refused."""

    # TOML has nan and inf: no cap holds against the one, and no clock reaches the other.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Auth(FactRecord):
    """The header that carries a provider's key."""

    header: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9-]{1,100}$", description="The header's name.", examples=["Authorization"])
    ]
    prefix: Annotated[
        str, Field(pattern=r"^[ -~]{0,100}$", description="What stands before the key.", examples=["Bearer "])
    ]


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

    @property
    def setup_variables(self) -> str:
        """The variables that must be set before it can be used."""
        key = self.key_variables[0]
        return f"{key} and {self.base_variable}" if self.base_required else key
