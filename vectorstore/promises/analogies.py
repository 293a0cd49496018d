"""What analogies demand and promise beyond the common verbs."""

from __future__ import annotations

from vectorstore.contracts import Rule, Verb
from vectorstore.promises.rules import (
    FILTER,
    FIVE_HITS,
    FLAG,
    HITS,
    KIND,
    PROGRESS,
    SHARE,
    SPACE,
    TEXT,
    all_text,
    one_of,
    or_none,
    whole,
)

_DOMAIN = Rule("a domain", lambda value: isinstance(value, str) and value != "")
_TERM = Rule("a name or an Id", lambda value: isinstance(value, str) and value != "")
_TERMS = Rule("a list of terms", lambda value: isinstance(value, list | tuple) and all_text(value))
_ABOUT = {"where": FILTER, "context": or_none(TEXT), "kind": KIND, "space": SPACE, "exact": FLAG, "k": whole(1)}

VERBS: dict[str, Verb] = {
    "Analogies.complete": Verb({**_ABOUT, "method": one_of("3cosadd", "3cosmul", "pair")}, FIVE_HITS),
    "Analogies.relate": Verb({"where": FILTER, "kind": KIND, "space": SPACE, "progress": PROGRESS}, writes=True),
    "Analogies.parallel": Verb(_ABOUT, HITS),
    "Analogies.discover": Verb(
        {
            "source": _DOMAIN,
            "target": _DOMAIN,
            "min_quality": SHARE,
            "pairs": or_none(whole(1)),
            "context": or_none(TEXT),
            "kind": KIND,
            "space": SPACE,
            "save": FLAG,
            "progress": PROGRESS,
        },
        writes=True,
    ),
    "Analogies.align": Verb({"source": TEXT, "source_terms": _TERMS, "target": TEXT, "target_terms": _TERMS}),
    "Analogies.retrieve": Verb(
        {"text": TEXT, "k": whole(1), "where": FILTER, "kind": KIND, "pool": whole(1), "exact": FLAG}, HITS
    ),
    "Analogies.mapping": Verb({"term": _TERM, "where": FILTER, "kind": KIND}),
}
