"""What we know of one model and of one provider, as checked data.

A manifest is a TOML file. Comments beside a fact say where it is from; what is only inferred is named in `inferred`,
so that programs see it too. An absent price means unknown, never free.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

__all__ = [
    "Auth",
    "EncoderName",
    "Input",
    "Manifest",
    "Outputs",
    "Price",
    "PromptKind",
    "Provider",
    "Route",
    "Timing",
    "ToolName",
]

ToolName = Literal["segment_image", "describe_with_masks", "generate_video", "edit_video_with_mask"]
PromptKind = Literal["text", "points", "box"]
InputKind = Literal["string", "integer", "number", "boolean", "image", "video", "audio", "visual", "object"]
EncoderName = Literal["kept_points_text", "dropped_points_text", "labelled_points", "corner_box", "asking_for_masks"]
DialectName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")]  # shipped, or of an installed package
BaseUrl = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9\[][!-~]{0,2000}$")]
HostPattern = Annotated[str, Field(pattern=r"^(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]
Scalar = bool | int | float | str
Seconds = Annotated[float, Field(gt=0, le=604_800)]  # at most a week
Bytes = Annotated[int, Field(ge=0, le=1_000_000_000_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
RetentionSeconds = Annotated[int, Field(ge=1, le=3_153_600_000)]  # seconds; at most a century
_MEDIA = frozenset({"image", "video", "audio", "visual"})


class _ManifestRecord(BaseModel):
    # TOML has nan and inf: no cap holds against the one, and no clock reaches the other.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Auth(_ManifestRecord):
    """The header that carries a provider's key, and what stands before the key in it."""

    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,100}$")]
    prefix: Annotated[str, Field(pattern=r"^[ -~]{0,100}$")]


class Provider(_ManifestRecord):
    """Where a provider is spoken to, with which key, in which dialect, and what it can do."""

    title: str
    dialect: DialectName
    bases: Mapping[str, BaseUrl]
    base_variable: str
    base_required: bool = False
    key_variables: Annotated[tuple[str, ...], Field(min_length=1)]
    auth: Auth
    output_hosts: tuple[HostPattern, ...]
    upload_hosts: tuple[HostPattern, ...] = ()
    can_cancel: bool
    can_upload: bool
    can_list: bool = False
    at_once: Count | None = None
    inline_bytes: Bytes
    upload_bytes: Bytes | None = None
    output_seconds: RetentionSeconds | None = None
    large_answer_seconds: RetentionSeconds | None = None
    list_seconds: RetentionSeconds | None = None
    list_note: str = ""
    source: str

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


class Input(_ManifestRecord):
    """One input of a model: what the provider takes, and which tool argument fills it.

    Attributes:
        kind: of each value; `visual` is an image or a video, `object` is JSON that an encoder makes.
        many: whether it is a list.
        argument: the tool argument that fills it; without one, only `send` does.
        encode: the named encoder that shapes the argument (see `models.plan`).
        default: what the provider uses when the input is absent: told, not sent.
        send: what we send when no argument fills it.
        also: values outside the range that are taken too, such as -1 for "automatic".
        step: the value is a multiple of this, plus `offset`.
        fits: it follows the video that is edited, in size or in number of frames, unless the user says otherwise.
        covers: the input that this one is a mask of.
        drawn: an integer that we draw when the user gives none (the seed).
        needs, needs_any, excludes: other inputs of this model.
        inferred: the facts above that no document states.
    """

    kind: InputKind
    many: bool = False
    required: bool = False
    argument: str | None = None
    encode: EncoderName | None = None
    default: Scalar | list[Scalar] | None = None
    send: Scalar | None = None
    choices: tuple[Scalar, ...] = ()
    aliases: Mapping[str, Scalar] = {}
    minimum: float | None = None
    maximum: float | None = None
    also: tuple[int, ...] = ()
    step: Count | None = None
    offset: int = 0
    max_length: Count | None = None
    max_items: Count | None = None
    max_total_seconds: Seconds | None = None
    fits: Literal["size", "frames"] | None = None
    covers: str | None = None
    drawn: bool = False
    needs: tuple[str, ...] = ()
    needs_any: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    inferred: tuple[str, ...] = ()
    note: str = ""

    @property
    def is_media(self) -> bool:
        """Whether its values are files."""
        return self.kind in _MEDIA

    def canonical_choice(self, given: str) -> str:
        """A choice or alias as the manifest spells it, if the text is one but for case and blanks at its ends.

        A text that could be either of two is neither; any other text is left as it is.
        """
        offered = [*self.aliases, *(choice for choice in self.choices if isinstance(choice, str))]
        if given in offered:
            return given
        meant = given.strip().casefold()
        same = [one for one in dict.fromkeys(offered) if one.strip().casefold() == meant]
        return same[0] if len({self.aliases.get(one, one) for one in same}) == 1 else given

    @model_validator(mode="after")
    def _check_inferred_names(self) -> Self:
        strange = set(self.inferred) - set(type(self).model_fields)
        if strange:
            raise ValueError(f"inferred names no fact: {', '.join(sorted(strange))}")
        return self

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum:g} is more than maximum {self.maximum:g}")
        return self


