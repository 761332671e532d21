"""What is known of one model, as checked data.

A manifest is a TOML file. Comments beside a fact say where it is from; what is only inferred is named in `inferred`,
so that programs see it too. An absent price means unknown, never free. The descriptions and examples beside the fields
are the source of docs/manifest.md and of manifests/model.schema.json.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from rotoscope.models.encoder_names import ENCODER_ALIASES, EncoderName, current_encoder_name
from rotoscope.models.film_limits import FilmLimits
from rotoscope.models.price import Price, Scalar
from rotoscope.models.provider import Count, FactRecord
from rotoscope.models.spelling import parse_size

__all__ = [
    "ENCODER_ALIASES",
    "JUDGING_MASK",
    "PROMPTED_TOOLS",
    "EncoderName",
    "Input",
    "Manifest",
    "MediaKind",
    "Outputs",
    "Price",
    "PromptKind",
    "Route",
    "Scalar",
    "Timing",
    "ToolName",
]

ToolName = Literal["segment_image", "describe_with_masks", "generate_video", "edit_video_with_mask", "segment_video"]
PromptKind = Literal["text", "points", "box", "mask"]
JUDGING_MASK = "(mask)"
"""The name of the input that a mask has which is not sent; no model has one of this name."""
_MAX_JUDGED_FRAMES = 2_000  # as many as of an edit are compared
PROMPTED_TOOLS = frozenset[ToolName]({"segment_image", "segment_video"})  # whose manifests name kinds of prompt
InputKind = Literal["string", "integer", "number", "boolean", "image", "video", "audio", "visual", "object"]
MediaKind = Literal["image", "still", "video", "audio", "visual", "mask"]
Seconds = Annotated[float, Field(gt=0, le=604_800)]  # at most a week
Inferred = Annotated[
    tuple[str, ...], Field(description="The facts of this table that no document states.", examples=[["maximum"]])
]
Note = Annotated[str, Field(description="What a reader should know beside the facts.")]
_MEDIA = frozenset({"image", "video", "audio", "visual"})


class Input(FactRecord):
    """One input of a model: what the provider takes, and which tool argument fills it."""

    kind: Annotated[
        InputKind,
        Field(
            description="The type of each value; `visual` is an image or a video, `object` JSON made by an encoder.",
            examples=["string"],
        ),
    ]
    many: Annotated[bool, Field(description="It is a list of such values.")] = False
    required: Annotated[bool, Field(description="The provider refuses a request without it.")] = False
    argument: Annotated[
        str | None,
        Field(
            description="The tool argument that fills it; without one, `send` or `options`. Where an input for images "
            "and one for videos have the same argument, the file's kind decides.",
            examples=["duration"],
        ),
    ] = None
    encode: Annotated[
        EncoderName | None,
        BeforeValidator(current_encoder_name),
        Field(description="The encoder that shapes the argument (see Encoders).", examples=["labelled_points"]),
    ] = None
    spelling: Annotated[
        str | None,
        Field(
            pattern=r"^[^{}]*\{\}[^{}]*$",
            description="How a number is written as text, `{}` for the number: 8 is sent as `8s`. "
            "On a number: how the argument may be written. Not needed where `choices` show it.",
            examples=["{}s"],
        ),
    ] = None
    default: Annotated[
        Scalar | list[Scalar] | None,
        Field(description="What the provider uses when the input is absent; shown, not sent.", examples=[5]),
    ] = None
    send: Annotated[Scalar | None, Field(description="What is sent when no argument fills it.", examples=["png"])] = (
        None
    )
    choices: Annotated[
        tuple[Scalar, ...],
        Field(
            description="The only values taken. A number argument fills the text of that number: 5 is `5` or `5s`.",
            examples=[["5", "10"]],
        ),
    ] = ()
    aliases: Annotated[
        Mapping[str, Scalar],
        Field(
            description="Other spellings of an argument, with what is sent; numbers and booleans as text.",
            examples=[{"fast": "Juiced (more speed)", "-1": "auto"}],
        ),
    ] = {}
    minimum: Annotated[float | None, Field(description="The least number taken.", examples=[4])] = None
    maximum: Annotated[float | None, Field(description="The greatest number taken.", examples=[15])] = None
    also: Annotated[
        tuple[int, ...], Field(description="Numbers outside the range that are taken too.", examples=[[-1]])
    ] = ()
    step: Annotated[
        Count | None, Field(description="The number is a multiple of this, plus `offset`.", examples=[4])
    ] = None
    offset: Annotated[int, Field(description="See `step`.", examples=[1])] = 0
    max_length: Annotated[
        Count | None, Field(description="The most characters of a text, after encoding.", examples=[2000])
    ] = None
    max_items: Annotated[Count | None, Field(description="The most items of a list.", examples=[9])] = None
    max_total_seconds: Annotated[
        Seconds | None, Field(description="How long all media of the input may last together.", examples=[15])
    ] = None
    film: Annotated[
        FilmLimits | None,
        Field(description="What a film of it must be: the `[inputs.NAME.film]` table (see FilmLimits)."),
    ] = None
    max_frames: Annotated[Count | None, Field(description="How many frames a film of it may have.", examples=[600])] = (
        None
    )
    fits: Annotated[
        Literal["size", "frames", "seconds"] | None,
        Field(
            description="Unless the user says otherwise it follows the edited video, in size, number of frames, or "
            'whole seconds (with `argument = "duration"`, which the tool need not have).',
            examples=["size"],
        ),
    ] = None
    covers: Annotated[
        str | None, Field(description="The input that this one is a mask of.", examples=["src_video"])
    ] = None
    polarity: Annotated[
        Literal["white", "black"],
        Field(
            description="Which part of a mask the model edits. Users always give one that is white where the video is "
            "edited; for `black` it is sent the other way round.",
            examples=["black"],
        ),
    ] = "white"
    drawn: Annotated[
        bool, Field(description="The seed: an integer that is drawn, within the range, when the user gives none.")
    ] = False
    needs: Annotated[
        tuple[str, ...], Field(description="Inputs that must all be given beside it.", examples=[["image"]])
    ] = ()
    needs_any: Annotated[
        tuple[str, ...],
        Field(description="Inputs of which one must be given beside it.", examples=[["image", "reference_videos"]]),
    ] = ()
    excludes: Annotated[
        tuple[str, ...], Field(description="Inputs that must not be given beside it.", examples=[["reference_images"]])
    ] = ()
    inferred: Inferred = ()
    note: Note = ""

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
    def _check_polarity(self) -> Self:
        if self.polarity != "white" and self.covers is None:
            raise ValueError("polarity is of a mask: say in covers what it is a mask of")
        return self

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum:g} is more than maximum {self.maximum:g}")
        return self

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.fits != "size":
            return self
        sizes = (*self.choices, self.default)
        wrong = next((one for one in sizes if not isinstance(one, str) or parse_size(one) is None), None)
        if wrong is not None or not self.choices or self.default is None:
            raise ValueError('with fits = "size", choices and default must be sizes such as "832*480"')
        return self


class Outputs(FactRecord):
    """Where the results are in the output: paths of `$`, dotted keys and `[]`, nothing else."""

    masks: Annotated[
        str | None,
        Field(
            description="One picture or many; each is a mask, or the picture with a mask painted on it.",
            examples=["masks[]"],
        ),
    ] = None
    scores: Annotated[
        str | None,
        Field(description="How sure the model is of each mask, 0 to 1, in their order.", examples=["scores[]"]),
    ] = None
    text: Annotated[
        str | None,
        Field(description="The model's text, in the Sa2VA form where it has phrases.", examples=["output"]),
    ] = None
    video: Annotated[str | None, Field(description="The finished video.", examples=["$"])] = None
    mask_film: Annotated[
        str | None, Field(description="A film, white where the object is; a painted one is none.", examples=["video"])
    ] = None
    rle: Annotated[
        str | None, Field(description="Run lengths by frame, or a file of them; before `mask_film`.", examples=["rle"])
    ] = None
    frame: Annotated[
        Literal["stored", "upright"] | None,
        Field(
            description="Whether masks lie as the photo is stored, or upright by its EXIF data; absent: not known.",
            examples=["stored"],
        ),
    ] = None
    frame_rate: Annotated[
        Annotated[float, Field(gt=0, le=1000)] | None,
        Field(description="Frames a second; absent where it follows the edited video.", examples=[16]),
    ] = None
    sound: Annotated[
        bool | None, Field(description="Whether the video has sound; absent: not known.", examples=[False])
    ] = None
    inferred: Inferred = ()
    note: Note = ""


class Timing(FactRecord):
    """How long a run usually takes, and after how long it is given up, in seconds."""

    typical_seconds: Annotated[Seconds, Field(description="How long a run usually takes.", examples=[4])]
    deadline_seconds: Annotated[
        int, Field(ge=1, le=604_800, description="After how long the run is given up.", examples=[600])
    ]
    cold_start_seconds: Annotated[
        Annotated[float, Field(ge=0, le=604_800)] | None,
        Field(description="How long a machine takes to start before the run.", examples=[68]),
    ] = None
    varies_with: Annotated[
        tuple[str, ...],
        Field(
            description="The inputs that decide how long a run takes; past runs are remembered by their values.",
            examples=[["resolution", "duration"]],
        ),
    ] = ()
    inferred: Inferred = ()
    note: Note = ""


class Route(FactRecord):
    """One way to the model: a provider, its name there, the request form, and what is different there."""

    provider: Annotated[str, Field(description="A provider of `providers.toml`.", examples=["fal"])]
    endpoint: Annotated[str, Field(description="The model's name there.", examples=["fal-ai/sam2/image"])]
    endpoint_with: Annotated[
        Mapping[str, str],
        Field(
            description="Other names there by an input that is given; the first one that is given counts.",
            examples=[{"image_url": "bytedance/seedance-2.0/image-to-video"}],
        ),
    ] = {}
    form: Annotated[str, Field(description="The request form (see Request forms).", examples=["queue"])] = ""
    version: Annotated[
        str | None, Field(description="The version, where the form needs one.", examples=["ccf8e58352ce5b2a"])
    ] = None
    inputs: Annotated[
        Mapping[str, Input] | None,
        Field(description="Its inputs there, in place of the manifest's: `[routes.inputs.NAME]` tables (see Input)."),
    ] = None
    outputs: Annotated[
        Outputs | None,
        Field(description="Where the results are there, in place of the manifest's: the `[routes.outputs]` table."),
    ] = None
    timing: Annotated[
        Timing | None,
        Field(description="How long it takes there, in place of the manifest's: the `[routes.timing]` table."),
    ] = None
    price: Annotated[
        Price | None,
        Field(description="What it costs there, in place of the manifest's: the `[routes.price]` table (see Price)."),
    ] = None
    example: Annotated[
        Mapping[str, JsonValue] | None,
        Field(description="Inputs as that provider's page shows them: the `[routes.example]` table."),
    ] = None
    note: Note = ""

    def endpoint_for(self, filled: Mapping[str, object]) -> str:
        """The model's name there for a request with these inputs."""
        return next((named for given, named in self.endpoint_with.items() if filled.get(given)), self.endpoint)

    @property
    def endpoints(self) -> frozenset[str]:
        """Every name that the model has there."""
        return frozenset({self.endpoint, *self.endpoint_with.values()})


