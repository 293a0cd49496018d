"""What export, import and tables demand."""

from __future__ import annotations

from vectorstore.contracts import Verb
from vectorstore.promises.rules import FLAG, PATH, PROGRESS, SOME_IDS, TEXT, WHERE, one_of, or_none

_TABLE = {"where": or_none(WHERE), "vectors": FLAG}

VERBS: dict[str, Verb] = {
    "Tabular.to_arrow": Verb(_TABLE),
    "Tabular.to_pandas": Verb(_TABLE),
    "Tabular.to_polars": Verb(_TABLE),
    "Exchange.export": Verb(
        {
            "path": PATH,
            "kinds": or_none(SOME_IDS),
            "contexts": or_none(SOME_IDS),
            "vectors": one_of("given", "all", "none"),
            "deleted": FLAG,
            "format": or_none(TEXT),
            "progress": PROGRESS,
        }
    ),
    "Exchange.import_": Verb(
        {
            "format": or_none(TEXT),
            "kind": or_none(TEXT),
            "context": or_none(TEXT),
            "on_conflict": one_of("error", "overwrite", "merge", "skip"),
            "vectors": FLAG,
            "progress": PROGRESS,
        },
        writes=True,
    ),
}