class Outputs(_ManifestRecord):
    """Where the results are in the output: paths of `$`, dotted keys and `[]`, nothing cleverer.

    Attributes:
        masks: one picture or many; each is a mask, or the picture with a mask painted on it.
        text: the model's words, in the Sa2VA form where it has phrases.
        video: the finished video.
        frame: how the model sees a photo that its EXIF data turn, and so how its masks lie: as it is `stored`, or
            `upright`; absent where nobody knows.
        frame_rate: of the video, in frames a second; absent where it follows the video that is edited.
        sound: whether the video has sound; absent where nobody knows.
    """

    masks: str | None = None
    text: str | None = None
    video: str | None = None
    frame: Literal["stored", "upright"] | None = None
    frame_rate: Annotated[float, Field(gt=0, le=1000)] | None = None
    sound: bool | None = None
    inferred: tuple[str, ...] = ()
    note: str = ""


class Price(_ManifestRecord):
    """What a run costs, as far as a document says so: for each run, second of output, or second that it takes.

    0 is for what really costs nothing, such as a model of one's own; an unknown price is left out.
    """

    unit: Literal["run", "output_second", "run_second"]
    usd: Annotated[float, Field(ge=0, le=1_000_000, strict=True)]
    seen: str
    note: str = ""


class Timing(_ManifestRecord):
    """How long a run usually takes, and after how long we give up, in seconds.

    Attributes:
        varies_with: the inputs that decide how long a run takes; past runs are remembered by their values.
    """

    typical_seconds: Seconds
    deadline_seconds: Annotated[int, Field(ge=1, le=604_800)]
    cold_start_seconds: Annotated[float, Field(ge=0, le=604_800)] | None = None
    varies_with: tuple[str, ...] = ()
    inferred: tuple[str, ...] = ()
    note: str = ""


class Route(_ManifestRecord):
    """One way to the model: a provider, its name there and the request form."""

    provider: str
    endpoint: str
    form: str = ""
    version: str | None = None
    note: str = ""


class Manifest(_ManifestRecord):
    """Everything we know of one model.

    Attributes:
        rank: fitting models are tried in ascending rank when the user names none.
        prompts: the kinds of prompt it takes; `combines` says whether in one request.
        example: an input that is sent as is by `rotoscope models check`.
    """

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,100}$")]
    title: str
    tool: ToolName
    rank: int = 100
    prompts: tuple[PromptKind, ...] = ()
    combines: bool = False
    routes: Annotated[tuple[Route, ...], Field(min_length=1)]
    inputs: Mapping[str, Input]
    outputs: Outputs
    timing: Timing
    price: Price | None = None
    example: Mapping[str, JsonValue]
    source: str
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_input_names(self) -> Self:
        named = {name for field in self.inputs.values() for name in (*field.needs, *field.needs_any, *field.excludes)}
        named |= {field.covers for field in self.inputs.values() if field.covers}
        strange = (named | set(self.example) | set(self.timing.varies_with)) - set(self.inputs)
        if strange:
            raise ValueError(f"no such input: {', '.join(sorted(strange))}")
        return self
