"""What clusters, fields and all that has versions demand and promise beyond the common verbs."""

from __future__ import annotations

from vectorstore.contracts import Verb
from vectorstore.promises.rules import (
    COUNT,
    CURSOR,
    FILTER,
    NAMED,
    PAGE,
    PATH,
    PROGRESS,
    RECIPE,
    SEED,
    SHARE,
    SIZE,
    SOME_IDS,
    SPACE,
    TEXT,
    number,
    one_of,
    or_none,
    whole,
)

_FIT = {"kind": TEXT, "recipe": RECIPE, "where": FILTER, "context": or_none(TEXT), "space": SPACE, "progress": PROGRESS}

VERBS: dict[str, Verb] = {
    "Centroids.update": Verb(gives=COUNT, writes=True),
    "Maps.fit": Verb(
        {"kind": TEXT, "method": one_of("pca", "umap"), "space": SPACE, "progress": PROGRESS}, writes=True
    ),
    "Maps.info": Verb({"kind": TEXT, "space": SPACE}),
    "Maps.get": Verb({"kind": TEXT, "colour": or_none(TEXT), "space": SPACE}),
    "Maps.export": Verb(
        {"kind": TEXT, "path": PATH, "colour": or_none(TEXT), "neighbours": whole(0, 100), "space": SPACE}
    ),
    "Clusters.fit": Verb({**_FIT, "n": or_none(whole(1)), "name": or_none(TEXT), "seed": SEED}, writes=True),
    "Clusters.refit": Verb(
        {**NAMED, "recipe": or_none(RECIPE), "n": or_none(whole(1)), "seed": or_none(SEED), "progress": PROGRESS},
        writes=True,
    ),
    "Clusters.trials": Verb({**_FIT, "n": or_none(whole(1))}),
    "Clusters.assign": Verb({**NAMED, "ids": or_none(SOME_IDS)}, COUNT, writes=True),
    "Clusters.predict": Verb(NAMED),
    "Clusters.memberships": Verb({**NAMED, "id": TEXT}),
    "Clusters.membership": Verb({**NAMED, "id": TEXT}),
    "Clusters.members": Verb({"cluster": TEXT, "limit": SIZE, "after": CURSOR}, PAGE),
    "Clusters.neighbours": Verb({**NAMED, "id": TEXT, "k": whole(1)}),
    "Clusters.state": Verb(NAMED),
    "Clusters.drift": Verb(NAMED),
    "Versioned.lines": Verb(),
    "Versioned.versions": Verb(NAMED),
    "Versioned.rollback": Verb({**NAMED, "version": whole(1)}, writes=True),
    "Versioned.drop": Verb(NAMED, COUNT, writes=True),
    "Versioned.model": Verb({**NAMED, "version": or_none(whole(1))}),
    "Fields.discover": Verb(
        {
            **NAMED,
            "min_coherence": number(-1, 1, "-1..1"),
            "min_members": whole(1),
            "core": number(0.5, 1, "0.5..1"),
            "related": SHARE,
            "progress": PROGRESS,
        },
        writes=True,
    ),
}