class Manifest(FactRecord):
    """Everything that is known of one model."""

    id: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,100}$",
            description="The name by which the model is chosen; of equal ones the user's file wins.",
            examples=["bytedance/seedance-2.0"],
        ),
    ]
    title: Annotated[str, Field(description="Its name for people.", examples=["Seedance 2.0"])]
    tool: Annotated[ToolName, Field(description="The tool that it serves.", examples=["generate_video"])]
    rank: Annotated[
        int, Field(description="Without a model named, the lowest fitting rank is used.", examples=[10])
    ] = 100
    prompts: Annotated[
        tuple[PromptKind, ...],
        Field(
            description="For `segment_image` and `segment_video`: the kinds of prompt it takes; empty: all.",
            examples=[["points", "box"]],
        ),
    ] = ()
    combines: Annotated[bool, Field(description="It takes several kinds of prompt in one request.")] = False
    routes: Annotated[
        tuple[Route, ...],
        Field(min_length=1, description="The ways to it, best first: `[[routes]]` tables (see Route)."),
    ]
    inputs: Annotated[Mapping[str, Input], Field(description="Its inputs by name: `[inputs.NAME]` tables (see Input).")]
    outputs: Annotated[Outputs, Field(description="Where the results are: the `[outputs]` table (see Outputs).")]
    timing: Annotated[Timing, Field(description="How long it takes: the `[timing]` table (see Timing).")]
    price: Annotated[
        Price | None,
        Field(description="What it costs, on routes without a price of their own: the `[price]` table (see Price)."),
    ] = None
    example: Annotated[
        Mapping[str, JsonValue],
        Field(description="Inputs as the provider's page shows them; `rotoscope models check` prints the request."),
    ]
    source: Annotated[
        str, Field(description="Where the facts are from.", examples=["the fal page of fal-ai/sam2/image"])
    ]
    notes: Annotated[tuple[str, ...], Field(description="What a user of the model should know.")] = ()

    def at(self, route: Route) -> "Manifest":
        """The model as one of its routes has it: that route alone, with what is different there."""
        changed = ("inputs", "outputs", "timing", "price", "example")
        own = {name: value for name in changed if (value := getattr(route, name)) is not None}
        if self.routes == (route,) and not own:
            return self
        return self.model_copy(update={"routes": (route,), **own})

    @property
    def edits_by_words(self) -> bool:
        """Whether it edits a video and takes no mask of what is to be edited."""
        return self.tool == "edit_video_with_mask" and all(one.argument != "mask" for one in self.inputs.values())

    def with_judging_mask(self) -> "Manifest":
        """The same model as if it took a mask of the edited video: for a mask that is checked and kept, never sent."""
        edited = next((name for name, field in self.inputs.items() if field.argument == "video"), None)
        mask = Input(kind="visual", argument="mask", covers=edited, max_frames=_MAX_JUDGED_FRAMES)
        return self.model_copy(update={"inputs": {**self.inputs, JUDGING_MASK: mask}})

    @model_validator(mode="after")
    def _check_input_names(self) -> Self:
        for route in self.routes:
            view = self.at(route)
            named = {
                name for field in view.inputs.values() for name in (*field.needs, *field.needs_any, *field.excludes)
            }
            named |= {field.covers for field in view.inputs.values() if field.covers} | set(route.endpoint_with)
            named |= view.price.input_names if view.price is not None else frozenset()
            strange = (named | set(view.example) | set(view.timing.varies_with)) - set(view.inputs)
            if strange:
                raise ValueError(f"no such input: {', '.join(sorted(strange))}")
        return self
