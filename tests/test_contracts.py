"""What verbs demand and promise: each has bad inputs that it refuses at the call, naming field, value and rule."""

from __future__ import annotations

import ast
import inspect
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import refused
from refused.stores import OPENING

import vectorstore as vs
from vectorstore import contracts, promises
from vectorstore.keeping import Snapshots
from vectorstore.promises.rules import TEXT
from vectorstore.reason import REASONERS, Models
from vectorstore.remotes import Remotes
from vectorstore.states import States, StoreState
from vectorstore.storage.catalog import Catalog
from vectorstore.trail import Trail
from vectorstore.workflows import Workflows

NAN = float("nan")
STATES: tuple[type, ...] = (States, StoreState, vs.StateFile)
PARTS = (vs.Collection, vs.Maps, Models, Snapshots, Trail, Remotes, Workflows)
CLASSES: dict[str, type] = {
    cls.__name__: cls
    for top in (vs.Store, *PARTS, *STATES, *REASONERS.values())
    for cls in top.__mro__
    if cls.__module__.startswith("vectorstore.")
}

BAD = refused.every()
TAKES_NOTHING = {
    *(
        "Store.flush",
        "Store.health",
        "Keeping.warm",
        "Keeping.refresh",
        "Store.stats",
        "Versioned.lines",
        "Snapshots.list",
        "Remotes.status",
    ),
    *("Workflows.next", "Workflows.health", "Memories.ladder"),
    *("Trail.stream", "Trail.anchor", "Trail.flush"),
    *("States.list", "State.statistics", "StoreState.checkpoints", "StoreState.reindex"),
}


@pytest.fixture(scope="module")
def kb() -> Iterator[vs.Store]:
    with vs.open(":memory:", embedder="hash:16", auto_publish=False) as store:
        store.concepts.add([{"name": name, "domain": "royal", "quality": 0.5} for name in ("king", "queen", "page")])
        store.models.put("net", b"x")
        yield store


def same(found: object, expected: object) -> bool:
    return repr(found) == repr(expected)


def reached(store: vs.Store, owner: refused.Owner) -> Any:
    """What a row names: properties of the store, kinds that have none, or what a function of the store gives."""
    if callable(owner):
        return owner(store)
    target: Any = store
    for name in owner.split(".")[1:]:
        target = getattr(target, name) if hasattr(target, name) else target[name]
    return target


@pytest.mark.parametrize(("owner", "verb", "args", "options", "field", "value"), BAD)
def test_bad_inputs_are_refused_at_the_call(
    owner: refused.Owner, verb: str, args: Any, options: Any, field: Any, value: Any, kb: vs.Store
) -> None:
    seq, records = kb.stats()["seq"], list(kb.concepts)
    target = reached(kb, owner)
    with pytest.raises(vs.ContractViolation) as caught:
        getattr(target, verb)(*args, **options)  # nobody asks a stream for its first record here

    error = caught.value
    assert isinstance(error, ValueError) and error.rule and error.rule in str(error)
    assert field is ... or error.field == field
    assert value is ... or same(error.value, value)
    assert kb.stats()["seq"] == seq and list(kb.concepts) == records, "nothing was written"


@pytest.mark.parametrize(("options", "field"), OPENING)
def test_bad_options_of_opening_are_refused_before_anything_is_made(
    options: dict[str, Any], field: str, tmp_path: Path
) -> None:
    with pytest.raises(vs.ContractViolation) as caught:
        vs.open(**{"path": tmp_path / "kb", "embedder": None, **options})
    assert caught.value.field == field and not (tmp_path / "kb").exists()


def test_every_option_of_opening_has_bad_inputs() -> None:
    assert inspect.signature(vs.open).parameters.keys() == {field for _, field in OPENING}
    assert inspect.signature(vs.open).parameters.keys() >= promises.OPENING.keys()


def test_every_public_verb_has_a_contract_and_bad_inputs() -> None:
    public = {
        f"{name}.{method}"
        for name, cls in CLASSES.items()
        for method, function in vars(cls).items()
        if method[0] != "_" and inspect.isfunction(function) and method not in promises.UNCOUNTED
    }
    tried = set()
    with vs.open(":memory:", embedder=None) as store:
        for owner, verb, *_ in BAD:
            target = reached(store, owner)
            where = next(cls for cls in type(target).__mro__ if verb in vars(cls))
            tried.add(f"{where.__name__}.{verb}")

    assert public == promises.VERBS.keys() and len(promises.VERBS) == sum(len(each.VERBS) for each in promises.TABLES)
    assert public - tried == TAKES_NOTHING


