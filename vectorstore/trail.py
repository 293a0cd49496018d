"""What was done to a store, by whom and when; and the proof that nothing of it was changed or left out.

    [(entry.at, entry.actor, entry.kind, entry.count) for entry in store.trail.list(operation="purge")]
    anchor = store.trail.anchor()  # print it, keep it elsewhere
    store.trail.verify(anchor).ok

Entries are written by the transaction that does what they tell, so the trail and the catalog cannot drift apart.
Refused calls are entries too. Whoever can write the catalog can also make a whole new chain: only an anchor that was
kept elsewhere tells it from the old one.
"""

from __future__ import annotations

import contextlib
import getpass
import gzip
import itertools
import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from vectorstore.errors import ContractViolation, CorruptError, StoreBusy, StoreError, ValidationError
from vectorstore.files import sha256
from vectorstore.ids import from_micros, to_micros
from vectorstore.results import Page, as_cursor, from_cursor
from vectorstore.storage import Connection, Done, Transaction
from vectorstore.storage import trail as chain
from vectorstore.sync import Progress, SnapshotMoved, Sync, growing
from vectorstore.sync.trail import FOLDER, TrailReport, anchor_of, read, verified

ACTOR = "VECTORSTORE_ACTOR"
VIOLATION = "violation"
_SHOWN_IDS = 1_000
_PAUSE = 1.0
_WAITING = 1_000
_ANCHOR = re.compile(r"(\d+):([0-9a-f]{64})")
log = logging.getLogger("vectorstore")


@dataclass(frozen=True)
class TrailEntry:
    """One thing that was done, or refused.

    Attributes:
        number: 1, 2, 3, ... without a gap.
        seq: the commit that it belongs to; of a refused call the last one before it was written down.
        at: when.
        operation: "add", "upsert", "update", "delete", "restore", "purge", "expire", "fit", "compact", "publish", ...;
            "violation" for a call that broke its contract.
        kind: whose records; None for none or all.
        count: how many records it concerned.
        ids: theirs, without those that were erased since; at most the first 1,000.
        actor: who did it.
        details: more about it, nothing of any record.
        digest: 64 hex digits, of the entry before and of this one.
    """

    number: int
    seq: int
    at: datetime
    operation: str
    kind: str | None
    count: int
    ids: tuple[str, ...]
    actor: str
    details: Mapping[str, Any]
    digest: str


def actor_of(asked: str | None) -> str:
    """Who acts: as asked, else as the environment says, else the user of the operating system.

    Raises:
        ValidationError: not 1..255 printable characters.
    """
    name = asked if asked is not None else os.environ.get(ACTOR)
    if name is None:
        try:
            return getpass.getuser()
        except (KeyError, OSError):  # a container's user may have no name
            return f"uid {os.getuid()}"
    if not isinstance(name, str) or not 0 < len(name) <= 255 or not name.isprintable():
        raise ValidationError(f"actor: expected 1..255 printable characters, got {name!r}", value=name)
    return name


@dataclass(eq=False)
class _Taken:
    """Refused calls, each with its time, that a commit is to write; `end` is the last entry of that commit."""

    calls: list[tuple[Done, int]]
    end: tuple[int, bytes] | None = None


