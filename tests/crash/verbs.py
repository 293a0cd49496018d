"""The verbs that are stopped at every durable step: what is there before, what they do, what must be there after."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import vectorstore as vs
from tests.crash.memories import STEPS, half_remembered, remember
from tests.crash.model import Model, fields_of, matrix_of, vector_of


class Note(vs.Record, table="notes"):
    """A kind of the user's."""

    title: Annotated[str, vs.EMBEDDED]


class LongerNote(vs.Record, table="notes"):
    """The same kind, with an optional field that it gained later."""

    title: Annotated[str, vs.EMBEDDED]
    stars: Annotated[int | None, vs.INDEXED] = None


@dataclass(frozen=True)
class Step:
    """One acknowledged call, on the store and on the model."""

    act: Callable[[vs.Store], object]
    apply: Callable[[Model], object]


@dataclass(frozen=True)
class Verb:
    """Steps over a prepared store.

    `before` are the kinds it is prepared with, `spoil` damages it then, `again` is what its user would repeat after
    the crash, such as a repair that was cut short, `engine` has an engine outside answer for the concepts, `also` says
    what else is wrong, in the store or beside it.
    """

    prepare: Sequence[Step]
    steps: Sequence[Step]
    kinds: tuple[type[vs.Record], ...] = ()
    before: tuple[type[vs.Record], ...] = ()
    empty: bool = False
    embedder: str | None = None
    engine: bool = False
    spoil: Callable[[Path], None] | None = None
    again: Callable[[vs.Store], object] | None = None
    also: Callable[[vs.Store, Path], list[str]] | None = None

    @property
    def comparable(self) -> bool:
        """Whether the rows can be compared: what opening itself writes tells when that was, and engines have times."""
        return not self.empty and self.kinds == self.before and not self.engine


def names(prefix: str, count: int, start: int = 0) -> list[str]:
    return [f"{prefix}{number:04d}" for number in range(start, start + count)]


def _put(model: Model, ids: Iterable[str], revision: int, domain: str | None, vectors: bool = True) -> None:
    for name in ids:
        fields = fields_of(name, revision)
        model.put(name, fields["definition"], vector_of(name, revision) if vectors else None, domain)


def add(ids: list[str], domain: str | None = None, revision: int = 0) -> Step:
    records = [fields_of(name, revision, domain) for name in ids]
    return Step(
        lambda store: store.concepts.add(records, vectors=matrix_of(ids, revision)),
        lambda model: _put(model, ids, revision, domain),
    )


def upsert(ids: list[str], revision: int, domain: str | None = None) -> Step:
    records = [fields_of(name, revision, domain) for name in ids]
    return Step(
        lambda store: store.concepts.upsert(records, vectors=matrix_of(ids, revision)),
        lambda model: _put(model, ids, revision, domain),
    )


def update(ids: list[str], revision: int, domain: str | None = None, vectors: bool = True) -> Step:
    changes = [{**fields_of(name, revision), "domain": domain} for name in ids]
    given = matrix_of(ids, revision) if vectors else None
    return Step(
        lambda store: store.concepts.update(changes, vectors=given),
        lambda model: _put(model, ids, revision, domain, vectors),
    )


def delete(ids: list[str]) -> Step:
    return Step(lambda store: store.concepts.delete(ids), lambda model: model.delete(ids))


def delete_domain(domain: str) -> Step:
    return Step(
        lambda store: store.concepts.delete(where={"domain": domain}),
        lambda model: model.delete([n for n, entry in model.live.items() if entry.domain == domain]),
    )


def restore(ids: list[str]) -> Step:
    return Step(lambda store: store.concepts.restore(ids), lambda model: model.restore(ids))


def purge(ids: list[str] | None = None) -> Step:
    def forget(model: Model) -> None:
        for name in list(model.gone) if ids is None else ids:
            model.gone.pop(name, None)

    return Step(lambda store: store.concepts.purge(ids, older_than=timedelta(0)), forget)


def upkeep(act: Callable[[vs.Store], object]) -> Step:
    """Something that must not change any answer."""
    return Step(act, lambda model: None)


