"""What an export wrote, and what an import did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: the new file or folder.
        format: its format.
        records: how many, by kind.
        deleted: how many deletions, by kind.
        vectors: how many vectors went with them.
        seq: the commit that it shows.
        bytes: its size.
    """

    path: Path
    format: str
    records: dict[str, int]
    deleted: dict[str, int]
    vectors: int
    seq: int
    bytes: int


@dataclass(frozen=True)
class ImportReport:
    """What an import did, by kind; kinds of which nothing is to be told are left out.

    Attributes:
        path: the file or folder.
        format: what it was read as.
        added: new records.
        overwritten: records that were replaced by what came in.
        merged: records that took over what came in.
        skipped: records that stayed as they were because of `on_conflict="skip"`.
        unchanged: records that were there already, just so.
        deleted: records that a log's deletions removed.
        vectors: how many vectors came with the records.
        left_out: what has no kind here, counted by its name.
        notes: what else has to be said, such as a torn last line.
    """

    path: Path
    format: str
    added: dict[str, int]
    overwritten: dict[str, int]
    merged: dict[str, int]
    skipped: dict[str, int]
    unchanged: dict[str, int]
    deleted: dict[str, int]
    vectors: int
    left_out: dict[str, int]
    notes: tuple[str, ...]

    @property
    def records(self) -> int:
        """How many records were written."""
        return sum(sum(counts.values()) for counts in (self.added, self.overwritten, self.merged))