class Trail:
    """The trail of an open store."""

    def __init__(self, sync: Sync, actor: str, *, write: bool) -> None:
        self._sync = sync
        self._waiting: list[tuple[Done, int]] = []
        self._taken: list[_Taken] = []
        self._lock = threading.Lock()
        self._written = -_PAUSE
        self.actor = actor
        if write and not sync.catalog.read_only:
            sync.catalog.before_commit = self._append
            sync.watch.violated = self._violated

    # -- reading ---------------------------------------------------------------------------------------------------

    def list(
        self,
        *,
        operation: str | None = None,
        kind: str | None = None,
        id: str | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[TrailEntry]:
        """One page of the entries that are in the catalog, newest first; `stream` gives those in files as well.

        Args:
            operation: only this one.
            kind: only of this kind.
            id: only what concerned this record of the kind, which must still be there.
            actor: only by this one.
            since: only from then on.
            limit: 1..10,000.
            after: the `next` of the page before.

        Raises:
            ValidationError: a bad argument. NotFound: no such kind.

        Cost: of a page; with an id the entries of its kind are read until the page is full.
        """
        if id is not None and kind is None:
            raise ValidationError("kind: is required with an id: which kind's record is it", value=None)
        self.flush()
        filters = {"operation": operation, "kind": kind, "actor": actor}
        filters["since"] = None if since is None else to_micros(since)  # type: ignore[assignment]
        cursor = from_cursor(after)
        before = None if cursor is None else cursor[1]
        with self._sync.catalog.read() as connection:
            if id is None:
                total = chain.count(connection, filters)
                found = [*chain.links(connection, filters, limit + 1, before)]
            else:
                row = self._sync.table(str(kind)).existing(connection, [id]).get(id)
                every = [] if row is None else [*chain.links(connection, filters)][::-1]
                own = [link for link in every if any(row[0] in part for part in chain.from_ranges(link.rows))]  # type: ignore[index]
                total = len(own)
                found = [link for link in own if before is None or link.number < before][: limit + 1]
            entries = self._entries(connection, found[:limit])
        last = as_cursor(None, found[limit - 1].number) if len(found) > limit else None
        return Page(tuple(entries), total, last)

    def stream(self) -> Iterator[TrailEntry]:
        """All entries, oldest first, those in files too; as of one commit."""
        self.flush()
        return self._stream()

    def _stream(self) -> Iterator[TrailEntry]:
        with self._sync.catalog.read() as connection:
            links = [*self._links(connection)]
            entries = self._entries(connection, links)
        yield from entries

    def ids(self, number: int) -> tuple[str, ...]:
        """The ids of all records that an entry of the catalog concerned and that are still there."""
        with self._sync.catalog.read() as connection:
            found = next(chain.links(connection, {}, 1, number + 1), None)
            if found is None or found.number != number:
                raise ValidationError(f"number: expected the number of an entry in the catalog, got {number!r}")
            return self._named(connection, [found], None)[number]

    def anchor(self) -> str:
        """Where the chain ends now, as "number:digest": print it, or keep it elsewhere, for a later `verify`."""
        self.flush()
        with self._sync.catalog.read() as connection:
            return anchor_of(*chain.head(connection))

    def verify(self, anchor: str | None = None, progress: Progress | None = None) -> TrailReport:
        """Compute the whole chain again, through files and catalog; finds what was altered, removed or cut off.

        Args:
            anchor: what `anchor` gave at some time; then the chain must still lead through that very entry.
            progress: told (entries, entries).

        Raises:
            ValidationError: that is no anchor.

        Cost: about 5 microseconds an entry.
        """
        match = None if anchor is None else _ANCHOR.fullmatch(anchor)
        if anchor is not None and match is None:
            raise ValidationError(f"anchor: expected 'number:digest', as anchor() gives, got {anchor!r}")
        self.flush()
        told = progress and growing(progress)
        while True:
            with self._sync.catalog.read() as connection, contextlib.suppress(SnapshotMoved):
                return verified(self._sync, connection, None if match is None else (int(match[1]), match[2]), told)

    # -- rotating --------------------------------------------------------------------------------------------------

    def rotate(self, keep: int = 0) -> str | None:
        """Move entries into an immutable file in `trail/`, named with its digest in the catalog; the chain goes on.

        Args:
            keep: how many of the newest ones stay in the catalog.

        Returns:
            The file's path below the store's folder; None when there was nothing to move.

        Raises:
            CorruptError: the entries do not fit their digests; nothing was moved.
        """
        self.flush()
        with self._sync.catalog.read() as connection:
            links = [*chain.links(connection, {})]
            files = chain.files_of(connection)
        moved = links[: len(links) - keep] if keep else links
        if not moved:
            return None
        digest = files[-1].digest if files else chain.GENESIS
        for link in moved:
            if link.sealed(digest) != link.digest:
                raise CorruptError(f"trail: entry {link.number} was altered; nothing was moved; see trail.verify()")
            digest = link.digest
        data = gzip.compress("".join(_line(link) for link in moved).encode(), mtime=0)
        folder = self._sync.folder(FOLDER, "")
        name = f"{moved[0].number}-{moved[-1].number}.{sha256(data)[:16]}.jsonl.gz"
        with self._sync.catalog.write() as transaction:
            first = next(chain.links(transaction.connection, {}), None)
            if first is None or first.number != moved[0].number:
                return None  # somebody else has just rotated
            info = folder.publish(name, [data])
            transaction.undo.append(partial(folder.remove, name))
            chain.move_to_file(transaction.connection, moved, info)
            transaction.record("rotate", first=moved[0].number, last=moved[-1].number, file=name)
        return f"{FOLDER}/{name}"

    # -- writing ---------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write refused calls that wait, if that can be done now."""
        if (self._waiting or self._taken) and not self._sync.catalog.in_transaction:
            try:
                with self._sync.catalog.write(aside=True, wait=0):
                    self._written = time.monotonic()
            except StoreBusy:
                pass  # somebody is writing; they wait for the next occasion, which may be that writer's commit
            except StoreError as error:
                log.warning("the trail lacks %d refused calls: %s", len(self._waiting), error)

    def _append(self, transaction: Transaction) -> None:
        """The entries of a transaction, and of what was refused before it, in its own commit.

        Refused calls are taken out of those that wait before it is known how the commit ends: other threads may commit,
        and refuse, between that and the first moment at which this one can tidy up.
        """
        self._settle(transaction.connection)
        done = transaction.done or _unrecorded(transaction)
        with self._lock:
            taken, self._waiting = _Taken(self._waiting), []
            if taken.calls:
                self._taken.append(taken)
        if not done and not taken.calls:
            return
        transaction.undo.append(partial(self._put_back, taken))
        entries = [*taken.calls, *((each, transaction.now) for each in done)]
        chain.append(transaction.connection, transaction.seq, self.actor, entries)
        taken.end = chain.head(transaction.connection)
        transaction.after.append(partial(self._forget, taken))

    def _settle(self, connection: Connection) -> None:
        """Look how commits ended of which nobody was told: under the write lock they have."""
        with self._lock:
            unsettled = list(self._taken)
        for taken in unsettled:
            written = self._holds(connection, taken.end)
            self._forget(taken) if written else self._put_back(taken)

    def _holds(self, connection: Connection, end: tuple[int, bytes] | None) -> bool:
        """Whether the chain leads through an entry; one that cannot be read any more does not count."""
        if end is None:
            return False
        links = chain.links(connection, {}, 1, end[0] + 1)
        with contextlib.suppress(CorruptError):
            rotated = (
                read(self._sync, file) for file in chain.files_of(connection) if file.first <= end[0] <= file.last
            )
            return any((link.number, link.digest) == end for link in itertools.chain(links, *rotated))
        return False

    def _forget(self, taken: _Taken) -> None:
        with self._lock, contextlib.suppress(ValueError):  # another commit may have settled it
            self._taken.remove(taken)

    def _put_back(self, taken: _Taken) -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._taken.remove(taken)
            self._waiting[:0] = taken.calls

    def _violated(self, verb: str, kind: str, error: ContractViolation) -> None:
        """Note a refused call: at once, but no more than one commit a second, else with the next commit.

        Nothing of what was refused is kept, only where it was and what was demanded: it may be anything.
        """
        catalog = self._sync.catalog
        details = {"verb": verb, "error": type(error).__name__, **_safe(self._sync, kind, error)}
        known = kind if kind in self._sync.tables else None
        with self._lock:
            if len(self._waiting) >= _WAITING:
                log.warning("%s.%s was refused, and the trail has no room for it now", kind, verb)
                return
            self._waiting.append((Done(VIOLATION, known, [], details), to_micros(catalog.clock())))
        if time.monotonic() - self._written >= _PAUSE:
            self.flush()

    # -- parts -----------------------------------------------------------------------------------------------------

    def _links(self, connection: Connection) -> Iterator[chain.Link]:
        for file in chain.files_of(connection):
            yield from read(self._sync, file)
        yield from chain.links(connection, {})

    def _entries(self, connection: Connection, links: Sequence[chain.Link]) -> Iterator[TrailEntry]:
        names = self._named(connection, links, _SHOWN_IDS)
        return (
            TrailEntry(
                link.number,
                link.seq,
                from_micros(link.at),
                link.operation,
                link.kind,
                sum(map(len, chain.from_ranges(link.rows))),
                names[link.number],
                link.actor,
                json.loads(link.details),
                link.digest.hex(),
            )
            for link in links
        )

    def _named(
        self, connection: Connection, links: Sequence[chain.Link], most: int | None
    ) -> dict[int, tuple[str, ...]]:
        """Number of an entry -> ids."""
        rows = {link.number: _first(chain.from_ranges(link.rows), most) for link in links}
        names: dict[str, dict[int, str]] = {}
        for kind in {link.kind for link in links if link.kind in self._sync.tables}:
            wanted = {row for link in links if link.kind == kind for row in rows[link.number]}
            names[str(kind)] = chain.names_of(connection, self._sync.table(str(kind)).table, sorted(wanted))
        return {
            link.number: tuple(
                known[row] for row in rows[link.number] if row in (known := names.get(str(link.kind), {}))
            )
            for link in links
        }


def _line(link: chain.Link) -> str:
    values = [*(getattr(link, name) for name in link.__dataclass_fields__ if name != "digest"), link.digest.hex()]
    return json.dumps(values, separators=(",", ":")) + "\n"


def _first(ranges: Sequence[range], most: int | None) -> list[int]:
    rows: list[int] = []
    for part in ranges:
        rows += part if most is None else part[: most - len(rows)]
    return rows


def _unrecorded(transaction: Transaction) -> list[Done]:
    """What a transaction that recorded nothing told its hooks; if it told nothing and changed rows, "other"."""
    told = [Done(str(details.get("operation", event)), None, [], dict(details)) for event, details in transaction.notes]
    if transaction.connection.changed > transaction.changes:
        return told or [Done("other", None, [], {})]
    return []


def _safe(sync: Sync, kind: str, error: ContractViolation) -> dict[str, object]:
    """Where it was and what was demanded, in our own words only; names that are not ours become `*`."""
    ours = {kind, "extra", "where", *error.parameters}
    ours |= set(sync.tables[kind].schema.by_name) if kind in sync.tables else set()
    steps = re.findall(r"\[\d+\]|[^.\[\]]+", error.field)
    place = "".join(step if step[0] == "[" else f".{step if step in ours else '*'}" for step in steps)
    found: dict[str, object] = {"field": place.removeprefix("."), "type": type(error.value).__name__}
    return {**found, "rule": error.rule} if error.declared else found