def notes(ids: list[str], **fields: Any) -> Step:
    return upkeep(lambda store: store["notes"].upsert([{"id": n, "title": f"note {n}", **fields} for n in ids]))


def together(*steps: Step) -> Step:
    """Several calls as one transaction."""

    def act(store: vs.Store) -> None:
        with store.transaction():
            for step in steps:
                step.act(store)

    return Step(act, lambda model: [step.apply(model) for step in steps])


def given_up(*steps: Step) -> Step:
    """A transaction that the caller rolls back."""

    def act(store: vs.Store) -> None:
        try:
            with store.transaction():
                for step in steps:
                    step.act(store)
                raise LookupError
        except LookupError:
            return

    return upkeep(act)


def bring_in(ids: list[str], revision: int, domain: str, gone: Sequence[str] = ()) -> Step:
    """A log of records with vectors, new ones and others, and of deletions, as one import."""

    def act(store: vs.Store) -> object:
        said: list[dict[str, Any]] = [{"kind": "concepts", "deleted": name} for name in gone]
        for name in ids:
            vectors = {"text": list(vector_of(name, revision))}
            said.append({"kind": "concepts", "record": fields_of(name, revision, domain), "vectors": vectors})
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:  # where no rig looks
            file.write("".join(json.dumps(line) + "\n" for line in said))
            file.flush()
            return store.import_(file.name, on_conflict="overwrite")

    def apply(model: Model) -> None:
        model.delete(gone)
        _put(model, ids, revision, domain)

    return Step(act, apply)


def fit(clusters: int) -> Step:
    return upkeep(lambda store: store.clusters.fit("concepts", "kmeans", clusters))


def rebuild(recipe: str) -> Step:
    return upkeep(lambda store: store.rebuild("concepts", recipe))


def history(span: str | None) -> Step:
    def act(store: vs.Store) -> None:
        store.history = span

    return upkeep(act)


def snapshot(name: str = "early") -> Step:
    return upkeep(lambda store: store.snapshots.add(name))


def _root(store: vs.Store) -> Path:
    assert store.path is not None
    return store.path


def back_up(store: vs.Store) -> None:
    """Beside the store: when it is prepared in the folder of all runs, else in that of the run."""
    store.backup(_root(store).parent / "backups", keep=2)


def restored(store: vs.Store) -> None:
    """A store beside this one, from the backup that was prepared; and once more, in its place."""
    again = _root(store).parent / "again"
    for _ in range(2):
        vs.restore(_root(store).parent.parent / "backups", again, replace=again.exists())


def early_is_as_it_was(before: Sequence[Step]) -> Callable[[vs.Store, Path], list[str]]:
    """The snapshot, when there is one, answers as the store did then."""

    def also(store: vs.Store, root: Path) -> list[str]:
        from tests.crash.verify import answers, state_of

        if "early" not in store.snapshots:
            return []
        model = states(Verb(before, []))[0]
        with store.as_of("early") as view:
            if state_of(view, [model]) is None:
                return ["the snapshot is not as it was"]
            return [f"snapshot: {problem}" for problem in (*answers(view, model), *map(str, view.check().findings))]

    return also


def backups_are_whole(store: vs.Store, root: Path) -> list[str]:
    """Every generation that has a manifest can be restored, and is in a state that the verb had."""
    from tests.crash.verify import state_of

    place = root.parent / "backups"
    if not (place / "generations").is_dir():
        return []
    backups = vs.Backups(place)
    problems = list(backups.verify().problems)
    for number, generation in enumerate(backups.list()):
        again = root.parent / f"again{number}"
        vs.restore(place, again, generation=generation.id)
        with vs.open(again, embedder=None, read_only=True) as found:
            if state_of(found, states(BACKUP)) is None:
                problems.append("a backup is in no state that the store had")
    store.backup(place, keep=1)
    kept = {entry.name for entry in (place / "files").iterdir()}
    if len(backups.list()) != 1 or not backups.verify().ok or any(".tmp" in name for name in kept):
        problems.append(f"the next backup left litter: {sorted(kept)}")
    return problems


