"""What forms, their terms and their links demand and promise beyond the common verbs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from datetime import datetime

from vectorstore.contracts import Promise, Rule, Verb
from vectorstore.promises.rules import (
    COUNT,
    FILTER,
    FLAG,
    PAGE,
    SIZE,
    SOME_IDS,
    TEXT,
    number,
    one_of,
    or_none,
    whole,
)

_DAYS = Rule(
    "a number of days above 0",
    lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf,
)
_LIST = Rule(
    "a list", lambda value: isinstance(value, Iterable) and not isinstance(value, str | bytes | bytearray | Mapping)
)
_MOMENT = or_none(Rule("a time with a zone", lambda value: isinstance(value, datetime) and value.tzinfo is not None))
_TAU = or_none(_DAYS)
_FORM = {"anchor": TEXT, "context": TEXT}
_LINK = {"source": TEXT, "target": TEXT, "type": TEXT, "context": TEXT}
_DELETE = {"ids": or_none(SOME_IDS), "where": FILTER, "dry_run": FLAG}

_LEFT = (Promise("a finite intensity of at least 0", lambda _, given, left: 0 <= left < math.inf),)
_RESONANT = (
    Promise(
        "at most k other forms with scores in 0..1, best first",
        lambda _, given, found: (
            len(found) <= given("k", 10)
            and all(0 < one.score <= 1 for one in found)
            and all(one.score >= other.score for one, other in itertools.pairwise(found))
        ),
    ),
)

VERBS: dict[str, Verb] = {
    "Anchored.fetch": Verb(_FORM),
    "Anchored.form": Verb(_FORM),
    "Anchored.terms": Verb(_FORM),
    "Anchored.recent": Verb({"limit": SIZE, "domain": or_none(TEXT), "phase": or_none(TEXT), "where": FILTER}, PAGE),
    "Fading.intensity": Verb({**_FORM, "tau_days": _TAU, "at": _MOMENT, "decayed": FLAG}, _LEFT),
    "Fading.intensities": Verb({"forms": _LIST, "tau_days": _TAU, "at": _MOMENT}),
    "Fading.decay": Verb({"where": FILTER}, COUNT, writes=True),
    "Fading.tau_of": Verb({**_FORM, "tau_days": _DAYS, "scaling": number(0, words="a number of at least 0")}),
    "Fading.prune": Verb(
        {"by": one_of("updated_at", "created_at"), "where": FILTER, "dry_run": FLAG}, COUNT, writes=True
    ),
    "Fading.clear": Verb({"domain": or_none(TEXT), "dry_run": FLAG}, writes=True),
    "Fading.analytics": Verb({"where": FILTER, "tau_days": _TAU, "at": _MOMENT}),
    "Fading.top_symbols": Verb({"k": whole(1), "where": FILTER}),
    "Linking.mutate": Verb({**_FORM, "phase": TEXT}, writes=True),
    "Linking.lineage": Verb(_FORM),
    "Linking.verify": Verb({**_FORM, "signature": or_none(TEXT)}),
    "Linking.link": Verb(_LINK, writes=True),
    "Linking.unlink": Verb(_LINK, writes=True),
    "Linking.neighbours": Verb({**_FORM, "type": or_none(TEXT), "direction": one_of("out", "in", "both")}),
    "Linking.components": Verb({"type": or_none(TEXT), "where": FILTER}),
    "Linking.history": Verb(_LINK),
    "Linking.resonant": Verb({**_FORM, "k": whole(1), "where": FILTER}, _RESONANT),
    "Lattice.resolve": Verb({"a": TEXT, "b": TEXT, "directed": FLAG, "context": TEXT}, _LEFT, writes=True),
    "Lattice.resolve_many": Verb({"pairs": _LIST, "directed": FLAG, "context": TEXT}, writes=True),
    "Lattice.create_pair": Verb({**_FORM, "a": TEXT, "b": TEXT, "domain": TEXT}, writes=True),
    "Lattice.put": Verb({"terms": _LIST}, writes=True),
    "Lattice.append": Verb(_FORM, writes=True),
    "Lattice.append_many": Verb({**_FORM, "terms": _LIST}, writes=True),
    "Lattice.bring": Verb({"context": TEXT}, writes=True),
    "Links.delete": Verb(_DELETE),
    "Edges.delete": Verb(_DELETE, COUNT, writes=True),
}
