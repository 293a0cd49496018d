"""The engine: takes a workflow under a lease, does it chunk by chunk, or takes it back chunk by chunk.

Every chunk is one transaction: what it writes, the status of its items, the counters and the lease. It names the fence
that the worker was given; a worker whose lease ran out and whose workflow somebody else has taken finds another number
there, and its chunk is rolled back. Nothing is kept in memory that a worker which comes after a crash would need.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from vectorstore.errors import LeaseHeld, NotFound, StoreError, ValidationError, WorkersLost
from vectorstore.reason.reasoner import Others
from vectorstore.records.columnar import without_collector
from vectorstore.storage import Transaction
from vectorstore.storage import workflows as store
from vectorstore.storage.workflows import Done, ItemRow, Told, WorkflowRow
from vectorstore.storage.worklog import settle_filters, write_log
from vectorstore.sync import Progress, Sync
from vectorstore.sync.erasing import finish, owe
from vectorstore.sync.sharing import Shared, sharing
from vectorstore.workflows.jobs import Job, Work
from vectorstore.workflows.states import Workflow, check_move
from vectorstore.workflows.upkeep import Clustering, Deletion, Embedding, Indexing
from vectorstore.workflows.writes import Creation, Update

LEASE = timedelta(seconds=60)
"""So long a worker that says nothing keeps a workflow; one that lives says something every third of it."""

WORKS: dict[str, type[Work]] = {
    "create": Creation,
    "update": Update,
    "delete": Deletion,
    "reembed": Embedding,
    "reindex": Indexing,
    "cluster": Clustering,
}
log = logging.getLogger("vectorstore")


class Stopped(Exception):
    """The worker was asked to stop; the workflow is left to the next one."""


def unknown(name: object) -> NotFound:
    """There is no such workflow."""
    return NotFound(f"no workflow {name!r}; store.workflows.list() (vectorstore workflows list) names them")


def tell(transaction: Transaction, row: WorkflowRow, actor: str, before: str | None, note: str = "") -> WorkflowRow:
    """Log a transition that has been made, and call the hooks after the commit; the workflow as it is now."""
    write_log(transaction.connection, row.name, actor, before, transaction.now, note)
    now = store.workflow_by_name(transaction.connection, row.name)
    assert now is not None  # it is in this very transaction
    details: dict[str, object] = {"id": now.name, "operation": now.operation, "kind": now.kind, "status": now.status}
    details |= {"before": before, "total": now.total, "processed": now.processed, "errors": now.errors}
    transaction.notes.append(("workflow", details))
    transaction.record("workflow", now.kind, workflow=now.name, does=now.operation, before=before, after=now.status)
    return now


class Run:
    """One worker's hold of one workflow."""

    def __init__(
        self,
        sync: Sync,
        others: Others,
        actor: str,
        owner: str,
        lease: timedelta,
        progress: Progress | None = None,
        stop: Callable[[], bool] = lambda: False,
        place: str | None = None,
    ) -> None:
        if lease <= timedelta(0):
            raise ValidationError(f"lease: expected a positive time, got {lease!r}")
        if sync.catalog.in_transaction:
            raise StoreError("a workflow commits chunk by chunk; process it outside of store.transaction()")
        self._sync = sync
        self._others = others
        self._actor = actor
        self._owner = owner
        self._lease = int(lease.total_seconds() * 1e6)
        self._progress = progress
        self._stop = stop
        self._place = place
        self._row: WorkflowRow

    def process(self, name: str, action: str = "process") -> Workflow:
        """Take a workflow and do it to its end; or take back what it did, with the action "rollback".

        Raises:
            NotFound, IllegalMove: nothing was changed.
            LeaseHeld: another worker has it; or took it over, and the chunk at hand was not written.
        """
        self._row = self._take(name, action)
        try:
            with self._heartbeat(), sharing(self._sync, str(self._row.id), self._place) as shared:
                return Workflow.of(self._to_the_end(shared))
        except (Stopped, WorkersLost):
            self._release()
            raise
        except (LeaseHeld, StoreError):
            raise  # it is somebody else's; or nothing can be written here: the lease runs out by itself
        except Exception as error:
            self._fail(error)
            raise
        except BaseException:
            self._release()
            raise

    # -- the lease -------------------------------------------------------------------------------------------------

    def _take(self, name: str, action: str) -> WorkflowRow:
        with self._sync.catalog.write() as transaction:
            row = store.workflow_by_name(transaction.connection, name)
            if row is None:
                raise unknown(name)
            check_move(name, row.status, action)
            if row.status == "processing" and (row.lease_until or 0) > transaction.now:
                raise LeaseHeld(f"workflow {name!r} is being processed by {row.owner}; wait for it, or cancel it")
            store.change_workflow(
                transaction.connection,
                row.id,
                status="processing",
                owner=self._owner,
                fence=row.fence + 1,
                lease_until=transaction.now + self._lease,
                started_at=row.started_at or transaction.now,
                updated_at=transaction.now,
                goal="rolled_back" if action == "rollback" else row.goal,
            )
            taken_over = f"taken over from {row.owner}" if row.status == "processing" else ""
            return tell(transaction, row, self._actor, row.status, taken_over or action)

    def _hold(self, transaction: Transaction, **more: int) -> None:
        """Prolong the lease, and add to counters; the worker's proof that it may write."""
        until, now = transaction.now + self._lease, transaction.now
        if not store.advance(transaction.connection, self._row.id, self._row.fence, until, now, **more):
            raise LeaseHeld(
                f"workflow {self._row.name!r} was taken over by another worker, or removed; "
                "what this one was about to write was not written"
            )
        transaction.quiet()

    def _sign(self, transaction: Transaction) -> None:
        """Let the trail say which workflow did what this chunk did, if only that it told something."""
        for each in transaction.done:
            each.details["workflow"] = self._row.name
        if not transaction.done:
            transaction.record("workflow", self._row.kind, workflow=self._row.name, does=self._row.operation)

    @contextlib.contextmanager
    def _heartbeat(self) -> Iterator[None]:
        """Prolong the lease while a chunk takes long."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(self._lease / 3e6):
                try:
                    with self._sync.catalog.write() as transaction:
                        self._hold(transaction)
                except LeaseHeld:
                    return  # the next chunk will be told
                except Exception as error:
                    log.warning("workflow %s: its lease was not prolonged: %s", self._row.name, error)

        thread = threading.Thread(target=beat, name="vectorstore-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _release(self) -> None:
        """Let another worker take it at once."""
        with contextlib.suppress(LeaseHeld, StoreError), self._sync.catalog.write() as transaction:
            self._hold(transaction)
            store.change_workflow(transaction.connection, self._row.id, lease_until=transaction.now)

    def _fail(self, error: Exception) -> None:
        with contextlib.suppress(LeaseHeld, StoreError), self._sync.catalog.write() as transaction:
            self._hold(transaction)
            self._end(transaction, check_move(self._row.name, "processing", "fail"), f"{type(error).__name__}: {error}")

    # -- there and back --------------------------------------------------------------------------------------------

    def _land(self, transaction: Transaction, done: Sequence[Done], told: Sequence[Told]) -> None:
        failed = sum(item.status == "failed" for item in told)
        settled = len(done) + sum(item.status != "waiting" for item in told)
        self._hold(transaction, processed=settled, errors=failed)
        store.landed(transaction.connection, self._row.id, done)
        store.told(transaction.connection, self._row.id, told)
        self._sign(transaction)

    def _taken(self, transaction: Transaction, numbers: Sequence[int], told: Sequence[Told]) -> None:
        self._hold(transaction, undone=len(numbers), kept=len(told))
        store.undone(transaction.connection, self._row.id, numbers)
        store.told(transaction.connection, self._row.id, told)
        self._sign(transaction)

    def _report(self) -> None:
        if self._progress is not None:
            row = self._look()
            done = row.processed if row.goal == "completed" else row.undone + row.kept
            self._progress(done, row.total)

    def _look(self) -> WorkflowRow:
        with self._sync.catalog.read() as connection:
            row = store.workflow_by_name(connection, self._row.name)
        if row is None or row.fence != self._row.fence:
            raise LeaseHeld(f"workflow {self._row.name!r} was taken over by another worker, or removed")
        if self._stop():
            raise Stopped
        return row

    def _to_the_end(self, shared: Shared | None = None) -> WorkflowRow:
        while True:
            row = self._look()
            work = WORKS[row.operation](Job(self._sync, self._others, row, self._land, self._taken, shared))
            if row.goal == "completed":
                self._forward(work)
            else:
                self._backward(work)
            ended = self._finish(work)
            if ended is not None:
                return ended

    def _forward(self, work: Work) -> None:
        """Do what is pending, then what waits, for as long as that helps."""
        self._through(work, "pending")
        landed = -1
        while True:
            with self._sync.catalog.read() as connection:
                counts = store.item_counts(connection, self._row.id)
            done = counts.get("done", 0)
            if not counts.get("waiting") or done == landed or not self._wanted():
                return
            landed = done
            self._through(work, "waiting")

    def _wanted(self) -> bool:
        """Whether to go on forwards; a strict one with an error turns round."""
        row = self._look()
        if row.goal == "completed" and row.policy == "strict" and row.errors:
            with self._sync.catalog.write() as transaction:
                self._hold(transaction)
                reason = self._first_reason(transaction) or f"{row.errors} items failed"
                store.change_workflow(transaction.connection, row.id, goal="rolled_back", error=reason)
                tell(transaction, row, self._actor, row.status, "take back")
            return False
        return row.goal == "completed"

    def _through(self, work: Work, status: str) -> None:
        after = -1
        while self._wanted():
            items = self._items(status, after, work.chunk * work.window)
            if not items:
                return
            with contextlib.closing(work.parts(items)) as parts:
                for place, part in enumerate(parts):
                    if place and not self._wanted():
                        return
                    work.run(part)
                    self._report()
            after = items[-1].number

    def _backward(self, work: Work) -> None:
        before = store.MOST_ITEMS
        while items := self._items("done", before, work.chunk, backwards=True):
            self._look()
            work.undo(items)
            self._report()
            before = items[-1].number

    def _items(self, status: str, after: int, limit: int, *, backwards: bool = False) -> list[ItemRow]:
        with self._sync.catalog.read() as connection, without_collector():
            return store.items_of(connection, self._row.id, status, after, limit, backwards=backwards)

    def _first_reason(self, transaction: Transaction) -> str | None:
        items, _ = store.told_of(transaction.connection, self._row.id, ("failed",), -1, 1)
        return items[0].reason if items else None

    # -- the end ---------------------------------------------------------------------------------------------------

    def _finish(self, work: Work) -> WorkflowRow | None:
        """The end that the goal says; None when the goal is another one by now."""
        with self._sync.catalog.write() as transaction:
            connection = transaction.connection
            self._hold(transaction)
            lost = store.turn_items(connection, self._row.id, ("waiting",), "failed")
            self._hold(transaction, processed=lost, errors=lost)
            row = store.workflow_by_name(connection, self._row.name)
            assert row is not None  # it is held
            counts = store.item_counts(connection, row.id)
            if row.goal == "completed":
                if counts.get("pending") or (row.errors and row.policy == "strict"):
                    return None
                failed = f"{row.errors} of {row.total} items failed" if row.errors else None
                return self._end(transaction, check_move(row.name, "processing", "complete"), failed)
            if counts.get("done"):
                return None
            work.undone(transaction)
            action = "cancel" if row.goal == "cancelled" else "take back"
            return self._end(transaction, check_move(row.name, "processing", action), row.error)

    def _end(self, transaction: Transaction, status: str, error: str | None) -> WorkflowRow:
        values: dict[str, Any] = {"owner": None, "lease_until": None, "error": error}
        if status != "failed":
            values["goal"] = "completed"
        store.change_workflow(
            transaction.connection, self._row.id, status=status, finished_at=transaction.now, **values
        )
        if settle_filters(transaction.connection, self._row.id):
            owe(transaction)
            finish(self._sync)
        note = "" if error is None else error.partition(":")[0] if status == "failed" else ""
        return tell(transaction, self._row, self._actor, "processing", note)
