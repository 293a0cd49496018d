"""What seldom comes to the doors: backups that meet trouble, recipes that cannot be, requests and frameworks that err."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # else each pipeline is told to its makers

import numpy as np
import pytest

import vectorstore as vs
from tests.conftest import Clock
from tests.http_client import problem, serving
from vectorstore.backups import generations, heads, making, mirrors, vault_at
from vectorstore.backups.vaults import RemoteVault
from vectorstore.clusters.recipes import ClusterRecipe
from vectorstore.files import sha256
from vectorstore.http import Limits, exchange
from vectorstore.http import serving as served
from vectorstore.http.problems import status_of
from vectorstore.http.service import StrictRequest
from vectorstore.storage import FORMAT
from vectorstore.sync import SnapshotMoved


@pytest.fixture
def kb(tmp_path: Path, clock: Clock) -> Iterator[vs.Store]:
    with vs.open(tmp_path / "kb", embedder="hash:16", auto_publish=False, clock=clock) as store:
        store.concepts.add([{"id": f"c{n:03}", "name": f"name {n}"} for n in range(60)])
        store.flush()
        yield store


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"memory://shelf/{tmp_path.name}"


def vault(url: str) -> RemoteVault:
    found = vault_at(url, create=True)
    assert isinstance(found, RemoteVault) and found.locks
    return found


# -- backups -----------------------------------------------------------------------------------------------------------


def test_a_verification_tells_how_far_it_is(kb: vs.Store, tmp_path: Path) -> None:
    kb.backup(tmp_path / "backups")
    told: list[tuple[int, int]] = []
    report = vs.Backups(tmp_path / "backups").verify(progress=lambda *pair: told.append(pair))
    assert report.ok and len(told) == report.files and told[-1] == (report.bytes, report.bytes) and told == sorted(told)


def test_a_manifest_longer_than_any_is_not_read_to_its_end(
    kb: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kb.backup(tmp_path / "backups")
    monkeypatch.setattr(generations, "MAX_BYTES", 20)
    backups = vs.Backups(tmp_path / "backups")
    assert backups.list() == []
    (told,) = backups.verify().problems
    assert told.endswith(".json is longer than a manifest can be")


def test_a_lost_index_is_left_out_and_a_lost_source_is_no_backup(kb: vs.Store, tmp_path: Path) -> None:
    kb.rebuild("concepts", vs.IndexRecipe("small", "LSH64rt", ({"candidates": 60},), min_recall=0.0))
    root = tmp_path / "kb"
    (index,) = (path for path in (root / "indexes").rglob("*") if path.is_file())
    index.unlink()
    report = kb.backup(tmp_path / "backups")
    assert report.left_out == (str(index.relative_to(root)),)
    assert vs.Backups(tmp_path / "backups").verify().ok
    segment = next(path for path in (root / "embeddings").rglob("*") if path.is_file())
    segment.unlink()
    with pytest.raises(vs.CorruptError, match=f"{segment.name}: it is missing or has another size; no backup was made"):
        kb.backup(tmp_path / "backups")
    assert len(vs.Backups(tmp_path / "backups").list()) == 1


def test_files_are_no_longer_kept_once_the_backup_has_failed(kb: vs.Store, tmp_path: Path) -> None:
    place = vault_at(tmp_path / "backups", create=True)
    stop = threading.Event()
    with making._frozen(kb._sync) as (_, named):
        assert named
        stop.set()
        kept = making._keep(place, named, None, stop)
        assert (kept.entries, kept.new_files, place.names("files")) == ([], 0, {})
        assert making._keep(place, named, None, threading.Event()).new_files == len(named)


def test_a_reader_whose_files_are_replaced_each_time_gives_up(
    kb: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def moved(*given: Any) -> Any:
        tries.append(1)
        raise SnapshotMoved

    with vs.open(tmp_path / "kb", embedder="hash:16", read_only=True) as reader:
        with monkeypatch.context() as patch:
            patch.setattr(making, "_pin", moved)
            with pytest.raises(vs.StoreError, match="its files kept being replaced; try again, or open it to write"):
                reader.backup(tmp_path / "backups")
        assert len(tries) > 1 and vs.Backups(tmp_path / "backups").list() == []
        reader.backup(tmp_path / "backups")


def test_a_place_is_renewed_while_it_is_held(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = vault(url)
    with place.alone():
        before = place._heads.latest()
        place._heads.still()
        assert place._heads.latest() == before
        monkeypatch.setattr(heads, "LEASE", 0.0)
        place._heads.still()
        after = place._heads.latest()
        assert before is not None and after is not None
        assert after.number == before.number + 1 and after.holder == before.holder


def test_who_has_lost_its_place_tells_nobody_any_more_that_it_lives(url: str) -> None:
    place = vault(url)
    with place.alone():
        number = place._heads._numbers()[-1]
        mine, place._heads._mine = place._heads._mine, None
        place._heads._beat(SimpleNamespace(wait=lambda seconds: False))  # type: ignore[arg-type]
        assert place._heads._numbers()[-1] == number
        place._heads._mine = mine


@pytest.mark.parametrize("failures", [2, 100])
def test_a_head_that_two_make_at_once_is_asked_for_again(
    failures: int, kb: vs.Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = vault(url)
    real, left, slept = place._fs.pipe_file, [failures], list[float]()

    def conflict(path: str, data: bytes, mode: str = "overwrite", **more: Any) -> Any:
        if mode == "create" and "/heads/0" in path and left[0] > 0:
            left[0] -= 1
            raise OSError("409: a conflicting operation is in progress")
        return real(path, data, mode=mode, **more)

    monkeypatch.setattr(heads, "time", SimpleNamespace(sleep=slept.append, monotonic=time.monotonic))
    monkeypatch.setattr(place._fs, "pipe_file", conflict)
    if failures == 2:
        with place.alone():
            assert place._heads._mine is not None
        assert slept == [0.1, 0.2]
        return
    with pytest.raises(vs.StoreError, match="409: a conflicting operation"), place.alone():
        raise AssertionError("the place is not ours")
    assert len(slept) == heads._ATTEMPTS - 1 and place._heads.latest() is None


def test_what_does_not_arrive_whole_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = vault(url)
    with pytest.raises(vs.CorruptError, match="not those that the catalog vouches for"):
        place.put("files", "x", b"abc", sha256(b"abd"))
    assert place.names("files") == {}
    with monkeypatch.context() as patch:
        patch.setattr(place._fs, "info", lambda path: {"size": 2})
        with pytest.raises(vs.StoreError, match="2 of 3 bytes of files/x arrived; try again"):
            place.put("files", "x", b"abc", sha256(b"abc"))
    place.put("files", "x", b"abc", sha256(b"abc"))
    assert place.names("files") == {"x": 3}


def test_where_nobody_can_lock_only_old_files_are_litter(url: str) -> None:
    place = vault(url)
    place.locks = False
    place.put("files", "x", b"abc", sha256(b"abc"))
    assert place.litter(0.0) == [("files", "x")] and place.litter(3600.0) == []


def test_a_store_of_another_format_is_not_read_where_it_lies(
    kb: vs.Store, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kb.backup(url)
    for known, error in ((FORMAT - 1, vs.NewerFormat), (FORMAT + 1, vs.StoreError)):
        with monkeypatch.context() as patch:
            patch.setattr(mirrors, "FORMAT", known)
            with pytest.raises(error, match=f"has format {FORMAT}, this vectorstore reads {known}"):
                vs.open(url, read_only=True, cache=tmp_path / "cache")
    with vs.open(url, embedder="hash:16", read_only=True, cache=tmp_path / "cache") as reader:
        assert reader._mirror is not None and not reader._mirror.bring("segments", "concepts.text", "none.npz")
        assert reader.concepts.search("name 7", k=1)[0].id == "c007"


# -- recipes -----------------------------------------------------------------------------------------------------------

INDEX: dict[str, Any] = {"name": "r", "factory": "HNSW16", "points": [{"candidates": 100}]}
CLUSTERS: dict[str, Any] = {"name": "r", "method": "kmeans"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "a b"}, "recipe.name: expected letters, digits, - and _, got 'a b'"),
        ({"points": []}, "recipe.points: expected at least one"),
        ({"min_recall": 2}, "recipe.min_recall: expected 0..1, got 2"),
        ({"min_recall": "all"}, "recipe.min_recall: expected 0..1, got 'all'"),
        ({"train_rows": 255}, "recipe.train_rows: expected at least 256, got 255"),
        ({"points": [{"nprobe": 3}]}, "recipe.points[0]: expected candidates and optionally efSearch or nprobe"),
        ({"points": [{"candidates": 5}, {"candidates": 5, "x": 1}]}, "recipe.points[1]: expected candidates"),
        ({"points": [{"candidates": 0}]}, "recipe.points[0].candidates: expected a whole number of at least 1, got 0"),
        ({"points": [{"candidates": True}]}, "recipe.points[0].candidates: expected a whole number"),
    ],
)
def test_an_index_recipe_that_cannot_be_is_refused_by_its_key(change: dict[str, Any], told: str) -> None:
    assert vs.IndexRecipe.from_dict(INDEX).name == "r"
    with pytest.raises(vs.RecipeError, match=re.escape(told)):
        vs.IndexRecipe.from_dict({**INDEX, **change})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "a b"}, "recipe.name: expected letters, digits, - and _, got 'a b'"),
        ({"when": 5}, "recipe.when: expected text, got 5"),
        ({"options": [1]}, "recipe.options: expected a table, got [1]"),
    ],
)
def test_a_cluster_recipe_that_cannot_be_is_refused_by_its_key(change: dict[str, Any], told: str) -> None:
    assert ClusterRecipe.from_dict(CLUSTERS).name == "r"
    with pytest.raises(vs.RecipeError, match=re.escape(told)):
        ClusterRecipe.from_dict({**CLUSTERS, **change})


# -- requests ----------------------------------------------------------------------------------------------------------


def test_a_body_that_names_another_record_than_the_path_changes_nothing(kb: vs.Store) -> None:
    before = kb.moment.seq
    with serving(kb, work=False) as client:
        for call in (client.put, client.patch):
            told = problem(call("/concepts/c001", json={"id": "c002", "name": "x"}), 422, "ValidationError")
            assert told["field"] == "id" and told["rule"] == "expected the one of the path, or none"
    assert kb.moment.seq == before


def test_a_record_without_a_vector_is_like_nothing(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    store.concepts.add([{"id": "a", "name": "a"}], vectors=np.eye(1, 4))
    store.concepts.add([{"id": "b", "name": "b"}])
    with serving(store, work=False) as client:
        told = problem(client.post("/concepts/similarity", json={"first": "a", "second": "b"}), 404, "NotFound")
        assert told["detail"] == "concepts: 'b' has no vector"


def test_recalls_weigh_by_age_and_by_what_led_there(kb: vs.Store) -> None:
    kb.memories.add(
        [{"id": f"m{n}", "content": text} for n, text in enumerate(["the kettle", "the stove", "the fuse"])]
    )
    kb.causes.add([{"source": "m0", "target": "m1"}, {"source": "m1", "target": "m2"}])
    (kind,) = {each.type for each in kb.causes}
    weights = {"importance": 0.5, "recency": 0.5, "half_life_days": 2.0}
    with serving(kb, work=False) as client:
        hits = client.post("/memories/recall", json={"query": "kettle", "salience": weights}).json()["hits"]
        assert {hit["record"]["id"] for hit in hits} == {"m0", "m1", "m2"}
        for types, hops in (([kind], 2), (["none such"], 0)):
            body = {"query": "kettle", "k": 3, "spread": {"hops": 2, "types": types}}
            found = client.post("/memories/associate", json=body)
            assert found.status_code == 200, found.text
            known = kb.memories.associate("kettle", 3, spread=vs.Spread(hops=2, types=tuple(types)))
            came = found.json()["associations"]
            assert [(one["record"]["id"], one["score"]) for one in came] == [
                (one.record.id, one.score) for one in known
            ]
            assert any(one["path"] for one in came) == bool(hops)


def test_a_batch_may_update_and_has_a_limit(kb: vs.Store) -> None:
    with serving(kb, work=False, limits=Limits(records=2)) as client:
        records = [{"id": f"c{n:03}", "rank": n} for n in range(3)]
        told = problem(client.post("/concepts/batch", json={"records": records}), 422, "ValidationError")
        assert told["detail"] == "records: expected at most 2 in one request" and kb.workflows.list() == []
        made = client.post("/concepts/batch", json={"records": records[1:], "operation": "update"})
        assert made.status_code == 202 and kb.concepts.get("c002").extra == {}
        kb.workflows.process(made.json()["id"])
        assert kb.concepts.get("c002").extra == {"rank": 2} and kb.concepts.get("c002").name == "name 2"


def test_an_upload_of_many_pieces_comes_whole(kb: vs.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "PIECE", 10)
    body = b"".join(b'{"id": "n%d", "name": "new %d"}\n' % (n, n) for n in range(20))

    async def pieces() -> Any:
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    async def joined() -> list[bytes]:
        return [piece async for piece in exchange._joined(pieces())]

    found = asyncio.run(joined())
    assert b"".join(found) == body and {len(piece) for piece in found[:-1]} == {14}
    with serving(kb, work=False) as client:
        assert client.post("/concepts/import", content=body).json()["added"] == {"concepts": 20}


def test_a_body_is_read_once() -> None:
    sent: list[dict[str, Any]] = [{"type": "http.request", "body": b'{"a": 1}', "more_body": False}]

    async def receive() -> Any:
        return sent.pop()

    async def twice() -> tuple[Any, Any]:
        request = StrictRequest({"type": "http", "method": "POST", "headers": []}, receive)
        return await request.json(), await request.json()

    first, second = asyncio.run(twice())
    assert first == {"a": 1} and first is second


def test_a_rule_that_was_declared_is_the_callers_fault(kb: vs.Store) -> None:
    with pytest.raises(vs.ValidationError) as raised:
        kb.concepts.find(limit=0)
    assert raised.value.declared and status_of(raised.value) == 400
    assert status_of(vs.ValidationError("name: wrong")) == 422


def test_what_cannot_be_served_is_refused_and_no_token_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str | None] = []
    monkeypatch.setenv(served.TOKEN, "the token of before, long")
    monkeypatch.setenv(served.PLAN, "")
    monkeypatch.setattr("uvicorn.run", lambda *given, **options: ran.append(os.environ.get(served.TOKEN)))
    with pytest.raises(vs.ValidationError, match="serve: expected a store on disk, got :memory:"):
        served.serve(served.Plan(":memory:"), None)
    assert served.token_of(None, "localhost", none=True) is None
    for token in (None, "a-token-for-tests-only"):
        served.serve(served.Plan("/nowhere"), token)
        assert ran.pop() == token


# -- frameworks --------------------------------------------------------------------------------------------------------


def test_haystacks_store_that_was_open_stays_open(tmp_path: Path) -> None:
    haystack = pytest.importorskip("vectorstore.integrations.haystack")
    from vectorstore.integrations.passages import passages

    with vs.open(tmp_path / "kb", embedder=None, kinds=[passages()]) as store:
        made = haystack.KnowledgeDocumentStore(store)
        with pytest.raises(vs.ValidationError, match="to_dict: made of an open store; make it of a path"):
            made.to_dict()
        made.close()
        assert store.collection("passages").count() == 0


def test_langchain_gets_no_relevance_out_of_inner_products() -> None:
    from langchain_core.embeddings import DeterministicFakeEmbedding

    from vectorstore.integrations.langchain import KnowledgeStore

    with KnowledgeStore(embedding=DeterministicFakeEmbedding(size=4), metric="ip") as store:
        store.add_texts(["a", "b"])
        with pytest.raises(vs.ValidationError, match="inner products have no bounds; use similarity_search_with_score"):
            store.similarity_search_with_relevance_scores("a")
        assert len(store.similarity_search_with_score("a", k=2)) == 2


def test_llamaindexs_store_takes_what_others_wrote(tmp_path: Path) -> None:
    from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters

    from vectorstore.integrations.llamaindex import KnowledgeVectorStore
    from vectorstore.integrations.passages import passages

    with vs.open(tmp_path / "kb", embedder=None, kinds=[passages()]) as store:
        made = KnowledgeVectorStore(store)
        assert made.add([]) == []
        store.collection("passages").add({"id": "p", "text": "plain", "metadata": {"n": 1}}, vectors=np.eye(1, 4))
        (node,) = made.get_nodes(["p"])
        assert (node.node_id, node.get_content(), node.metadata) == ("p", "plain", {"n": 1})
        odd = MetadataFilter.model_construct(key="n", value=1, operator="~")
        with pytest.raises(vs.WhereError, match="no operator '~'"):
            made.get_nodes(filters=MetadataFilters(filters=[odd]))
        made.close()
        assert store.collection("passages").count() == 1


def test_a_model_is_called_by_its_own_name_where_it_says_one() -> None:
    from vectorstore.integrations.passages import name_of

    assert name_of(SimpleNamespace(model=5, model_name="mini")) == "mini"
    assert name_of(SimpleNamespace(model="", model_id="id")) == "id"
    assert name_of(SimpleNamespace()) == "types.SimpleNamespace"
