"""What the verbs of a store over time demand and promise: backups, the past, upkeep."""

from __future__ import annotations

from datetime import datetime

from vectorstore.contracts import Rule, Verb
from vectorstore.promises.rules import AGE, FLAG, NAMED, PATH, PROGRESS, or_none, whole

_MOMENT = Rule(
    "a datetime, a commit's number or a snapshot's name",
    lambda value: isinstance(value, datetime | int | str) and not isinstance(value, bool),
)
_POLICY = Rule("a Policy", lambda value: type(value).__name__ == "Policy")

VERBS: dict[str, Verb] = {
    "Keeping.backup": Verb(
        {"target": PATH, "keep": or_none(whole(1)), "keep_for": or_none(AGE), "progress": PROGRESS},
    ),
    "Keeping.as_of": Verb({"when": _MOMENT}),
    "Keeping.maintain": Verb({"policy": or_none(_POLICY), "dry_run": FLAG}, writes=True),
    "Snapshots.add": Verb(NAMED, writes=True),
    "Snapshots.list": Verb(),
    "Snapshots.drop": Verb(NAMED, writes=True),
}