def test_a_verb_named_by_no_class_is_noticed() -> None:
    class Odd:
        def verb(self, known: int) -> None: ...

    Odd.__module__ = "vectorstore.odd"
    with pytest.raises(TypeError, match="the contract names"):
        contracts.keep([Odd], {"Odd.verb": contracts.Verb({"unknown": TEXT})}, set())


def test_wrapping_leaves_names_docs_and_signatures() -> None:
    for name in promises.VERBS:
        cls, method = name.split(".")
        function = getattr(CLASSES[cls], method)
        assert function.__name__ == method and function.__doc__ and function.__wrapped__
    assert list(inspect.signature(vs.Collection.find).parameters) == ["self", "where", "order", "limit", "after"]


# -- what is no contract -----------------------------------------------------------------------------------------------


def test_disks_locks_and_absence_keep_their_own_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with vs.open(tmp_path / "kb", embedder=None, timeout=0.05) as store:
        store.concepts.add({"name": "king"}, vectors=[[1.0, 0.0]])
        entries = store.trail.list().total
        other = vs.open(tmp_path / "kb", embedder=None)
        with other, other.transaction(), pytest.raises(vs.StoreBusy) as busy:
            store.concepts.add({"name": "queen"}, vectors=[[0.0, 1.0]])
        with pytest.raises(vs.NotFound) as absent:
            store.concepts.update({"id": "nobody", "name": "x"})
        with pytest.raises(vs.DuplicateId) as taken:
            store.concepts.add({"name": "king"}, vectors=[[1.0, 0.0]])

        def full(catalog: Catalog, connection: Any) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Catalog, "_commit", full)
            with pytest.raises(OSError, match="No space left") as disk:
                store.concepts.add({"name": "queen"}, vectors=[[0.0, 1.0]])
        assert store.trail.list().total == entries, "none of these is a violation"
    for caught in (busy, absent, taken, disk):
        assert not isinstance(caught.value, vs.ContractViolation)
    assert not issubclass(vs.ContractViolation, OSError)


# -- switching ---------------------------------------------------------------------------------------------------------


def test_contracts_can_be_switched_off_and_data_is_still_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(store: vs.Store) -> bool:
        try:
            store.concepts.get_many("abc")  # each letter is an id to a verb that trusts its caller
        except vs.ContractViolation:
            return True
        return False

    with vs.open(":memory:", embedder="hash:8", contracts=False) as store:
        assert not refuses(store)
        with pytest.raises(vs.ValidationError, match="quality: expected 0..1"):
            store.concepts.add({"name": "x", "quality": 2})
        with pytest.raises(vs.ValidationError, match="say what"):
            store.concepts.delete(where={})
        with pytest.raises(vs.WhereError):
            store.concepts.count({"nothing": 1})
    for told, checked in (("off", False), ("0", False), ("on", True), ("1", True), (None, True)):
        monkeypatch.delenv(contracts.SWITCH, raising=False)
        if told is not None:
            monkeypatch.setenv(contracts.SWITCH, told)
        with vs.open(":memory:", embedder=None) as store:
            assert refuses(store) is checked
        with vs.open(":memory:", embedder=None, contracts=not checked) as store:
            assert refuses(store) is not checked, "the argument outweighs the environment"
    monkeypatch.setenv(contracts.SWITCH, "perhaps")
    with pytest.raises(vs.ValidationError, match="VECTORSTORE_CONTRACTS: expected on or off"):
        vs.open(":memory:")


# -- promises ----------------------------------------------------------------------------------------------------------


def broken(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, result: Any) -> None:
    """Let an inner part answer wrongly."""
    monkeypatch.setattr(owner, name, lambda *_, **__: result)


