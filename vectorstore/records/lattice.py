"""The lattice: echo forms, the terms that gather in them, what changed them, how they are linked, and identities.

A form is a weighted bundle of terms under an anchor. Its terms are rows of their own that are only ever added, so the
ten-thousandth costs what the tenth does. Intensities are kept raw, with their instant; decay is computed at read.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from vectorstore.ids import MAX_ID
from vectorstore.records.markers import EMBEDDED, INDEXED, LISTED, Ref
from vectorstore.records.record import Count, Extra, Record, UtcTime
from vectorstore.records.relations import said

TAU_DAYS = 14.0
"""After so many days 1/e = 0.3679 of an intensity is left, unless a form says otherwise."""

ENTROPY_SCALING = 0.1
"""How much longer each bit of an identity's entropy makes tau, where that is asked for."""

_LABEL = StringConstraints(min_length=1, max_length=1000, pattern=r"\S")
Label = Annotated[str, _LABEL]
Anchor = Annotated[str, _LABEL, INDEXED]


def _from_zero(value: float) -> float:
    if value < 0:
        raise ValueError(f"expected at least 0, got {value!r}")
    return value + 0.0


# + 0.0 makes -0.0 the 0.0 that SQLite would make of it.
_ZERO = AfterValidator(lambda value: value + 0.0)
_FROM_ZERO = AfterValidator(_from_zero)
Intensity = Annotated[float, Field(strict=True, le=1e12, allow_inf_nan=False), _FROM_ZERO]
Days = Annotated[float, Field(strict=True, gt=0.0, allow_inf_nan=False)]
Weight = Annotated[float, Field(strict=True, allow_inf_nan=False), _ZERO]


class EchoForm(Record, table="forms"):
    """A bundle of terms under an anchor. Its id follows from context and anchor, and from nothing else.

    Attributes:
        anchor: what it is called; one form has it in a context.
        domain: "scar", "law", "echo", or any other.
        phase: "active", "dormant", "evolving", ...; a change of it is a step of the form's chain.
        recursive: whether it may take part in itself.
        topology: anything JSON can say of its inner shape; how forms are linked is said by edges.
        identities: ids of what it is about; `{"identities__has": id}` finds the forms of one by an index.
        tau_days: how fast its terms fade.
        trace_signature: the head of the chain over all its terms and steps, 32 hexadecimal digits (SHA-256, 128 bits).
        events: how many terms it has.
        raw_sum: their intensities together, undecayed.
        intensity_sum: the same decayed, as of `decayed_at`, without the `ahead` terms whose instant was still to come.

    The last five and `ahead` are kept by the lattice; what a caller says of them does not count.
    """

    updated_at: Annotated[UtcTime | None, INDEXED] = None
    anchor: Anchor
    domain: Annotated[Label, INDEXED] = "echo"
    phase: Annotated[Label, INDEXED] = "active"
    recursive: bool = True
    topology: Extra = Field(default_factory=dict)
    identities: Annotated[tuple[Label, ...], LISTED] = ()
    tau_days: Days = TAU_DAYS
    trace_signature: str = ""
    events: Count = 0
    raw_sum: float = 0.0
    intensity_sum: float = 0.0
    decayed_at: UtcTime | None = None
    ahead: Count = 0

    def derived_id(self) -> str:
        """`context:anchor`, with what an id cannot hold written as %XX."""
        return form_id(self.anchor, self.context)


class EchoTerm(Record, table="form_terms"):
    """Something that adds to a form: a symbol in a role, with an intensity, at an instant. It belongs to its form.

    Terms are only added. `number` counts them within their form, from 1. Data of your own goes into `extra`.
    """

    form: Annotated[str, Ref("forms", cascade=True)]
    number: Annotated[int, Field(strict=True, ge=1)]
    symbol: Annotated[Label, INDEXED]
    role: str = ""
    intensity: Intensity = 1.0
    at: UtcTime


class EchoStep(Record, table="form_steps"):
    """A change of a form, other than a term: a link of its chain, with the form's state or an edge as it is from then.

    Attributes:
        number: counts the steps of a form, from 1, which is how it began.
        terms: how many terms came before it.
        phase: of the form, from this step on.
        edge: the id of the edge that was changed; None when the form itself was.
        value: the state of the form, or `source`, `target`, `type` and `weight` of the edge, empty when it was removed.
        previous: the signature before, "" at the beginning.
        signature: of everything up to here.
    """

    form: Annotated[str, Ref("forms", cascade=True)]
    number: Annotated[int, Field(strict=True, ge=1)]
    terms: Count
    phase: Label
    edge: Annotated[str | None, INDEXED] = None
    value: Extra = Field(default_factory=dict)
    at: UtcTime
    previous: str
    signature: str


