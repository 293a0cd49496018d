"""The generations in a vault: listed, verified, thinned out."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from vectorstore.backups.manifest import GENERATION, MAX_BYTES, Manifest
from vectorstore.backups.vaults import FILES, GENERATIONS, Vault, vault_at
from vectorstore.errors import CorruptError, NotFound, ValidationError, VectorstoreError
from vectorstore.ids import from_micros, to_micros, utc_now
from vectorstore.storage.copying import problems_of_copy

Progress = Callable[[int, int], None]
ORPHAN_SECONDS = 86_400.0
"""Where there is no lock, a file that nothing names may belong to a backup that runs; after a day it does not."""


@dataclass(frozen=True)
class Generation:
    """One backup: the store as it was at a commit."""

    id: str
    store: str
    seq: int
    at: datetime
    made_at: datetime
    files: int
    bytes: int

    @classmethod
    def of(cls, manifest: Manifest) -> Generation:
        """What a manifest says in short."""
        moments = (from_micros(manifest.at), from_micros(manifest.made_at))
        return cls(manifest.id, manifest.store, manifest.seq, *moments, len(manifest.files), manifest.size)


@dataclass(frozen=True)
class VerifyReport:
    """What a verification looked at and found; `problems` is empty when every generation can be restored."""

    generations: tuple[str, ...]
    files: int
    bytes: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return not self.problems


class Backups:
    """The backups in a folder, or at a URL that fsspec opens.

    Raises:
        StoreError: there are none.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self._vault: Vault = vault_at(place, create=False)

    def list(self) -> list[Generation]:
        """All generations, newest first; damaged manifests are left out, `verify` names them."""
        found, _ = manifests_of(self._vault)
        return [Generation.of(manifest) for manifest in found]

    def verify(self, generation: str | None = None, progress: Progress | None = None) -> VerifyReport:
        """Prove that generations are whole: every file there, with its size and digest; every catalog sound.

        Args:
            generation: only this one; None for all.
            progress: told (bytes read, bytes to read).

        Cost: one read of every file, once however many generations name it.
        """
        found, problems = manifests_of(self._vault)
        if generation is not None:
            found, problems = [pick(self._vault, generation)], []
        sizes = self._vault.names(FILES)
        wanted = {entry.sha256: entry for manifest in found for entry in manifest.files}
        total, done = sum(entry.size for entry in wanted.values()), 0
        catalogs = {manifest.catalog.sha256 for manifest in found}
        for digest, entry in wanted.items():
            if sizes.get(digest) != entry.size:
                had = "is missing" if digest not in sizes else f"has {sizes[digest]} bytes, expected {entry.size}"
                problems.append(f"{FILES}/{digest} ({entry.path}) {had}")
                continue
            wrong = _wrong(self._vault, digest, digest in catalogs)
            problems += [f"{FILES}/{digest} ({entry.path}) {each}" for each in wrong]
            done += entry.size
            if progress is not None:
                progress(done, total)
        return VerifyReport(tuple(manifest.id for manifest in found), len(wanted), done, tuple(problems))

    def prune(self, keep: int | None = None, keep_for: timedelta | None = None) -> tuple[str, ...]:
        """Remove old generations, and the files that only they named; returns which.

        Args:
            keep: so many of the newest stay.
            keep_for: those that were made so lately stay. With both, a generation stays if either says so.

        The newest generation always stays.
        """
        with self._vault.alone():
            return prune(self._vault, keep, keep_for, utc_now())


def manifests_of(vault: Vault) -> tuple[list[Manifest], list[str]]:
    """(the sound manifests, newest first; what is wrong with the others)."""
    found: list[Manifest] = []
    problems: list[str] = []
    for name in sorted(vault.names(GENERATIONS), reverse=True):
        try:
            found.append(read_manifest(vault, name))
        except VectorstoreError as error:
            if name in vault.names(GENERATIONS):  # else another process has removed it meanwhile
                problems.append(str(error))
    return found, problems


def read_manifest(vault: Vault, name: str) -> Manifest:
    """The manifest in a file of the vault.

    Raises:
        CorruptError, NewerFormat: it cannot be used.
    """
    data = b""
    for chunk in vault.chunks(GENERATIONS, name):
        data += chunk
        if len(data) > MAX_BYTES:
            raise CorruptError(f"{GENERATIONS}/{name} is longer than a manifest can be")
    manifest = Manifest.from_bytes(data, f"{vault.name}: {GENERATIONS}/{name}")
    if name != f"{manifest.id}.json":
        raise CorruptError(f"{vault.name}: {GENERATIONS}/{name} is the manifest of {manifest.id}; somebody renamed it")
    return manifest


def pick(vault: Vault, generation: str | None) -> Manifest:
    """A generation's manifest; None for the newest that is sound.

    Raises:
        NotFound: there is none. CorruptError: it, or the newest one, is damaged.
    """
    names = sorted(vault.names(GENERATIONS), reverse=True)
    if generation is not None:
        if not GENERATION.fullmatch(generation) or f"{generation}.json" not in names:
            known = ", ".join(name.removesuffix(".json") for name in names[:10])
            raise NotFound(f"{vault.name}: no generation {generation!r}; there are: {known or 'none'}")
        return read_manifest(vault, f"{generation}.json")
    if not names:
        raise NotFound(f"{vault.name} holds no backup")
    return read_manifest(vault, names[0])


def prune(vault: Vault, keep: int | None, keep_for: timedelta | None, now: datetime) -> tuple[str, ...]:
    """As `Backups.prune`, with the vault held. A manifest goes before the files that it names."""
    if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 1):
        raise ValidationError(f"keep: expected a whole number of at least 1, got {keep!r}")
    found, problems = manifests_of(vault)
    gone: list[Manifest] = []
    if keep is not None or keep_for is not None:
        limit = None if keep_for is None else to_micros(now - keep_for)
        for place, manifest in enumerate(found):
            recent = limit is not None and manifest.made_at >= limit
            if place > 0 and not recent and (keep is None or place >= keep):
                gone.append(manifest)
    vault.withdraw([f"{manifest.id}.json" for manifest in reversed(gone)])
    if problems:  # a damaged manifest may name any file: none is removed until somebody has looked
        return tuple(manifest.id for manifest in gone)
    named = {entry.sha256 for manifest in found if manifest not in gone for entry in manifest.files}
    candidates = {entry.sha256 for manifest in gone for entry in manifest.files}
    candidates |= {name for folder, name in vault.litter(ORPHAN_SECONDS) if folder == FILES}
    if vault.locks:
        candidates |= set(vault.names(FILES))
        for folder, name in vault.litter(ORPHAN_SECONDS):
            vault.remove(folder, name)
    for name in sorted(candidates - named):
        vault.remove(FILES, name)
    return tuple(manifest.id for manifest in gone)


def _wrong(vault: Vault, digest: str, catalog: bool) -> list[str]:
    """What is wrong with a file, read whole; a catalog is proved, too."""
    found = hashlib.sha256()
    with tempfile.TemporaryDirectory(prefix="vectorstore-") as scratch:
        copy = Path(scratch) / "catalog.sqlite"
        with copy.open("wb") if catalog else open(os.devnull, "wb") as out:
            try:
                for chunk in vault.chunks(FILES, digest):
                    found.update(chunk)
                    out.write(chunk)
            except CorruptError as error:
                return [str(error)]
        if found.hexdigest() != digest:
            return ["does not have its digest"]
        return problems_of_copy(copy) if catalog else []