def test_a_result_that_breaks_its_promise_is_noticed(kb: vs.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    good = kb.concepts.search("king", k=2)
    twice = vs.Hits((good[0], good[0]), True, 1.0, 1, 0.0, "cosine", good.plan)
    worst_first = vs.Hits(good.hits[::-1], True, 1.0, 1, 0.0, "cosine", good.plan)
    too_sure = vs.Hits(good.hits, True, 1.5, 1, 0.0, "cosine", good.plan)
    searcher = kb.concepts._searcher(None)
    for wrong, k in ((twice, 2), (worst_first, 2), (too_sure, 2), (good, 1)):
        with monkeypatch.context() as patch:
            broken(patch, searcher, "search", wrong)
            with pytest.raises(vs.BrokenPromise, match="at most k different records") as caught:
                kb.concepts.search("king", k=k)
            assert caught.value.value is wrong and not isinstance(caught.value, vs.ValidationError)
    with monkeypatch.context() as patch:
        broken(patch, searcher, "search_many", [good])
        with pytest.raises(vs.BrokenPromise, match="one answer for each query"):
            kb.concepts.search_many(["king"], k=1)
    with monkeypatch.context() as patch:
        broken(patch, kb.concepts._table, "count", -1)
        with pytest.raises(vs.BrokenPromise, match="at least 0"):
            kb.concepts.count()
    with monkeypatch.context() as patch:
        broken(patch, kb.concepts._table, "count", 1)  # two records of one in all, and more to come
        with pytest.raises(vs.BrokenPromise, match="a cursor only where there are more"):
            kb.concepts.find(limit=2)
    with monkeypatch.context() as patch:
        broken(patch, kb.concepts, "_write", ["one"])
        with pytest.raises(vs.BrokenPromise, match="the id of each record"):
            kb.concepts.add([{"name": "a"}, {"name": "b"}])
    with vs.open(":memory:", embedder=None, contracts=False) as store:
        broken(monkeypatch, store.concepts._table, "count", -1)
        assert store.concepts.count() == -1, "switched off"


def test_a_catalog_put_back_under_an_open_store_is_noticed(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None) as store:
        store.concepts.add({"name": "first"}, vectors=[[1.0, 0.0]])
        earlier = store.stats()["seq"]
        store.concepts.add({"name": "second"}, vectors=[[1.0, 0.0]])
        connection = sqlite3.connect(tmp_path / "kb" / "catalog.sqlite")
        connection.execute("UPDATE state SET seq = ?", (earlier - 1,))
        connection.commit()
        connection.close()
        with pytest.raises(vs.BrokenPromise, match="replaced by an older one"):
            store.concepts.delete("default:nobody")


def test_a_transaction_that_is_rolled_back_breaks_no_invariant(kb: vs.Store) -> None:
    for _ in range(2):
        with pytest.raises(LookupError), kb.transaction():
            kb.concepts.add({"name": "passing"})
            raise LookupError
        kb.concepts.delete("default:nobody")


# -- values ------------------------------------------------------------------------------------------------------------


def test_errors_say_field_rule_and_value_and_survive_pickling_by_copy(kb: vs.Store) -> None:
    import copy

    with pytest.raises(vs.ContractViolation) as caught:
        kb.concepts.find(limit=0)
    twin = copy.copy(caught.value)
    for error in (caught.value, twin):
        assert (error.field, error.value, error.rule) == ("limit", 0, "expected a whole number in 1..10000")
        assert str(error) == "limit: expected a whole number in 1..10000, got 0"
    plain = vs.ValidationError("no field here")
    assert (plain.field, plain.value, plain.rule) == ("", None, "no field here")


def test_big_values_are_not_written_out(kb: vs.Store) -> None:
    with pytest.raises(vs.ContractViolation, match="got ndarray of shape") as caught:
        kb.concepts.find(limit=np.zeros(100_000))  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200
    with pytest.raises(vs.ContractViolation, match="got list") as caught:
        kb.concepts.get(list(range(10_000)))  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200


def test_streams_are_the_records_themselves(kb: vs.Store) -> None:
    stream = kb.concepts.stream(batch_size=1)
    assert [next(stream).name, *(each.name for each in stream)] == ["king", "queen", "page"]
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize("verb", ["stream", "search_range", "duplicates"])
def test_a_stream_that_is_left_early_is_closed(verb: str, kb: vs.Store) -> None:
    arguments: dict[str, Callable[[], Iterator[Any]]] = {
        "stream": lambda: kb.concepts.stream(),
        "search_range": lambda: kb.concepts.search_range("king", -1.0),
        "duplicates": lambda: kb.concepts.duplicates(-1.0),
    }
    stream: Any = arguments[verb]()
    next(stream)
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)


def test_the_table_is_data() -> None:
    """Every rule answers for anything without raising."""
    strange = (None, True, 0, -1, 1.5, NAN, "", "x", b"x", [], [1], {}, {"a": 1}, object(), int, np.ones(2), os.sep)
    rules = [rule for verb in promises.VERBS.values() for rule in verb.takes.values()]
    for rule in rules:
        assert rule.words and {rule.holds(value) for value in strange} <= {True, False}
    assert ast.literal_eval(json.dumps(sorted(promises.UNCOUNTED)))
