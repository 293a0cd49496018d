"""The proof of the trail: its chain computed again, through its files and the catalog."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from vectorstore.errors import CorruptError
from vectorstore.files import sha256
from vectorstore.storage import Connection
from vectorstore.storage import trail as chain
from vectorstore.sync.core import Sync, moved
from vectorstore.sync.telling import Progress

FOLDER = "trail"
_TOLD = 1000
"""Progress is told so many entries apart."""
_VALUES = ("number", "seq", "at", "operation", "kind", "rows", "actor", "details")
NAME = re.compile(r"\d+-\d+\.[0-9a-f]{16}\.jsonl\.gz")


@dataclass(frozen=True)
class TrailReport:
    """What `verify` found; `anchor` says where the chain ends now."""

    entries: int
    files: int
    findings: tuple[str, ...]
    anchor: str

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return not self.findings


def verified(
    sync: Sync, connection: Connection, anchor: tuple[int, str] | None = None, progress: Progress | None = None
) -> TrailReport:
    """The chain of one snapshot, computed again; progress is told (entries, entries)."""
    findings: list[str] = []
    number, digest, anchored = 0, chain.GENESIS, anchor is None or anchor == (0, chain.GENESIS.hex())

    def follow(links: Iterable[chain.Link], where: str) -> None:
        nonlocal number, digest, anchored
        for link in links:
            if link.number != number + 1:
                findings.append(f"{where}: entry {link.number} follows entry {number}: those between were removed")
            elif link.sealed(digest) != link.digest:
                findings.append(f"{where}: entry {link.number} was altered, or the one before it was")
            number, digest = link.number, link.digest
            if progress is not None and number % _TOLD == 0:
                progress(min(number, last), last)
            anchored = anchored or anchor == (number, digest.hex())

    last, sealed = chain.head(connection)
    files = chain.files_of(connection)
    for file in files:
        try:
            follow(read(sync, file), file.file)
            if (number, digest) != (file.last, file.digest):
                findings.append(f"{file.file}: ends with another entry than the one that the catalog holds of it")
        except CorruptError as error:
            if sync.unnamed_since(FOLDER, file.file):
                raise moved(connection) from None
            findings.append(str(error))
            number, digest = file.last, file.digest
    follow(chain.links(connection, {}), "catalog")
    if progress is not None:
        progress(last, last)
    if (number, digest) != (last, sealed):
        findings.append(f"the trail ends with entry {number}, and it ended with another entry {last}: it was cut off")
    if not anchored and anchor is not None:
        what = "was removed" if anchor[0] > number else "is another one now"
        findings.append(f"entry {anchor[0]} of the anchor {what}: the chain was made anew, or cut off")
    return TrailReport(number, len(files), tuple(findings), anchor_of(last, sealed))


def read(sync: Sync, file: chain.TrailFile) -> list[chain.Link]:
    """The entries of a file, whose bytes are those that were written.

    Raises:
        CorruptError: they are not, or the file is missing.
    """
    where = f"{FOLDER}/{file.file}"
    data = sync.folder(FOLDER, "").read(file.file)
    if len(data) != file.size or sha256(data) != file.sha256:
        raise CorruptError(f"{where} does not have the size and digest that the catalog holds; restore a backup")
    rows = (json.loads(line) for line in gzip.decompress(data).splitlines())
    return [chain.Link(**dict(zip(_VALUES, row, strict=False)), digest=bytes.fromhex(row[-1])) for row in rows]


def anchor_of(number: int, digest: bytes) -> str:
    """The end of a chain, as text."""
    return f"{number}:{digest.hex()}"
