"""When a store is compacted and purged: a declared policy, applied after commits or when asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from vectorstore.errors import ValidationError
from vectorstore.ids import to_micros
from vectorstore.storage import Connection, history
from vectorstore.storage import spaces as rows
from vectorstore.storage.settings import put_setting, setting
from vectorstore.sync import Sync, past
from vectorstore.sync.compact import wasted

_SETTING = "policy"


@dataclass(frozen=True)
class Policy:
    """What makes upkeep due.

    Attributes:
        retired_share: a space is compacted when so large a share of its vectors on disk is retired ...
        retired_bytes: ... or so many bytes of vectors are; either is enough.
        free_share: free pages of the catalog are given back when they are so large a share of it.
        purge_after: records that were deleted, or have expired, so long ago are erased; None: never by itself.
        automatic: writers look after their commits; False leaves it to `maintain`.
    """

    retired_share: float = 0.3
    retired_bytes: int = 256 * 1024 * 1024
    free_share: float = 0.25
    purge_after: timedelta | None = None
    automatic: bool = True

    def __post_init__(self) -> None:
        for name in ("retired_share", "free_share"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
                raise ValidationError(f"policy.{name}: expected a share in 0..1, above 0, got {value!r}")
        if isinstance(self.retired_bytes, bool) or not isinstance(self.retired_bytes, int) or self.retired_bytes < 1:
            raise ValidationError(f"policy.retired_bytes: expected a positive whole number, got {self.retired_bytes!r}")
        if self.purge_after is not None and not (
            isinstance(self.purge_after, timedelta) and self.purge_after >= timedelta(0)
        ):
            raise ValidationError(f"policy.purge_after: expected a timedelta or None, got {self.purge_after!r}")

    def spaces_due(self, sync: Sync, connection: Connection) -> list[str]:
        """Spaces of which too much is retired."""
        due = []
        for space in rows.all_spaces(connection):
            dead, total = wasted(sync, connection, space)
            if dead and (dead >= self.retired_share * total or dead * space.dim * 4 >= self.retired_bytes):
                due.append(space.name)
        return due

    def apply(
        self,
        sync: Sync,
        collection: Callable[[str], Any],
        compact: Callable[[str], Any],
        *,
        dry_run: bool,
    ) -> Iterator[str]:
        """Do what is due, in the order in which one makes room for the next; tells what it has done."""
        if self.purge_after is not None:
            yield from self._purge(sync, collection, self.purge_after, dry_run)
        with sync.catalog.read() as connection:
            kept = history.kept(connection)
        if kept is not None and not dry_run:
            with sync.catalog.write() as transaction:
                dropped = past.prune(sync, transaction)
                transaction.record("forget history", past=dropped)
            if dropped:
                yield f"forgot {dropped} past rows"
        with sync.catalog.read() as connection:
            due = self.spaces_due(sync, connection)
        for name in due:
            if dry_run:
                yield f"compact {name}"
                continue
            for report in compact(name):
                yield f"compacted {name}: {report.vectors_removed} vectors removed, {report.vectors_kept} kept"
        with sync.catalog.read() as connection:
            pages, free = (connection.execute(f"PRAGMA {p}").fetchone()[0] for p in ("page_count", "freelist_count"))
        if free and free >= self.free_share * pages:
            if not dry_run:
                sync.catalog.vacuum()
                sync.catalog.checkpoint()
            yield f"{'give' if dry_run else 'gave'} {free} free pages of the catalog back"

    def _purge(self, sync: Sync, collection: Callable[[str], Any], after: timedelta, dry_run: bool) -> Iterator[str]:
        limit = to_micros(sync.catalog.clock() - after)
        for name, table in sync.tables.items():
            with sync.catalog.read() as connection:
                old = connection.execute(
                    f"SELECT count(*) FROM {table.table} WHERE deleted_at <= ? OR expires_at <= ?", (limit, limit)
                ).fetchone()[0]
            if old and dry_run:
                yield f"purge {old} {name}"
            elif old and (erased := collection(name).purge(older_than=after)):
                yield f"purged {erased} {name}"


@dataclass(frozen=True)
class MaintainReport:
    """What upkeep did (or would do, on a dry run), and the bytes of all files before and after."""

    actions: tuple[str, ...]
    bytes_before: int
    bytes_after: int
    dry_run: bool
    seconds: float


def stored_policy(connection: Connection) -> Policy | None:
    """The policy that was declared for the store."""
    found = setting(connection, _SETTING)
    if found is None:
        return None
    after = found.pop("purge_after")
    return Policy(**found, purge_after=None if after is None else timedelta(microseconds=after))


def put_policy(connection: Connection, policy: Policy | None) -> None:
    """Declare a policy for the store; None for none."""
    value = None if policy is None else asdict(policy)
    if value is not None and policy is not None and policy.purge_after is not None:
        value["purge_after"] = policy.purge_after // timedelta(microseconds=1)
    put_setting(connection, _SETTING, value)