def restored_or_not(store: vs.Store, root: Path) -> list[str]:
    """The other store is not there, or whole; nothing half is under its name."""
    from tests.crash.verify import answers, state_of

    problems: list[str] = []
    for path in [root.parent / "again", *root.parent.glob("again.*.replaced")]:
        if path.exists():
            with vs.open(path, embedder=None, read_only=True) as found:
                model = states(Verb(INDEXED, []))[0]
                problems += [str(finding) for finding in found.check().findings]
                problems += answers(found, model) if state_of(found, [model]) else [f"{path.name} is another store"]
    return problems


def _litter(root: Path) -> None:
    """What crashes leave: a torn temporary file, and whole files that no row names."""
    long_ago = time.time() - 86_400
    for folder, name in (
        ("embeddings/concepts", ".0123456789abcdef0123456789abcdef.tmp"),
        ("embeddings/concepts", f"{1:012d}-0123456789abcdef.npz"),
        ("indexes/concepts", "simhash512.1.01234567.faiss"),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / name).write_bytes(b"litter")
        os.utime(root / folder / name, (long_ago, long_ago))


def _lose_index(root: Path) -> None:
    for path in (root / "indexes" / "concepts").iterdir():
        path.unlink()


def _lose_models(root: Path) -> None:
    for path in (root / "models").iterdir():
        path.unlink()


def _mend(store: vs.Store) -> object:
    return store.repair(dry_run=False)


A_FEW = [add(names("a", 40), "few")]
MANY = [
    add(names("m", 1100), "many"),
    add(names("n", 250), "more"),
    upkeep(lambda store: store.flush()),
    add(names("p", 150), "pending"),
    delete(names("m", 30)),
    update(names("m", 20, 50), 1, "changed"),
]
INDEXED = [*MANY, rebuild("simhash512"), add(names("q", 60), "tail"), delete(names("n", 15))]

PAIRS = list(zip(names("a", 30), names("b", 30), strict=True))

