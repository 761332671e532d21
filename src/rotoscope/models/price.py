"""What a run costs, as checked data: the `[price]` table of a manifest or of one of its routes.

A rule of the provider is written down once: a unit, what a number of units costs, tiers and factors by the values of
inputs, a least amount, and what can exceed it. An amount that nobody has read is not written: `unit = "unknown"`.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rotoscope.models.provider import FactRecord

__all__ = ["FrameSize", "Price", "PriceFactor", "PriceTier", "PriceUnit", "Scalar"]

Scalar = bool | int | float | str
PriceUnit = Literal[
    "run", "run_second", "output_second", "output_frame", "input_frame", "token", "megapixel", "unknown"
]
Usd = Annotated[float, Field(ge=0, le=1_000_000, strict=True)]
Conditions = Annotated[
    Mapping[str, Scalar],
    Field(
        min_length=1,
        description="Inputs with the value that each has, sent or by default; for files and lists `true` is given, "
        "`false` not.",
        examples=[{"resolution": "480p"}],
    ),
]
_FRAME_UNITS = ("token", "megapixel")


class PriceTier(FactRecord):
    """Another price for some values of inputs; the first tier that fits counts."""

    when: Conditions
    usd: Annotated[Usd, Field(description="US dollars, in place of those of the price.", examples=[0.08])]


class PriceFactor(FactRecord):
    """A factor for some values of inputs; every one that fits counts."""

    when: Conditions
    times: Annotated[float, Field(gt=0, le=1000, description="The price is multiplied by this.", examples=[0.6])]


class FrameSize(FactRecord):
    """How many pixels a frame of the output has, by the value of an input."""

    input: Annotated[str, Field(description="The input that decides it.", examples=["resolution"])]
    pixels: Annotated[
        Mapping[str, Annotated[int, Field(ge=1, le=1_000_000_000)]],
        Field(
            min_length=1,
            description="Pixels of a frame for each value, as text; another value counts as the largest.",
            examples=[{"480p": 428544, "720p": 921600}],
        ),
    ]


class Price(FactRecord):
    """What a run costs, as far as a document says so. Leave the table out where the price is not known.

    0 is for what really costs nothing, such as a model of one's own; a provider that publishes 0 has not said its
    price.
    """

    unit: Annotated[
        PriceUnit,
        Field(
            description="What is counted: each run; each second that the run takes (the price of the hardware); each "
            "second or frame of output; each frame of the edited video; each token, which is width * height * seconds "
            "* frame rate / 1024; each megapixel of all frames. `unknown` says that no document tells the price.",
            examples=["run"],
        ),
    ]
    usd: Annotated[Usd | None, Field(description="US dollars for `per` units.", examples=[0.002])] = None
    per: Annotated[
        float, Field(gt=0, le=1_000_000_000, description="For how many units `usd` is.", examples=[1000])
    ] = 1.0
    rounds_up: Annotated[bool, Field(description="A part of `per` units is billed as the whole of it.")] = False
    currency: Annotated[Literal["USD"], Field(description="Always US dollars.", examples=["USD"])] = "USD"
    tiers: Annotated[
        tuple[PriceTier, ...],
        Field(
            max_length=50, description="Other prices by the values of inputs: `[[price.tiers]]` tables (see PriceTier)."
        ),
    ] = ()
    factors: Annotated[
        tuple[PriceFactor, ...],
        Field(
            max_length=20, description="Factors by the values of inputs: `[[price.factors]]` tables (see PriceFactor)."
        ),
    ] = ()
    frame: Annotated[
        FrameSize | None,
        Field(description="The size of a frame, for tokens and megapixels: the `[price.frame]` table (see FrameSize)."),
    ] = None
    frame_rate: Annotated[
        Annotated[float, Field(gt=0, le=1000)] | None,
        Field(description="Frames a second of what is billed, for tokens, frames and megapixels.", examples=[24]),
    ] = None
    adds_seconds_of: Annotated[
        tuple[str, ...],
        Field(description="Inputs whose films are billed as well, by their seconds.", examples=[["reference_videos"]]),
    ] = ()
    minimum_usd: Annotated[Usd, Field(description="The least that a run costs.", examples=[0.01])] = 0.0
    margin: Annotated[
        float,
        Field(ge=0, le=10, description="By which share the bill may exceed the rule: 0.05 is 5 %.", examples=[0.05]),
    ] = 0.0
    at_most_usd: Annotated[
        Usd | None,
        Field(
            description="The most that a run can cost, where neither the request nor a deadline that the provider "
            "enforces bounds it.",
            examples=[0.71],
        ),
    ] = None
    on_failure: Annotated[
        Literal["free", "charged", "unknown"],
        Field(description="Whether a run that fails is charged.", examples=["free"]),
    ] = "unknown"
    on_cancel: Annotated[
        Literal["free", "charged", "unknown"],
        Field(description="Whether a run is charged that is cancelled at work.", examples=["charged"]),
    ] = "unknown"
    seen: Annotated[
        str,
        Field(
            max_length=20,
            description="When the price was seen, as a year, a month or a day; required beside `usd`.",
            examples=["2026-11"],
        ),
    ] = ""
    source: Annotated[str, Field(description="Where the price is from.", examples=["the pricing page"])] = ""
    inferred: Annotated[
        tuple[str, ...], Field(description="The facts of this table that no document states.", examples=[["usd"]])
    ] = ()
    note: Annotated[str, Field(description="What a reader should know beside the facts.")] = ""

    @model_validator(mode="after")
    def _check_amount(self) -> Self:
        if (self.unit == "unknown") == (self.usd is not None):
            raise ValueError("give usd, the US dollars for a unit; only where unit is unknown there is none")
        if self.usd is not None and not self.seen:
            raise ValueError("say in seen when the price was seen")
        return self

    @model_validator(mode="after")
    def _check_frame(self) -> Self:
        if self.unit in _FRAME_UNITS and (self.frame is None or self.frame_rate is None):
            raise ValueError(f"a price by the {self.unit} needs frame and frame_rate")
        return self

    @model_validator(mode="after")
    def _check_inferred_names(self) -> Self:
        strange = set(self.inferred) - set(type(self).model_fields)
        if strange:
            raise ValueError(f"inferred names no fact: {', '.join(sorted(strange))}")
        return self

    @property
    def input_names(self) -> frozenset[str]:
        """The inputs that it depends on."""
        conditions = [*(tier.when for tier in self.tiers), *(factor.when for factor in self.factors)]
        named = {name for when in conditions for name in when} | set(self.adds_seconds_of)
        return frozenset(named | ({self.frame.input} if self.frame else set()))