class EchoEdge(Record, table="form_edges"):
    """A link between two forms, which belongs to both. Its history is in the steps of the two."""

    source: Annotated[str, Ref("forms", cascade=True)]
    target: Annotated[str, Ref("forms", cascade=True)]
    type: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"\S"), INDEXED] = "related"
    weight: Weight = 1.0

    def derived_id(self) -> str:
        """What it says, without its weight."""
        return said(self.context, self.source, self.type, self.target)


class Identity(Record, table="identities"):
    """What forms are about: a geoid (a text with a meaning), a scar (what is between two others), or both.

    Its vector is that of its text, by the embedder or as it is brought.

    Attributes:
        identity_type: "geoid", "scar" or "hybrid".
        raw: the text as it came.
        lang_axis: its language.
        weight: of a scar.
        related_ids: what a scar is between; `{"related_ids__has": id}` finds the scars of an identity by an index.
        terms: symbol -> intensity, what the entropy of a geoid is over.
    """

    identity_type: Annotated[Literal["geoid", "scar", "hybrid"], INDEXED] = "geoid"
    raw: Annotated[str, EMBEDDED] = ""
    lang_axis: Annotated[Label, INDEXED] = "en"
    weight: Annotated[float, Field(strict=True, allow_inf_nan=False), _FROM_ZERO] = 1.0
    related_ids: Annotated[tuple[Label, ...], LISTED] = ()
    terms: dict[str, Intensity] = Field(default_factory=dict)

    @property
    def echo(self) -> str:
        """The text without outer white space."""
        return self.raw.strip()

    def derived_id(self) -> str | None:
        """16 characters that follow from what it is; a geoid in the default context has SHA-256 of `language:text`."""
        if self.identity_type == "geoid" and self.echo:
            place = "" if self.context == "default" else f"{self.context}\x00"
            text = f"{place}{self.lang_axis}:{self.echo}"
            return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if self.identity_type == "geoid":
            return None
        return said(self.context, self.identity_type, self.raw, *sorted(self.related_ids))

    def entropy(self) -> float:
        """Bits: Shannon's over its terms; of a scar log2 of what it is between, by its weight; else log2 of its tags.

        0 where there is nothing to count.
        """
        if self.identity_type != "scar" and any(self.terms.values()):
            return entropy(self.terms.values())
        if self.identity_type != "geoid" and self.related_ids:
            return math.log2(len(self.related_ids)) * self.weight
        return math.log2(len(self.tags)) if self.tags else 0.0


def entropy(intensities: Iterable[float]) -> float:
    """Shannon's entropy in bits of what is above zero, as shares of the whole (Shannon 1948)."""
    kept = [value for value in intensities if value > 0]
    total = math.fsum(kept)
    return abs(math.fsum(-(value / total) * math.log2(value / total) for value in kept))


def form_id(anchor: str, context: str = "default") -> str:
    """The id of the form with an anchor: `context:anchor`. No two pairs of context and anchor share one."""
    name = f"{_escaped(context, ':')}:{_escaped(anchor, ':')}"
    return name if len(name) <= MAX_ID else f"{name[:200]}:{said(context, anchor)}"


def pair_anchor(a: str, b: str, *, directed: bool = False) -> str:
    """The anchor of a pair: `a_b` in alphabetical order, or `a>b` when the direction counts; no two pairs share one."""
    first, second = (a, b) if directed else sorted((a, b))
    return f"{_escaped(first, '_>')}{'>' if directed else '_'}{_escaped(second, '_>')}"


def _escaped(text: str, marks: str) -> str:
    """The text with %, the marks and what no id may hold as %XX of its UTF-8."""
    if text.isprintable() and ".." not in text and not any(mark in text for mark in f"%/\\{marks}"):
        return text
    found: list[str] = []
    for place, sign in enumerate(text):
        dots = sign == "." and text[place + 1 : place + 2] == "."
        if sign in "%/\\" or sign in marks or dots or not sign.isprintable():
            found += [f"%{byte:02X}" for byte in sign.encode("utf-8", "surrogatepass")]
        else:
            found.append(sign)
    return "".join(found)
