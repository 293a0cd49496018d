"""`store.workflows`: make work, have it done, look at it, take it back."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from vectorstore.errors import IllegalMove, LeaseHeld, NotFound, StoreError, ValidationError
from vectorstore.ids import ago, from_micros, to_micros
from vectorstore.reason.reasoner import Others
from vectorstore.results import Page, as_cursor, from_cursor
from vectorstore.storage import Transaction
from vectorstore.storage import workflows as rows
from vectorstore.storage.workflows import STATUSES, ItemRow, WorkflowRow
from vectorstore.storage.worklog import FORGOTTEN, log_length, log_of, settle_filters
from vectorstore.sync import Progress, Sync
from vectorstore.sync.erasing import finish, owe
from vectorstore.trail import Trail
from vectorstore.workflows.engine import LEASE, Run, tell, unknown
from vectorstore.workflows.lines import payload_of, write_lines
from vectorstore.workflows.making import Making
from vectorstore.workflows.states import ITEM_STATUSES, MOVES, Health, Item, Logged, Workflow, check_move
from vectorstore.workflows.workers import Worker

log = logging.getLogger("vectorstore")
_PAGE = 10_000


class Workflows(Making):
    """The work of a store: durable, resumable, and undone when it should not have been."""

    def __init__(self, sync: Sync, others: Others, trail: Trail) -> None:
        super().__init__(sync, others, trail)
        self._workers: list[Worker] = []

    # -- having it done --------------------------------------------------------------------------------------------

    def process(
        self,
        id: str,
        *,
        progress: Progress | None = None,
        lease: timedelta = LEASE,
        place: str | os.PathLike[str] | None = None,
    ) -> Workflow:
        """Do a workflow to its end, chunk by chunk; go on with one whose worker is gone.

        Args:
            id: of the workflow.
            progress: told (items processed, items).
            lease: how long it stays this worker's when that says nothing any more; it is prolonged meanwhile.
            place: inside `joblib.parallel_config`, a folder or URL through which its workers are passed what they need,
                and pass back what they made; None for the store's folder, which they then must see under its own path.

        Returns:
            The workflow, completed; or rolled back when it is strict and an item failed, or cancelled by somebody.

        Raises:
            NotFound: no such workflow. IllegalMove: it is neither pending nor processing.
            LeaseHeld: another worker has it.
            WorkersLost: workers that texts were spread over are gone; process it again.
            EmbedderError, ...: what no item can help; the workflow is `failed`, what had landed stays, and `retry` or
            `rollback` goes on from there.
        """
        return self._run(lease, progress, place=place).process(id)

    def process_all(
        self,
        *,
        progress: Progress | None = None,
        lease: timedelta = LEASE,
        place: str | os.PathLike[str] | None = None,
    ) -> tuple[Workflow, ...]:
        """Process all pending workflows and those whose lease has run out, oldest first; how each of them ended.

        Raises:
            StoreError: the store cannot be written, or workers are lost. Other errors are kept with the workflow that
                failed.
        """
        found: tuple[Workflow, ...] = ()
        while (due := self.next()) is not None:
            try:
                found += (self.process(due.id, progress=progress, lease=lease, place=place),)
            except StoreError:
                raise
            except (LeaseHeld, IllegalMove, NotFound):
                continue  # another worker was faster
            except Exception:
                log.exception("workflow %s failed", due.id)
                found += (self.get(due.id),)
        return found

    def start(self, *, poll: float = 1.0, lease: timedelta = LEASE) -> Worker:
        """A worker in a thread of its own; it looks every `poll` seconds, and stops when the store is closed."""

        def next_one(stop: Callable[[], bool]) -> Workflow | None:
            watch = self._sync.watch
            due = self.next()
            watch.enter()  # what it does is no call of anybody's: neither counted nor, where refused, a violation
            try:
                return None if due is None else self._run(lease, None, stop).process(due.id)
            finally:
                watch.leave()

        worker = Worker(next_one, poll)
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        """Stop the workers that were started here."""
        while self._workers:
            self._workers.pop().stop()

    def next(self) -> Workflow | None:
        """What a worker would take now: the oldest one that is pending or whose lease has run out."""
        with self._sync.catalog.read() as connection:
            row = rows.next_workflow(connection, self._sync.catalog.now())
        return None if row is None else Workflow.of(row)

    def _run(
        self,
        lease: timedelta,
        progress: Progress | None = None,
        stop: Callable[[], bool] = lambda: False,
        place: str | os.PathLike[str] | None = None,
    ) -> Run:
        owner = f"{self._trail.actor} (process {os.getpid()} on {socket.gethostname()})"
        where = None if place is None else os.fspath(place)
        return Run(self._sync, self._others, self._trail.actor, owner, lease, progress, stop, where)

    # -- stopping, taking back, trying again -------------------------------------------------------------------------

    def cancel(self, id: str) -> Workflow:
        """Cancel: a pending workflow at once; one that is processed stops within a chunk and is taken back.

        Returns:
            The workflow; while its worker still takes back, it is `stopping`.

        Raises:
            NotFound: no such workflow. IllegalMove: it is over.
        """
        with self._changing(id, "cancel") as (transaction, row):
            if row.status == "pending":
                values: dict[str, Any] = {"status": "cancelled", "finished_at": transaction.now}
                rows.change_workflow(transaction.connection, row.id, **values)
                if settle_filters(transaction.connection, row.id):
                    owe(transaction)
                    finish(self._sync)
                tell(transaction, row, self._trail.actor, "pending")
            elif row.goal == "completed":
                rows.change_workflow(transaction.connection, row.id, goal="cancelled", updated_at=transaction.now)
                tell(transaction, row, self._trail.actor, "processing", "cancel")
            alone = row.status == "processing" and (row.lease_until or 0) <= transaction.now
        if alone:  # nobody is there to stop
            with contextlib.suppress(LeaseHeld):
                return self.process(id)
        return self.get(id)

    def rollback(self, id: str, *, progress: Progress | None = None, lease: timedelta = LEASE) -> Workflow:
        """Take back what a completed or failed workflow did, the last item first.

        Created records are deleted; overwritten ones have their former fields and vectors again, as a new version;
        deleted ones are restored with all that went with them; indexes and fits are the former ones. A record that
        somebody has changed since stays as it is: it is counted as `kept`, and `errors` names it.

        Raises:
            NotFound: no such workflow. IllegalMove: it is neither completed nor failed.
        """
        return self._run(lease, progress).process(id, "rollback")

    def retry(self, id: str, changes: Mapping[int, Any] | None = None) -> Workflow:
        """Make a workflow pending again: what failed; after a rollback everything.

        Args:
            id: of the workflow.
            changes: other contents for items that failed, by index.

        Raises:
            NotFound: no such workflow, or no failed item of that index.
            IllegalMove: it is pending, processing or cancelled; nothing in it failed; or records were purged since it
                ended, and it was a deletion by a filter, which was forgotten.
        """
        kind = self._others(self.get(id).kind).kind
        new = {place: payload_of(item, kind, f"changes[{place}]") for place, item in (changes or {}).items()}
        with self._changing(id, "retry") as (transaction, row):
            connection = transaction.connection
            if row.goal != "completed":
                check_move(id, row.status, "retry", "half taken back: go on with rollback")
            if row.status == "completed" and not row.errors:
                check_move(id, row.status, "retry", "without errors")
            if row.operation == "delete" and row.options.get("where") == FORGOTTEN:
                check_move(id, row.status, "retry", "its filter was purged: make a new one")
            for place, payload in new.items():
                if not rows.replace_payload(connection, row.id, place, payload, "failed"):
                    raise NotFound(f"workflow {id!r} has no failed item {place}; nothing was changed")
            taken_back = ("skipped", "undone", "kept") if row.status == "rolled_back" else ()
            rows.turn_items(connection, row.id, ("failed", "waiting", *taken_back), "pending")
            counts = rows.item_counts(connection, row.id)
            left = {name: counts.get(name, 0) for name in ("undone", "kept")}
            settled = sum(counts.get(name, 0) for name in ("done", "skipped")) + sum(left.values())
            values: dict[str, Any] = {"status": "pending", "processed": settled, "errors": 0, "error": None, **left}
            rows.change_workflow(connection, row.id, **values, finished_at=None, updated_at=transaction.now)
            tell(transaction, row, self._trail.actor, row.status, "retry")
        return self.get(id)

    @contextlib.contextmanager
    def _changing(self, id: str, action: str) -> Iterator[tuple[Transaction, WorkflowRow]]:
        with self._sync.catalog.write() as transaction:
            row = rows.workflow_by_name(transaction.connection, id)
            if row is None:
                raise unknown(id)
            check_move(id, row.status, action)
            yield transaction, row

    # -- looking at it ---------------------------------------------------------------------------------------------

    def get(self, id: str) -> Workflow:
        """The workflow as it is now, whichever process works on it.

        Raises:
            NotFound: no such workflow.
        """
        return Workflow.of(self._row(id))

    def _row(self, id: str) -> WorkflowRow:
        with self._sync.catalog.read() as connection:
            row = rows.workflow_by_name(connection, id)
        if row is None:
            raise unknown(id)
        return row

    def list(self, status: str | None = None, *, limit: int = 100, after: str | None = None) -> Page[Workflow]:
        """Workflows, newest first; all, or those of a status. `after` is the `next` of the page before."""
        before = self._page(limit, after)
        if status is not None and status not in STATUSES:
            raise ValidationError(f"status: expected one of {', '.join(STATUSES)}, got {status!r}")
        with self._sync.catalog.read() as connection:
            found = rows.workflows_of(connection, status, limit + 1, before)
            counts = rows.counts_of(connection)
        total = sum(counts.values()) if status is None else counts.get(status, 0)
        last = as_cursor(None, found[limit - 1].id) if len(found) > limit else None
        return Page(tuple(Workflow.of(row) for row in found[:limit]), total, last)

    def count(self, status: str | None = None) -> int:
        """How many there are; all, or those of a status."""
        return self.list(status, limit=1).total

    def items(self, id: str, status: str | None = None, *, limit: int = 100, after: str | None = None) -> Page[Item]:
        """The items of a workflow, in order; all, or those of a status.

        Raises:
            NotFound: no such workflow. ValidationError: no such status.
        """
        place = self._page(limit, after)
        if status is not None and status not in ITEM_STATUSES:
            raise ValidationError(f"status: expected one of {', '.join(ITEM_STATUSES)}, got {status!r}")
        row = self._row(id)
        with self._sync.catalog.read() as connection:
            found = rows.items_of(connection, row.id, status, -1 if place is None else place, limit + 1)
            counts = rows.item_counts(connection, row.id)
            table = self._others(row.kind)._table
            numbers = [item.record for item in found if item.record is not None]
            named = rows.rows_as_they_are(connection, table.table, ["id"], numbers)
        total = sum(counts.values()) if status is None else counts.get(status, 0)
        last = as_cursor(None, found[limit - 1].number) if len(found) > limit else None
        shown = (Item.of(item, str(named.get(item.record or 0, ("",))[0]) or None) for item in found[:limit])
        return Page(tuple(shown), total, last)

    def errors(self, id: str, *, limit: int = 100, after: str | None = None) -> Page[Item]:
        """The items that failed, or were kept when the workflow was taken back, with index, id and reason, in order.

        Raises:
            NotFound: no such workflow.
        """
        place = self._page(limit, after)
        row = self._row(id)
        with self._sync.catalog.read() as connection:
            found, total = rows.told_of(
                connection, row.id, ("failed", "kept", "waiting"), -1 if place is None else place, limit + 1
            )
        last = as_cursor(None, found[limit - 1].number) if len(found) > limit else None
        return Page(tuple(Item.of(item) for item in found[:limit]), total, last)

    def log(self, id: str | None = None, *, limit: int = 100, after: str | None = None) -> Page[Logged]:
        """What happened, newest first: to one workflow, or to all, those that were cleaned up included."""
        before = self._page(limit, after)
        with self._sync.catalog.read() as connection:
            found = log_of(connection, id, limit + 1, before)
            total = log_length(connection, id)
        last = as_cursor(None, found[limit - 1][0]) if len(found) > limit else None
        return Page(tuple(Logged.of(line) for _, line in found[:limit]), total, last)

    def _page(self, limit: int, after: str | None) -> int | None:
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _PAGE:
            raise ValidationError(f"limit: expected a whole number in 1..{_PAGE}, got {limit!r}")
        found = from_cursor(after)
        return None if found is None else found[1]

    def health(self) -> Health:
        """How work fares: counts, what is stuck, what has failed, how long the oldest one waits."""
        with self._sync.catalog.read() as connection:
            now = self._sync.catalog.now()
            counts = rows.counts_of(connection)
            processing = rows.workflows_of(connection, "processing", -1)
            failed = rows.workflows_of(connection, "failed", -1)
            oldest = rows.workflows_of(connection, "pending", 1, oldest=True)
        return Health(
            {status: counts.get(status, 0) for status in STATUSES},
            tuple(Workflow.of(row) for row in processing if (row.lease_until or 0) <= now),
            tuple(Workflow.of(row) for row in failed),
            from_micros(now) - from_micros(oldest[0].updated_at) if oldest else None,
        )

    def to_jsonl(self, id: str, path: str | os.PathLike[str], status: str | None = None) -> int:
        """Write the items of a workflow, or those of a status, as they were given, to a new file; returns how many.

        Those of a deletion are tombstones, `{"kind": "concepts", "deleted": "default:king"}`. What comes out goes in
        again by `create_from_jsonl`: the failed ones, mended by hand, for one.

        Raises:
            NotFound: no such workflow. FileExistsError: the path is taken.
        """
        row = self._row(id)
        brought = row.options.get("vectors") or {"spaces": []}
        spaces = [tuple(each) for each in brought["spaces"]]
        return write_lines(path, self._all_items(row, status), spaces, row.kind if row.operation == "delete" else None)

    def _all_items(self, row: WorkflowRow, status: str | None) -> Iterator[ItemRow]:
        after = -1
        while True:
            with self._sync.catalog.read() as connection:
                found = rows.items_of(connection, row.id, status, after, 1000)
            yield from found
            if not found:
                return
            after = found[-1].number

    def cleanup(
        self, older_than: timedelta = timedelta(days=30), status: str | None = None, *, dry_run: bool = False
    ) -> int:
        """Remove workflows that are over, with their items; the log stays. They cannot be rolled back afterwards.

        Args:
            older_than: only those that ended at least so long ago.
            status: only of this status: completed, failed, cancelled or rolled_back.
            dry_run: only count.

        Returns:
            How many.

        Raises:
            ValidationError: not such a status. Pending ones and those that are processed are never removed.
        """
        over = list(MOVES["clean up"])
        if status is not None and status not in over:
            raise ValidationError(f"status: expected one of {', '.join(over)}, got {status!r}")
        limit = to_micros(ago(self._sync.catalog.clock(), older_than))
        removed = 0
        with self._sync.catalog.write() as transaction:
            for name in over if status is None else [status]:
                for row in rows.workflows_of(transaction.connection, name, -1):
                    if row.finished_at is None or row.finished_at > limit:
                        continue
                    removed += 1
                    if not dry_run:
                        tell(transaction, row, self._trail.actor, row.status, "cleaned up")
                        rows.remove_workflow(transaction.connection, row.id)
        return removed
