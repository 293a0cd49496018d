"""The verbs beyond those of `verbs.py` that are stopped at every durable step: knowledge, fits, work, memory, states.

None of them changes a concept of the model, so what must be there afterwards is told by the rows: those of one of the
commits that the same run makes when nothing stops it.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

import vectorstore as vs
from tests.crash.model import matrix_of, vector_of
from tests.crash.verbs import A_FEW, INDEXED, PAIRS, Step, Verb, add, delete, names, purge, restore, upkeep

ALL = timedelta(0)
LOW = vs.IndexRecipe("sim64", "LSH64rt", ({"candidates": 400},), min_recall=0.0)


def _steps(*acts: Callable[[vs.Store], object]) -> list[Step]:
    return [upkeep(act) for act in acts]


def _beside(store: vs.Store, name: str) -> Path:
    """A place beside the store of this run."""
    assert store.path is not None
    return store.path.parent / name


def _new(store: vs.Store, name: str) -> Path:
    """A name beside the store of this run that is free: what a failing disk kept there is removed, as its error says."""
    path = _beside(store, name)
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
    return path


def _prepared(store: vs.Store, name: str) -> Path:
    """A place beside the store of the preparation, seen from a run."""
    return _beside(store, "..") / name


# -- knowledge ---------------------------------------------------------------------------------------------------------

_FRAME = {"name": "Rank", "elements": [{"name": "Ruler"}, {"name": "Heir"}]}


def _leave_context(store: vs.Store) -> None:
    """A context, saved beside the prepared store and erased in it."""
    store.contexts.add({"id": "france", "name": "france"})
    ids = names("f", 30)
    store.concepts.add([{"id": n, "name": n, "context": "france"} for n in ids], vectors=matrix_of(ids, 0))
    store.frames.add({**_FRAME, "context": "france"}, vectors=matrix_of(["rank"], 0))
    store.contexts.save("france", _beside(store, "saved"))
    for kind in ("frames", "concepts"):
        store[kind].delete(where={"context": "france"})
        store[kind].purge(older_than=ALL)
    store.contexts.delete("france")
    store.contexts.purge(older_than=ALL)


def _whole_folder(name: str) -> Callable[[vs.Store, Path], list[str]]:
    """What was saved beside the store is whole, or not there."""

    def also(store: vs.Store, root: Path) -> list[str]:
        path = root.parent / name
        if not path.exists():
            return []
        with vs.open(root.parent / "from folder", embedder=None) as found:
            found.contexts.load(path)
            return [] if len(found.concepts) == 40 else [f"{name} holds {len(found.concepts)} concepts"]

    return also


def _whole_export(store: vs.Store, root: Path) -> list[str]:
    path = root.parent / "out.jsonl"
    if not path.exists():
        return []
    with vs.open(root.parent / "from export", embedder=None, auto_publish=False) as found:
        found.import_(path)
        same = sorted(record.id for record in found.concepts) == sorted(record.id for record in store.concepts)
        return [] if same else ["an export has its name and is not whole"]


# -- fits --------------------------------------------------------------------------------------------------------------


TWO_DOMAINS = [
    add(names("r", 8), "royal"),
    add(names("s", 8), "army"),
    *_steps(
        lambda store: store.analogies.add(
            [{"id": f"pair {a}", "a": a, "b": b} for a, b in zip(names("r", 6), names("s", 6), strict=True)]
        )
    ),
]


def _label(store: vs.Store) -> None:
    store.clusters.update([{"id": cluster.id, "label": "named"} for cluster in store.clusters])


def _more(store: vs.Store) -> None:
    ids = names("z", 6)
    store.frames.add([{"id": n, "name": n} for n in ids], vectors=matrix_of(ids, 0))
    store.clusters.assign(ids, "frames")


# -- work --------------------------------------------------------------------------------------------------------------


def _work(prefix: str, count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": n, "a": n, "b": "x", **fields} for n in names(prefix, count)]


def _from_lines(store: vs.Store) -> None:
    with tempfile.TemporaryDirectory() as folder:  # where no rig looks
        path = Path(folder) / "items.jsonl"
        path.write_text("".join(json.dumps(item) + "\n" for item in _work("j", 20)))
        store.workflows.create_from_jsonl("analogies", path, id="lines")


def _half_bad(store: vs.Store) -> None:
    items = [*_work("g", 5), {"id": "bad", "a": "x", "b": "y", "quality": 7}]
    store.workflows.create("analogies", items, id="half", policy="lenient")
    store.workflows.process("half")


WORK = _steps(
    lambda store: store.workflows.create("analogies", _work("w", 30), id="made"),
    _from_lines,
    lambda store: store.workflows.update("analogies", [{"id": n, "b": "new"} for n in names("w", 9)], id="changed"),
    lambda store: store.workflows.delete("analogies", names("w", 4, 20), id="gone"),
    lambda store: store.workflows.create("analogies", _work("c", 3), id="cancelled"),
    lambda store: store.workflows.cancel("cancelled"),
    lambda store: store.workflows.process("made"),
    lambda store: store.workflows.process_all(),
    lambda store: store.workflows.rollback("changed"),
    _half_bad,
    lambda store: store.workflows.retry("half", {5: {"id": "bad", "a": "x", "b": "y", "quality": 0.7}}),
    lambda store: store.workflows.process("half"),
    lambda store: store.workflows.to_jsonl("half", _new(store, "items out.jsonl")),
    lambda store: store.workflows.cleanup(older_than=ALL),
)
EMBEDDED_WORK = _steps(
    lambda store: store.workflows.reembed("frames", id="anew"),
    lambda store: store.workflows.cluster("frames", "kmeans", 3, id="fit"),
    lambda store: store.workflows.reindex("frames", LOW, id="index"),
    lambda store: store.workflows.process_all(),
)

# -- the lattice, memories and minds -----------------------------------------------------------------------------------


LATTICE = _steps(
    lambda store: store.lattice.resolve("ebb", "flow"),
    lambda store: store.lattice.create_pair("tide", "ebb", "flow", domain="sea"),
    lambda store: store.lattice.put({"anchor": "wave", "domain": "sea"}, [{"symbol": "crest"}, {"symbol": "trough"}]),
    lambda store: store.lattice.append("wave", "foam"),
    lambda store: store.lattice.append_many("wave", [{"symbol": "spray"}, {"symbol": "salt"}]),
    lambda store: store.lattice.link("wave", "tide"),
    lambda store: store.lattice.unlink("wave", "tide"),
    lambda store: store.lattice.link("tide", "wave", "kin"),
    lambda store: store["form_edges"].delete(where={"type": "kin"}),
    lambda store: store.lattice.bring(
        {"law": {"domain": "law", "phase": "nascent", "terms": [{"symbol": "alpha", "timestamp": 1}]}}
    ),
    lambda store: store.lattice.clear("sea"),
)


def _mind(store: vs.Store) -> None:
    ids = names("k", 6)
    old = store._catalog.clock() - timedelta(days=4000)
    store.memories.add(
        [{"id": n, "content": n, "importance": 0.1, "last_accessed": old} for n in ids], vectors=matrix_of(ids, 0)
    )
    store.skills.add({"id": "review", "name": "review"})
    store.architectures.add([{"id": "t", "name": "T"}, {"id": "u", "name": "U"}])
    store.intelligences.add({"id": "alpha", "name": "Alpha", "architecture": "t"})


MIND = _steps(
    lambda store: store.skills.used("review", True),
    lambda store: store.intelligences.move("alpha", "running"),
    lambda store: store.architectures.delete("u"),
    lambda store: store.memories.forget(dry_run=False),
)

# -- states ------------------------------------------------------------------------------------------------------------


def _fill(state: Any, number: int) -> None:
    state["n"] = number
    state["kb"] = {f"k{n}": vs.NumericArtifact([number, n, 1.0], {"n": number}) for n in range(4)}
    state["array"] = np.full(500, number)


def _state(store: vs.Store) -> Any:
    state = store.state("agent", keep=3)
    state.load()
    return state


def _save(number: int, label: str | None = None) -> Callable[[vs.Store], object]:
    def act(store: vs.Store) -> None:
        state = _state(store)
        _fill(state, number)
        state.save(label=label)

    return act


def _plain_file(store: vs.Store) -> None:
    _state(store).export(_beside(store, "agent.json"), plain=True)


STATES = _steps(
    _save(1, "first"),
    _save(2),
    lambda store: _state(store).restore("first"),
    lambda store: _state(store).reindex(),
    lambda store: _state(store).forget("first"),
    lambda store: _state(store).push(_beside(store, "pushed")),
    _plain_file,
    lambda store: _state(store).rekey(vs.AesGcm(bytes(32))),
    lambda store: store.states.drop("agent"),
)


def _state_file(number: int) -> Callable[[vs.Store], object]:
    def act(store: vs.Store) -> None:
        state = vs.StateFile(_beside(store, "own.state"))
        state.load()
        _fill(state, number)
        state.save()

    return act


def _whole_file(store: vs.Store, root: Path) -> list[str]:
    state = vs.StateFile(root.parent / "own.state")
    whole = not state.load() or ((state["array"] == state["n"]).all() and state["kb"]["k3"].vector[0] == state["n"])
    return [] if whole else ["a state's file is half of one and half of another"]


# -- upkeep ------------------------------------------------------------------------------------------------------------


def _policy(store: vs.Store) -> None:
    store.policy = vs.Policy(retired_share=0.001, free_share=0.001, purge_after=ALL)


def _forget_gone(verb: Step) -> Step:
    return Step(verb.act, lambda model: model.gone.clear())


def _spoil_row(root: Path) -> None:
    connection = sqlite3.connect(root / "catalog.sqlite", isolation_level=None)
    connection.execute("UPDATE concepts SET pos = 'noun' WHERE id = 'a0007'")
    connection.close()


def _put_aside(store: vs.Store) -> None:
    store.repair(dry_run=False)


FAMILIES: dict[str, Verb] = {
    "audit recall": Verb(INDEXED, _steps(lambda store: store.concepts.audit_recall(sample=10))),
    "bind": Verb(
        [*A_FEW, upkeep(lambda store: store.frames.add(_FRAME, vectors=matrix_of(["rank"], 0)))],
        _steps(
            lambda store: store.instances.bind("Rank", {"Ruler": "a0001", "Heir": "a0002"}),
            lambda store: store.instances.bind("Rank", {"Ruler": "a0003", "Heir": "a0004"}, id="second"),
        ),
    ),
    "delete a context": Verb(
        [*A_FEW, upkeep(lambda store: store.contexts.add({"id": "empty", "name": "empty"}))],
        _steps(lambda store: store.contexts.delete("empty")),
    ),
    "save a context": Verb(
        A_FEW,
        _steps(lambda store: store.contexts.save("default", _new(store, "saved here"))),
        also=_whole_folder("saved here"),
    ),
    "load a context": Verb(
        [*A_FEW, upkeep(_leave_context)],
        [
            Step(
                lambda store: store.contexts.load(_prepared(store, "saved")),
                lambda model: [model.put(n, "", vector_of(n, 0)) for n in names("f", 30)],
            )
        ],
    ),
    "export": Verb(
        INDEXED,
        _steps(lambda store: store.export(_new(store, "out.jsonl"), vectors="all")),
        also=_whole_export,
    ),
    "relations of analogies": Verb(
        TWO_DOMAINS,
        _steps(
            lambda store: store.analogies.relate(),
            lambda store: store.analogies.discover("royal", "army", 0.0),
        ),
    ),
    "maps and fields": Verb(
        [*A_FEW, upkeep(lambda store: store.clusters.fit("concepts", "kmeans", 3))],
        _steps(
            lambda store: store.maps.fit("concepts"),
            lambda store: store.fields.discover("concepts", min_coherence=-1.0, min_members=1),
            _label,
            lambda store: store.clusters.refit("concepts", n=4),
            lambda store: store.fields.discover("concepts", min_coherence=-1.0, min_members=1),
            lambda store: store.clusters.drop("concepts"),
        ),
    ),
    "assign": Verb(
        [
            *A_FEW,
            upkeep(
                lambda store: store.frames.add(
                    [{"id": n, "name": n} for n in names("y", 12)], vectors=matrix_of(names("y", 12), 0)
                )
            ),
            upkeep(lambda store: store.clusters.fit("frames", "kmeans", 2)),
        ],
        _steps(_more),
    ),
    "work": Verb(A_FEW, WORK),
    "work that embeds": Verb(
        [upkeep(lambda store: store.frames.add([{"id": n, "name": n} for n in names("e", 30)]))],
        EMBEDDED_WORK,
        embedder="hash:16",
    ),
    "more lattice": Verb([*A_FEW, upkeep(lambda store: store.lattice.resolve_many(PAIRS[:5]))], LATTICE),
    "minds": Verb([*A_FEW, upkeep(_mind)], MIND),
    "states": Verb(A_FEW, STATES),
    "a state's file": Verb(A_FEW, _steps(_state_file(5), _state_file(6)), also=_whole_file),
    "a policy": Verb(
        INDEXED,
        [upkeep(_policy), _forget_gone(upkeep(lambda store: store.maintain()))],
    ),
    "an engine outside": Verb(
        A_FEW,
        [
            *_steps(lambda store: store.remotes.sync(60)),
            delete(names("a", 5)),
            *_steps(
                lambda store: store.remotes.sync(60),
                lambda store: store.remotes.settle("concepts", 60),
                lambda store: store.remotes.renew("concepts"),
                lambda store: store.remotes.sync(60),
                lambda store: store.repair(dry_run=False),
                lambda store: store.remotes.drop("concepts"),
            ),
        ],
        engine=True,
    ),
    "put aside": Verb(
        A_FEW,
        [
            Step(_put_aside, lambda model: model.delete(["a0007"])),
            restore(["a0007"]),
        ],
        spoil=_spoil_row,
        again=_put_aside,
    ),
    "deleted and erased": Verb(
        [*A_FEW, upkeep(lambda store: store.relations.add([{"source": "a0001", "target": "a0002", "type": "is"}]))],
        [
            upkeep(lambda store: store.relations.delete(where={"type": "is"})),
            delete(names("a", 5)),
            purge(names("a", 5)),
        ],
    ),
}
