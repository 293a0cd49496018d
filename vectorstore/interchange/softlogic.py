"""A store of the soft-logic persistence layer (gitrdm/ltnexp03): its contexts as JSON, JSON lines, SQLite and numpy.

    contexts/<name>/analogies.jsonl      a log of analogies with deletions
    contexts/<name>/concepts.sqlite      the same analogies once more, without the keys that its table lacks
    contexts/<name>/{concepts,frames,clusters,fields,analogies}.json[.gz]   a saved registry
    contexts/<name>/embeddings/embeddings.npz                               the vectors of its concepts

The log is believed where log and table differ: it has every key, and its order. A row that the log never names counts.
`knowledge_base_*.json[.gz]`, an export, is one registry in one file. Nothing pickled is opened. What has no place in a
record of ours goes into its `extra`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vectorstore.errors import ValidationError
from vectorstore.interchange.items import Item, Source, Vector
from vectorstore.interchange.lines import JsonError, parsed
from vectorstore.interchange.opened import lines_of, whole_bytes
from vectorstore.interchange.registry import analogy_of, contents_of
from vectorstore.storage.foreign import foreign

WORKSPACE = "batch_operations"
_REGISTRY = ("concepts", "frames", "clusters", "fields", "analogies")
_PICKLED = (".pkl", ".joblib", ".pth")
_COLUMNS = (
    *("id", "source_domain", "target_domain", "quality_score", "concept_mappings", "frame_mappings", "created_at"),
    *("updated_at", "deleted_at", "version", "tags", "metadata"),
)


class Places:
    """Numbers for lines and items of several files, and what they stand for."""

    def __init__(self) -> None:
        self._starts: list[tuple[int, Path, str]] = []
        self._last = 0

    def begin(self, path: Path, unit: str) -> Callable[[int], int]:
        """Gives the place of each line, item or row of a file."""
        start = self._last
        self._starts.append((start, path, unit))

        def place(number: int) -> int:
            self._last = max(self._last, start + number)
            return start + number

        return place

    def at(self, place: int) -> str:
        """How messages name a place."""
        start, path, unit = max((each for each in self._starts if each[0] < place), key=lambda each: each[0])
        return f"{path}:{place - start}" if unit == "line" else f"{path}: {unit} {place - start}"


def read_softlogic(path: Path, kind: str | None = None) -> Source:
    """The folder of such a store, or a file that it exported.

    Raises:
        ValidationError: it is none, or `kind` is named: the kinds are those that it has.
        When it is read: a damaged line, file or table, named.

    Memory: one registry, and the ids of a log.
    """
    if kind is not None:
        raise ValidationError(f"{path}: has kinds of its own; leave kind={kind!r} out")
    source = Source(path, lambda: iter(()), replays=True)
    folders = _folders(path) if path.is_dir() else []
    if path.is_dir() and not folders:
        raise ValidationError(f"{path}: holds no contexts/<name> with concepts, frames or analogies")

    def items() -> Iterator[Item]:
        source.left_out.clear()
        places = Places()
        source.at = places.at  # type: ignore[method-assign]  # lines of several files
        if path.is_file():
            yield from _exported(path, source, places)
        for folder in folders:
            yield from _context(folder, source, places)
        _count_the_rest(path, source)

    source.read = items
    return source


def _folders(path: Path) -> list[Path]:
    inside = path / "contexts"
    if not inside.is_dir():
        inside = path
    names = (
        "analogies.jsonl",
        "concepts.sqlite",
        *(f"{name}{end}" for name in _REGISTRY for end in (".json", ".json.gz")),
    )
    folders = [each for each in sorted(inside.iterdir()) if each.is_dir() and each.name != WORKSPACE]
    return [folder for folder in folders if any((folder / name).is_file() for name in names)]


def _context(folder: Path, source: Source, places: Places) -> Iterator[Item]:
    """What one context holds; tables first, then the registry, then the log, whose word is the last."""
    log = folder / "analogies.jsonl"
    named = _named(log) if log.is_file() else set()
    table = folder / "concepts.sqlite"
    if table.is_file():
        yield from _rows(table, folder.name, named, source, places)
    registry = {}
    for name in _REGISTRY:
        for end in (".json", ".json.gz"):
            if (folder / f"{name}{end}").is_file():
                registry[name] = folder / f"{name}{end}"
    said = {name: _json(file) for name, file in registry.items()}
    vectors = _vectors(folder / "embeddings" / "embeddings.npz")
    if said:
        place = places.begin(folder, "item")
        for number, item in enumerate(contents_of(said, folder.name, vectors, source), 1):
            yield item._replace(place=place(number))
    if log.is_file():
        yield from _log(log, folder.name, source, places)
    pickled = [file for file in sorted(folder.rglob("*")) if file.suffix in _PICKLED]
    for file in pickled:
        source.note(f"{file}: is pickled, and was not opened: a pickle can run anything; save it as JSON there")


def _json(path: Path) -> Any:
    try:
        return parsed(whole_bytes(path), str(path))
    except JsonError as error:
        raise ValidationError(f"{path}: {error}") from None


def _exported(path: Path, source: Source, places: Places) -> Iterator[Item]:
    said = _json(path)
    if not isinstance(said, Mapping) or not said.keys() & set(_REGISTRY):
        raise ValidationError(f"{path}: is no export of a soft-logic store: it has none of {', '.join(_REGISTRY)}")
    header = said.get("metadata")
    context = header.get("context_name") if isinstance(header, Mapping) else None
    inside = said.get("embeddings")
    vectors = inside.get("embeddings") if isinstance(inside, Mapping) else None
    place = places.begin(path, "item")
    chosen = {name: said[name] for name in _REGISTRY if said.get(name) is not None}
    found = contents_of(chosen, str(context or "default"), vectors if isinstance(vectors, Mapping) else {}, source)
    for number, item in enumerate(found, 1):
        yield item._replace(place=place(number))


# -- the log -----------------------------------------------------------------------------------------------------------


def _said(path: Path) -> Iterator[tuple[int, Any, bytes]]:
    """(number, what the line says, the line); a last line that a crash cut short says None."""
    held: tuple[int, bytes] | None = None
    for line in lines_of(path):
        if held is not None:
            yield held[0], _line(path, *held), held[1]
        held = line
    if held is not None:
        try:
            yield held[0], parsed(held[1], f"{path}:{held[0]}"), held[1]
        except JsonError as error:
            if held[1].endswith(b"\n"):
                raise ValidationError(f"{path}:{held[0]}: {error}") from None
            yield held[0], None, held[1]


def _line(path: Path, number: int, line: bytes) -> Any:
    try:
        return parsed(line, f"{path}:{number}")
    except JsonError as error:
        raise ValidationError(f"{path}:{number}: {error}") from None


def _named(path: Path) -> set[str]:
    """Ids that the log knows."""
    said = (each for _, each, _ in _said(path) if isinstance(each, Mapping))
    return {str(each.get("target_id") if each.get("type") == "deletion" else each.get("id")) for each in said}


def _log(path: Path, context: str, source: Source, places: Places) -> Iterator[Item]:
    place = places.begin(path, "line")
    for number, said, line in _said(path):
        if said is None:
            source.note(f"{path}:{number}: the last line was cut short and is left out ({len(line)} bytes)")
        elif not isinstance(said, Mapping):
            raise ValidationError(f"{path}:{number}: expected a JSON object, got {str(said)[:80]!r}")
        elif said.get("type") == "deletion" and isinstance(said.get("target_id"), str):
            yield Item("analogies", None, place(number), said["target_id"])
        else:
            record = analogy_of(said, context, f"{path.name}:{number}", source)
            if record is not None:
                yield Item("analogies", record, place(number))


# -- the table ---------------------------------------------------------------------------------------------------------


def _rows(path: Path, context: str, named: set[str], source: Source, places: Places) -> Iterator[Item]:
    place = places.begin(path, "row")
    with foreign(path) as database:
        if "analogies" not in database.tables:
            return
        for number, row in enumerate(database.rows("analogies", _COLUMNS), 1):
            if str(row["id"]) in named:
                continue
            if row.pop("deleted_at") is not None:
                source.left_out["deleted analogies"] = source.left_out.get("deleted analogies", 0) + 1
                continue
            said = {name: value for name, value in row.items() if value is not None}
            for name in ("concept_mappings", "frame_mappings", "tags", "metadata"):
                if isinstance(said.get(name), str):
                    said[name] = _line(path, number, said[name].encode())
            record = analogy_of(said, context, f"{path.name}:{number}", source)
            if record is not None:
                yield Item("analogies", record, place(number))


# -- vectors and the rest ----------------------------------------------------------------------------------------------


def _vectors(path: Path) -> dict[str, Vector]:
    """The vectors of concepts by their ids, as numpy packed them; nothing in it may be pickled."""
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as held:
            names, matrix = held["concept_ids"], np.asarray(held["embeddings"], dtype=np.float32)
    except Exception as error:  # numpy and zipfile raise a dozen classes for damaged files
        raise ValidationError(f"{path}: is no archive of vectors: {error}") from None
    if matrix.ndim != 2 or names.shape != (len(matrix),):
        raise ValidationError(f"{path}: {names.shape} ids for vectors of shape {matrix.shape}")
    return {str(name): Vector(vector, "pretrained") for name, vector in zip(names.tolist(), matrix, strict=True)}


def _count_the_rest(path: Path, source: Source) -> None:
    """What such a store has beside its contexts, counted."""
    if path.is_file():
        return
    waiting = path / "contexts" / WORKSPACE
    for name, files in (
        ("workflows", (path / "workflows").glob("**/workflow_*.json")),
        ("models", (each for each in (path / "models").glob("**/*") if each.is_file())),
    ):
        count = sum(1 for _ in files)
        if count:
            source.left_out[name] = count
    pending = sum(1 for file in waiting.glob("pending_*.jsonl") for _ in lines_of(file))
    if pending:
        source.left_out["items of batches that were never processed"] = pending
