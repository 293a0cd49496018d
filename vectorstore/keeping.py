"""A store over time: backups, its past, and its upkeep by a declared policy."""

from __future__ import annotations

import os
import re
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vectorstore.backups import BackupReport, back_up
from vectorstore.backups.mirrors import Mirror
from vectorstore.embedding import Embedding
from vectorstore.errors import ConflictError, CorruptError, NotFound, ValidationError
from vectorstore.ids import as_age, from_micros, to_micros
from vectorstore.policy import MaintainReport, Policy, put_policy, stored_policy
from vectorstore.storage import Catalog, history
from vectorstore.storage import spaces as rows
from vectorstore.storage.history import Moment
from vectorstore.sync import Progress, Sync, past, snapshot
from vectorstore.sync.mend import Quarantined, quarantined

if TYPE_CHECKING:
    from vectorstore.collection import Collection

_NAME = re.compile(r"[^\s/\\\x00-\x1f][^/\\\x00-\x1f]{0,99}")
_ATTEMPTS = 5


@dataclass(frozen=True)
class Snapshot:
    """A commit that has a name."""

    name: str
    seq: int
    at: datetime


class Snapshots:
    """The named snapshots of a store.

    A snapshot costs nothing when it is made. From then on every row that changes is kept as it was, and files that it
    needs stay, until the snapshot is dropped.
    """

    def __init__(self, sync: Sync) -> None:
        self._sync = sync

    def add(self, name: str) -> Snapshot:
        """Name the store as it is now; `store.as_of(name)` shows it.

        Raises:
            ValidationError: a bad name. ConflictError: there is one of that name.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValidationError(f"name: expected 1..100 printable characters without slashes, got {name!r}")
        with self._sync.catalog.write() as transaction:
            if name in history.snapshots_of(transaction.connection):
                raise ConflictError(f"there is a snapshot {name!r} already; drop it first, or choose another name")
            moment = past.name_moment(self._sync, name)
        return Snapshot(name, moment.seq, from_micros(moment.at))

    def list(self) -> list[Snapshot]:
        """All of them, oldest first."""
        with self._sync.catalog.read() as connection:
            found = history.snapshots_of(connection)
        return [Snapshot(name, moment.seq, from_micros(moment.at)) for name, moment in found.items()]

    def drop(self, name: str) -> None:
        """Forget a snapshot, with the rows and files that only it needed.

        Raises:
            NotFound: there is none of that name.
        """
        if not past.forget_moment(self._sync, name):
            known = ", ".join(each.name for each in self.list())
            raise NotFound(f"no snapshot {name!r}; there are: {known or 'none'}")

    def __contains__(self, name: object) -> bool:
        return any(each.name == name for each in self.list())

    def __len__(self) -> int:
        return len(self.list())


class Keeping:
    """The part of `Store` that is about time."""

    _sync: Sync
    _catalog: Catalog
    _embedding: Embedding
    path: Path | None
    read_only: bool
    _leave: Callable[[], object] | None = None
    _mirror: Mirror | None

    if TYPE_CHECKING:

        def collection(self, kind: str) -> Collection[Any]:
            """The records of a kind."""

        def compact(self, kind: str | None = None, progress: Progress | None = None) -> Any:
            """Drop retired vectors from the disk."""

    # -- what is read ------------------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Take a newer generation where the store is read from a URL; whether there was one. A folder is always new.

        Raises:
            StoreError: what is there now is another store, or an earlier commit; or it cannot be reached. NotFound:
                there is no backup any more. What was open stays open.
        """
        self._catalog.guard()
        if self._mirror is None or not self._mirror.turn():
            return False
        self._catalog.turn_to(self._mirror.catalog)
        return True

    def warm(self) -> None:
        """Load what the first search would load: the embedder, if there is one, and the spaces' vectors and indexes."""
        with self._catalog.read() as connection:
            names = [space.name for space in rows.all_spaces(connection)]
        for name in names:
            snapshot(self._sync, name)
        if not self._embedding.brings_vectors:
            self._embedding.query(None, ["warm"])

    # -- backup ----------------------------------------------------------------------------------------------------

    def backup(
        self,
        target: str | os.PathLike[str],
        *,
        keep: int | None = None,
        keep_for: timedelta | None = None,
        progress: Progress | None = None,
    ) -> BackupReport:
        """Save the store as of one commit, while others go on writing; `vectorstore.restore` makes a store of it.

        Catalog, vectors, indexes, models, history and snapshots are in it. Several generations share a target, and a
        file that is there already is not copied again.

        Args:
            target: a folder for the backups of this store alone, or a URL that fsspec opens (s3://bucket/kb).
            keep: thin out afterwards: so many of the newest generations stay.
            keep_for: likewise: those made so lately stay. With both, a generation stays if either says so.
            progress: told (bytes done, bytes to do).

        Raises:
            CorruptError: a segment is damaged; no backup was made. StoreError: the target cannot be used.

        Cost: the write lock for the time it takes to map the files; a copy of the catalog and of what is new.
        """
        return back_up(self._sync, target, keep=keep, keep_for=keep_for, progress=progress)

    # -- the past --------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """What the store was given when it was made; its backups and copies have it, too."""
        with self._catalog.read() as connection:
            return str(connection.execute("SELECT store FROM state").fetchone()[0])

    @property
    def moment(self) -> Moment:
        """The commit that a read sees now, and its instant in microseconds since 1970 UTC."""
        with self._catalog.read() as connection:
            return Moment(*connection.execute("SELECT seq, at FROM state").fetchone())

    @property
    def snapshots(self) -> Snapshots:
        """Named snapshots: add, list, drop."""
        return Snapshots(self._sync)

    @property
    def history(self) -> timedelta | None:
        """For how long what was overwritten and deleted is kept, for `as_of`; None: no longer than snapshots need it.

        Set it to a timedelta or to "30 days". It counts from then on. Rows cost their size once more for each change,
        and files that compaction replaced stay. `purge` erases from history, too.
        """
        with self._catalog.read() as connection:
            known = history.kept(connection)
        return None if known is None or known.keep is None else timedelta(microseconds=known.keep)

    @history.setter
    def history(self, span: timedelta | str | None) -> None:
        past.keep(self._sync, None if span is None else _micros(span, "history"))

    def as_of(self, when: datetime | int | str) -> Self:
        """The store as it was: a read-only one, whose answers are those of then.

        Args:
            when: an instant (the last commit of then, by the store's clock), a commit's sequence number, or the name of
                a snapshot.

        Raises:
            NotFound: history does not reach so far back, or there is no such snapshot.

        Cost: a copy of the catalog in a temporary folder, and what has changed since. Close it to remove the folder.
        What was purged since is not there any more; nor are past fits of clusters of a kind that was purged from.
        """
        if isinstance(when, bool) or not isinstance(when, datetime | int | str):
            raise ValidationError(f"when: expected a datetime, a sequence number or a snapshot's name, got {when!r}")
        at = to_micros(when) if isinstance(when, datetime) else None
        for attempt in range(_ATTEMPTS):
            try:
                return self._view(None if isinstance(when, datetime) else when, at)
            except CorruptError:  # a file may have been let go since the commit was picked
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _view(self, when: int | str | None, at: int | None) -> Self:
        folder, handle, moment = past.make_view(self._sync, when, at)
        try:
            instant = from_micros(at if at is not None else moment.at)
            view = type(self)(  # type: ignore[call-arg]
                folder,
                embedder=self._embedding._embedder,
                kinds=[table.schema.kind for table in self._sync.tables.values()],
                read_only=True,
                clock=lambda: instant,
                contracts=self._sync.watch.contracts,
            )
            view._sync.borrow(self._sync)
            view._leave = weakref.finalize(view, past.leave, folder, handle)
            try:
                with view._catalog.read() as connection:
                    names = [space.name for space in rows.all_spaces(connection)]
                for name in names:
                    snapshot(view._sync, name)  # maps the files, whatever becomes of their names
            except BaseException:
                view.close()  # type: ignore[attr-defined]
                raise
        except BaseException:
            past.leave(folder, handle)
            raise
        return view

    @property
    def quarantined(self) -> list[Quarantined]:
        """What a repair put aside, as it was found: damaged records, foreign triggers; a purge erases it."""
        with self._catalog.read() as connection:
            return quarantined(connection)

    # -- upkeep ----------------------------------------------------------------------------------------------------

    @property
    def policy(self) -> Policy | None:
        """When the store is compacted and purged by itself; None: never."""
        with self._catalog.read() as connection:
            return stored_policy(connection)

    @policy.setter
    def policy(self, policy: Policy | None) -> None:
        if policy is not None and not isinstance(policy, Policy):
            raise ValidationError(f"policy: expected a vs.Policy or None, got {policy!r}")
        with self._catalog.write() as transaction:
            put_policy(transaction.connection, policy)
            transaction.record("policy", declared=policy is not None)

    def maintain(self, policy: Policy | None = None, *, dry_run: bool = False) -> MaintainReport:
        """Do what is due: purge, forget old history, compact, give free pages back.

        Args:
            policy: what counts as due; None for the store's own, or the defaults of `Policy`.
            dry_run: only say what would be done.

        Cost: nothing when nothing is due; else that of `purge` and `compact`.
        """
        started = time.perf_counter()
        chosen = policy or self.policy or Policy()
        before = self._disk()
        actions = chosen.apply(self._sync, self.collection, self.compact, dry_run=dry_run)
        return MaintainReport(tuple(actions), before, self._disk(), dry_run, time.perf_counter() - started)

    def _disk(self) -> int:
        from vectorstore.maintenance import bytes_of

        return bytes_of(self._catalog.root)


def _micros(span: timedelta | str, where: str) -> int:
    """Microseconds of a span.

    Raises:
        ValidationError: none, or not positive.
    """
    found = as_age(span, where) if isinstance(span, str | timedelta) else timedelta(0)
    if not found:
        raise ValidationError(f"{where}: expected a span such as 30d, above zero, got {span!r}", value=span)
    return found // timedelta(microseconds=1)


def as_span(text: str, where: str) -> timedelta:
    """A timedelta above zero from text such as "30d" or "30 days"."""
    return timedelta(microseconds=_micros(text, where))
