"""What a workflow is to those who look at it, and which way it may go.

    pending ──process──> processing ──> completed ──rollback──> rolled_back
       │  ^                │  │   └───> failed ─────rollback──> rolled_back
       │  └───retry────────│──│──────── completed with errors, failed, rolled_back
       └──cancel──> cancelled <┘ (what had landed is taken back first)
                           └──> rolled_back (a strict one with an error)

Whatever is not drawn is refused with `IllegalMove`, and changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Self, get_args

from vectorstore.errors import IllegalMove, ValidationError
from vectorstore.html import fields as table_of_fields
from vectorstore.ids import from_micros
from vectorstore.storage.workflows import ItemRow, WorkflowRow
from vectorstore.storage.worklog import LogRow

Status = Literal["pending", "processing", "completed", "failed", "cancelled", "rolled_back"]
Policy = Literal["strict", "lenient"]
Operation = Literal["create", "update", "delete", "reembed", "reindex", "cluster"]
OPERATIONS: tuple[str, ...] = get_args(Operation)
ITEM_STATUSES = ("pending", "waiting", "done", "failed", "skipped", "undone", "kept")

MOVES: Mapping[str, Mapping[str, str]] = {
    "process": {"pending": "processing", "processing": "processing"},
    "complete": {"processing": "completed"},
    "fail": {"processing": "failed"},
    "cancel": {"pending": "cancelled", "processing": "cancelled"},
    "rollback": {"completed": "processing", "failed": "processing"},
    "take back": {"processing": "rolled_back"},
    "retry": {"completed": "pending", "failed": "pending", "rolled_back": "pending"},
    "clean up": dict.fromkeys(("completed", "failed", "cancelled", "rolled_back"), ""),
}
"""Action -> the status it needs -> the status it leads to. What is processing is gone on with by whoever holds it."""

_TIMES = ("created_at", "updated_at", "started_at", "finished_at", "lease_until")


def check_move(name: str, status: str, action: str, why: str = "") -> str:
    """The status that an action leads to.

    Raises:
        IllegalMove: it cannot be done in that status; nothing was changed.
    """
    found = MOVES[action].get(status)
    if found is None or why:
        needs = ", ".join(MOVES[action])
        raise IllegalMove(
            f"workflow {name!r} is {status}{f' ({why})' if why else ''}: {action} needs one that is {needs}; "
            "nothing was changed"
        )
    return found


@dataclass(frozen=True)
class Workflow:
    """A piece of work, as of one commit.

    Attributes:
        id: its own, unique in the store.
        operation: create, update, delete, reembed, reindex or cluster.
        kind: whose records.
        policy: "strict": any error takes everything back; "lenient": the rest stays.
        status: pending, processing, completed, failed, cancelled or rolled_back.
        total: items.
        processed: items that have landed, failed or needed nothing.
        errors: items that failed; `store.workflows.errors(id)` has them with their reasons.
        undone: items whose effect was taken back.
        kept: items whose effect was not taken back, because somebody else has changed the record since.
        created_at, updated_at, started_at, finished_at: UTC; None for what has not happened.
        owner: who processes it.
        lease_until: from then on another worker may take it over.
        stopping: it is being taken back, after a cancel, a rollback or an error.
        error: why it ended as it did, None when all is well.
        options: how it is done: the filter of a deletion ("purged" when records were purged since it ended), the recipe
            of an index, ...
        metadata: plain data of your own.
    """

    id: str
    operation: str
    kind: str
    policy: str
    status: str
    total: int
    processed: int
    errors: int
    undone: int
    kept: int
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    owner: str | None
    lease_until: datetime | None
    stopping: bool
    error: str | None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        share = f"{self.processed} of {self.total}" if self.total else "nothing to do"
        seen = ("policy", "errors", "undone", "kept", "owner", "started_at", "finished_at", "error")
        told = {name: value for name in seen if (value := getattr(self, name)) != 0}
        return table_of_fields(
            f"{self.operation} {self.kind} · {self.id} · {self.status}", {"processed": share} | told | self.options
        )

    @classmethod
    def of(cls, row: WorkflowRow) -> Self:
        """A workflow as the catalog has it."""
        fields: dict[str, Any] = {field.name: getattr(row, field.name, None) for field in dataclasses.fields(cls)}
        times = {name: None if fields[name] is None else from_micros(fields[name]) for name in _TIMES}
        stopping = row.status == "processing" and row.goal != "completed"
        return cls(**{**fields, **times, "id": row.name, "stopping": stopping})

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON; `from_dict` is the way back."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, **{name: fields[name] and fields[name].isoformat() for name in _TIMES}}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The workflow that `to_dict` described.

        Raises:
            ValidationError: a field is missing, unknown, or no time.
        """
        try:
            times = {name: fields[name] and datetime.fromisoformat(fields[name]) for name in _TIMES}
            return cls(**{**fields, **times})
        except (KeyError, TypeError, ValueError) as error:
            raise ValidationError(f"workflow: these are not the fields of one: {error}") from None


@dataclass(frozen=True)
class Item:
    """One item of a workflow.

    Attributes:
        index: its place, 0 for the first.
        status: pending, waiting (for a record that it refers to), done, failed, skipped (nothing was to be done),
            undone, or kept (it was changed since, and not taken back).
        id: of its record, as far as it is known.
        reason: why it failed, was skipped or was kept.
        payload: what it was made of, as JSON text; None when its record, or what a filter may tell of, was purged.
    """

    index: int
    status: str
    id: str | None
    reason: str | None
    payload: str | None

    @classmethod
    def of(cls, row: ItemRow, id: str | None = None) -> Self:
        """An item as the catalog has it."""
        return cls(row.number, row.status, id or row.name, row.reason, row.payload)


@dataclass(frozen=True)
class Logged:
    """A line of the log: a transition, with the counts as they then were.

    Attributes:
        workflow: its id.
        at: when.
        actor: who did it.
        before: the status until then; None for the beginning.
        after: the status from then on.
        total, processed, errors, undone: items.
        seconds: since the line before.
        note: what else there is to say.
    """

    workflow: str
    at: datetime
    actor: str
    before: str | None
    after: str
    total: int
    processed: int
    errors: int
    undone: int
    seconds: float | None
    note: str

    @classmethod
    def of(cls, row: LogRow) -> Self:
        """A line as the catalog has it."""
        return cls(**{**dataclasses.asdict(row), "at": from_micros(row.at)})


@dataclass(frozen=True)
class Health:
    """How the workflows of a store fare.

    Attributes:
        counts: workflows by status, all six of them.
        stuck: processing, but whoever held the lease let it run out; `process` takes them over.
        failed: stopped by an error that was no item's.
        waiting: how long the oldest pending one has waited.
    """

    counts: dict[str, int]
    stuck: tuple[Workflow, ...]
    failed: tuple[Workflow, ...]
    waiting: timedelta | None

    @property
    def ok(self) -> bool:
        """Nothing is stuck and nothing has failed."""
        return not self.stuck and not self.failed