VERBS: dict[str, Verb] = {
    "create": Verb([], [upkeep(lambda store: None), add(names("a", 3))], empty=True),
    "create and add large": Verb([], [add(names("l", 1030))], empty=True),
    "add small": Verb(A_FEW, [add(names("b", 1)), add(names("c", 5)), add(names("d", 1))]),
    "add large": Verb(A_FEW, [add(names("l", 1030), "large")]),
    "upsert": Verb(INDEXED, [upsert(names("a", 8) + names("m", 8, 100), 2), upsert(names("n", 1030, 200), 3)]),
    "update": Verb(INDEXED, [update(names("m", 5, 40), 2), update(names("q", 5), 2, "no new vector", False)]),
    "delete": Verb(INDEXED, [delete(names("m", 40, 20)), delete_domain("tail"), delete(["nobody"])]),
    "restore": Verb([*MANY, delete_domain("many")], [restore(names("m", 20)), restore(names("m", 1080, 20))]),
    "purge": Verb(INDEXED, [purge(names("m", 10)), purge()]),
    "flush": Verb(MANY, [upkeep(lambda store: store.flush())]),
    "publish": Verb(MANY, [upkeep(lambda store: store.publish("concepts"))]),
    "rebuild": Verb(INDEXED, [rebuild("simhash512"), rebuild("exact")]),
    "compact": Verb(INDEXED, [upkeep(lambda store: store.compact())]),
    "transaction": Verb(
        A_FEW,
        [
            together(add(names("t", 4)), delete(names("a", 3)), notes(names("x", 2))),
            together(add(names("u", 1030)), update(names("a", 2, 10), 1)),
            given_up(add(names("v", 1030)), delete(names("a", 9, 20))),
        ],
        kinds=(Note,),
        before=(Note,),
    ),
    "migrate": Verb(
        [*A_FEW, notes(names("x", 30))],
        [notes(["y"], stars=5)],
        kinds=(LongerNote,),
        before=(Note,),
    ),
    "sweep": Verb(INDEXED, [upkeep(lambda store: store.sweep(0))], spoil=_litter),
    "repair": Verb(INDEXED, [upkeep(_mend)], spoil=_lose_index, again=_mend),
    "fit": Verb(A_FEW, [fit(3)]),
    "refit and roll back": Verb(
        [*A_FEW, fit(3)], [fit(2), upkeep(lambda store: store.clusters.rollback(1)), fit(5), fit(4), fit(3), fit(2)]
    ),
    "keep a blob": Verb(
        A_FEW, [upkeep(lambda store: store.models.put("net", b"weights")), upkeep(lambda s: s.models.delete("net"))]
    ),
    "purge members": Verb([*A_FEW, fit(38)], [delete(names("a", 3)), purge(names("a", 3))]),
    "repair a model": Verb([*A_FEW, fit(3)], [upkeep(_mend)], spoil=_lose_models, again=_mend),
    "rotate the trail": Verb(
        A_FEW, [upkeep(lambda store: store.trail.rotate(1)), add(["r"]), upkeep(lambda store: store.trail.rotate())]
    ),
    "lattice": Verb(
        [*A_FEW, upkeep(lambda store: store.lattice.resolve_many(PAIRS))],
        [
            upkeep(lambda store: store.lattice.resolve_many(PAIRS)),
            upkeep(lambda store: store.lattice.link("a0000_b0000", "a0001_b0001", weight=0.5)),
            upkeep(lambda store: store.lattice.mutate("a0000_b0000", "dormant")),
            upkeep(lambda store: store.lattice.decay(7.0)),
            upkeep(lambda store: store.lattice.prune(0)),
            upkeep(lambda store: store.lattice.restore(where={"domain": "cls"})),
        ],
    ),
    "remember": Verb([*A_FEW, upkeep(remember)], [upkeep(step) for step in STEPS], also=half_remembered),
    "import": Verb(
        INDEXED,
        [
            bring_in(names("i", 60) + names("m", 10, 200), 2, "small", names("a", 5)),
            bring_in(names("j", 1100) + names("n", 30, 20), 3, "large", names("m", 8, 300)),
        ],
    ),
    "snapshot": Verb(
        INDEXED,
        [snapshot(), upsert(names("m", 30, 100), 5), upkeep(lambda store: store.compact()), purge(names("n", 5))],
    ),
    "history": Verb(
        [*INDEXED, snapshot()],
        [history("1 day"), update(names("m", 20, 200), 6), upkeep(lambda store: store.compact()), history(None)],
        also=early_is_as_it_was(INDEXED),
    ),
    "drop a snapshot": Verb(
        [*INDEXED, snapshot(), upsert(names("m", 40, 300), 7), upkeep(lambda store: store.compact())],
        [upkeep(lambda store: store.snapshots.drop("early"))],
        also=early_is_as_it_was(INDEXED),
    ),
    "purge from history": Verb(
        [*INDEXED, snapshot(), upkeep(lambda store: store.compact())], [purge(names("m", 10)), purge()]
    ),
    "look back": Verb(
        [*INDEXED, snapshot(), upsert(names("m", 40, 300), 7)],
        [upkeep(lambda store: store.as_of("early").close())],
        also=early_is_as_it_was(INDEXED),
    ),
    "maintain": Verb(INDEXED, [upkeep(lambda store: store.maintain(vs.Policy(retired_share=0.001, free_share=0.001)))]),
    "restore a backup": Verb(
        [*INDEXED, upkeep(back_up)],
        [upkeep(restored)],
        also=restored_or_not,
    ),
    "close": Verb(A_FEW, [add(names("w", 700))]),
}


BACKUP = Verb(
    INDEXED,
    [upkeep(back_up), add(names("b", 5)), upkeep(lambda store: store.compact()), upkeep(back_up), upkeep(back_up)],
    also=backups_are_whole,
)
VERBS["back up"] = BACKUP


def states(verb: Verb) -> list[Model]:
    """The model after 0, 1, 2, ... acknowledged steps."""
    model = Model()
    for step in verb.prepare:
        step.apply(model)
    found = [model]
    for step in verb.steps:
        model = model.copy()
        step.apply(model)
        found.append(model)
    return found
