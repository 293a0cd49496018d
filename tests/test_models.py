"""Model files are read with distrust, come back when they are lost, and blobs are only ever kept."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from joblib.numpy_pickle import NumpyArrayWrapper
from sklearn.cluster import KMeans

import vectorstore as vs
from tests.test_clusters import blobs, fill
from vectorstore import files
from vectorstore.clusters import modelfiles

GOOD = modelfiles.to_bytes(np.eye(3, 4, dtype=np.float32))


@pytest.fixture
def kb(open_store: Callable[..., vs.Store]) -> vs.Store:
    return open_store()


@pytest.fixture
def forbidden() -> Iterator[list[str]]:
    """What a file that is being loaded must not do, as the interpreter's own audit sees it."""
    seen: list[str] = []
    active = [True]
    load(GOOD)  # imports are made now: they execute code of their own

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if active[0] and event in (
            "os.system",
            "subprocess.Popen",
            "exec",
            "socket.connect",
            "os.remove",
            "shutil.rmtree",
        ):
            seen.append(f"{event} {arguments}")

    sys.addaudithook(hook)
    yield seen
    active[0] = False


def load(data: bytes, *, sha256: str | None = None, written_by: str | None = None) -> Any:
    digest = hashlib.sha256(data).hexdigest() if sha256 is None else sha256
    return modelfiles.from_bytes(data, "models/x", sha256=digest, written_by=written_by or modelfiles.library())


class Call:
    """Pickled, it is a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def dumped(thing: Any) -> bytes:
    stream = io.BytesIO()
    joblib.dump(thing, stream)
    return stream.getvalue()


def objects(thing: Any) -> np.ndarray:
    array = np.empty(1, dtype=object)
    array[0] = thing
    return array


def fitted(**attributes: Any) -> KMeans:
    model = modelfiles.estimator(np.eye(3, 4, dtype=np.float32))
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


MARK = "vectorstore-test-code-ran"
HOSTILE: dict[str, Callable[[], bytes]] = {
    "os.system": lambda: pickle.dumps(Call(os.system, f"touch /tmp/{MARK}")),
    "eval": lambda: pickle.dumps(Call(eval, f"open('/tmp/{MARK}', 'w')")),
    "a call inside the model": lambda: dumped(fitted(extra=Call(os.system, f"touch /tmp/{MARK}"))),
    "a call inside an object array": lambda: dumped(objects(Call(os.system, f"touch /tmp/{MARK}"))),
    "an object array in the model": lambda: dumped(fitted(cluster_centers_=objects(1))),
    "joblib's own gadget": lambda: (
        b"\x80\x02cjoblib.testing\ncheck_subprocess_call\n](X\x05\x00\x00\x00touchX\x08\x00\x00\x00/tmp/pwndl\x85R."
    ),
    "numpy.load": lambda: pickle.dumps(Call(np.load, "/tmp/x.npy", None, True)),
    "numpy.memmap": lambda: pickle.dumps(Call(np.memmap, f"/tmp/{MARK}", "u1", "w+", 0, (10,))),
    "numpy.ndarray with a size": lambda: pickle.dumps(Call(np.ndarray, (1 << 40,))),
    "512 GB of array": lambda: pickle.dumps(NumpyArrayWrapper(np.ndarray, (2**36,), "C", np.dtype("f8"))),
    "a negative side": lambda: pickle.dumps(NumpyArrayWrapper(np.ndarray, (-1, 4), "C", np.dtype("f4"))),
    "a zlib bomb": lambda: zlib.compress(pickle.dumps(bytes(1 << 26), protocol=4), 9),
    "another estimator": lambda: dumped(__import__("sklearn.cluster", fromlist=["DBSCAN"]).DBSCAN()),
    "no estimator": lambda: dumped(np.eye(3)),
    "NaN centroids": lambda: dumped(fitted(cluster_centers_=np.full((3, 4), np.nan, np.float32))),
    "a wrong number": lambda: dumped(fitted(n_clusters=4)),
    "double centroids": lambda: dumped(fitted(cluster_centers_=np.eye(3, 4))),
    "an extension": lambda: b"\x80\x02\x82\x01.",
    "a persistent id": lambda: b"\x80\x02Pnobody\n.",
    "half of it": lambda: GOOD[: len(GOOD) // 2],
    "nothing": lambda: b"",
    "text": lambda: b"hello",
    "a deep nest": lambda: b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",
    "too big a memo": lambda: b"\x80\x04" + b"\x8d" + (1 << 40).to_bytes(8, "little") + b"x.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_and_run_nothing(name: str, forbidden: list[str]) -> None:
    data = HOSTILE[name]()
    with pytest.raises(vs.ModelRefused, match="models/x: was not loaded"):
        load(data)
    assert forbidden == [] and not Path("/tmp", MARK).exists() and not Path("/tmp/pwn").exists()


def test_the_hostile_files_would_run_elsewhere(tmp_path: Path) -> None:
    """That the test above can fail: joblib's own loader runs what ours refuses."""
    mark = tmp_path / "ran"
    (tmp_path / "model").write_bytes(pickle.dumps(Call(os.mkdir, str(mark))))
    joblib.load(tmp_path / "model")
    assert mark.exists()


def test_a_good_file_is_loaded_and_the_same_model_gives_the_same_bytes() -> None:
    model = load(GOOD)
    assert type(model) is KMeans and model.predict(np.eye(3, 4, dtype=np.float32)).tolist() == [0, 1, 2]
    assert modelfiles.to_bytes(np.eye(3, 4, dtype=np.float32)) == GOOD
    assert (joblib.load(io.BytesIO(GOOD)).cluster_centers_ == model.cluster_centers_).all()


def test_only_what_was_written_by_this_library_is_loaded() -> None:
    with pytest.raises(
        vs.ModelRefused, match=r"not those that were written; refit, or run: vectorstore check --repair"
    ):
        load(GOOD, sha256="0" * 64)
    with pytest.raises(vs.ModelRefused, match=r"written by scikit-learn 0.19, joblib 0.11, this is scikit-learn"):
        load(GOOD, written_by="scikit-learn 0.19, joblib 0.11")
    older = GOOD.replace(b"1.9.1", b"1.2.0") if b"1.9.1" in GOOD else None
    if older is not None:  # the version inside the pickle is believed as little
        with pytest.raises(vs.ModelRefused, match="InconsistentVersionWarning"):
            load(older)


def test_no_flipped_bit_gets_past_the_digest() -> None:
    random = np.random.default_rng(0)
    digest = hashlib.sha256(GOOD).hexdigest()
    for bit in random.integers(0, len(GOOD) * 8, 200).tolist():
        data = bytearray(GOOD)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(vs.ModelRefused):
            load(bytes(data), sha256=digest)
        try:  # even if the digest were forged, it ends in a model of finite centroids or in our error
            model = load(bytes(data))
        except vs.ModelRefused:
            continue
        assert np.isfinite(model.cluster_centers_).all()


# -- in a store --------------------------------------------------------------------------------------------------------


def files_of(kb: vs.Store) -> list[Path]:
    assert kb.path is not None
    return sorted((kb.path / "models").iterdir())


@pytest.mark.parametrize("damage", ["lost", "torn", "flipped", "swapped", "hostile"])
def test_a_damaged_model_file_is_reported_and_written_again(damage: str, kb: vs.Store) -> None:
    fill(kb)
    kb.clusters.fit("concepts", "kmeans", 4)
    rows, _ = blobs(20, 4, seed=2)
    before, prepared = kb.clusters.predict(rows), rows / np.linalg.norm(rows, axis=1, keepdims=True)
    labels = kb.clusters.model().predict(prepared.astype(np.float32)).tolist()
    (path,) = files_of(kb)
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    elif damage == "swapped":
        data = bytearray(GOOD)
    elif damage == "hostile":
        data = bytearray(pickle.dumps(Call(os.system, f"touch /tmp/{MARK}")))
    path.unlink()
    if damage != "lost":
        path.write_bytes(data[: len(data) // 2] if damage == "torn" else data)

    (finding,) = kb.check().findings
    assert finding.layer == "models" and finding.derived and path.name in finding.where
    with pytest.raises(vs.ModelRefused, match="refit"):
        kb.clusters.model()
    assert kb.clusters.predict(rows) == before  # from the catalog alone
    assert kb.clusters.assign("c0") == 1
    report = kb.repair(dry_run=False)
    assert report.remaining == () and "from the centroids in the catalog" in report.actions[0]
    assert kb.clusters.model().predict(prepared.astype(np.float32)).tolist() == labels
    assert not Path("/tmp", MARK).exists() and kb.check().litter == ()


def test_another_library_means_refit(kb: vs.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(kb)
    kb.clusters.fit("concepts", "kmeans", 4)
    monkeypatch.setattr(modelfiles, "library", lambda: "scikit-learn 9.9, joblib 1.6.0")
    with pytest.raises(vs.ModelRefused, match=r"this is scikit-learn 9.9, joblib 1.6.0; refit"):
        kb.clusters.model()
    assert kb.check().findings == ()  # the file is what was written; another library is no damage
    assert kb.clusters.predict(np.eye(1, 12)) != [None]
    kb.clusters.refit()
    assert len(kb.clusters.model().cluster_centers_) == 4


def test_sweep_takes_what_no_row_names_and_nothing_else(kb: vs.Store) -> None:
    fill(kb)
    kb.clusters.fit("concepts", "kmeans", 4)
    kb.models.put("net", b"weights")
    named = files_of(kb)
    for name in ("concepts.1.0123456789abcdef.joblib", "blob.1.0123456789abcdef.bin", ".x.tmp", "notes-of-a-user.txt"):
        (named[0].parent / name).write_bytes(b"litter")
    assert len(kb.check().litter) == 4
    assert sorted(kb.sweep()) == [
        "models/.x.tmp",
        "models/blob.1.0123456789abcdef.bin",
        "models/concepts.1.0123456789abcdef.joblib",
    ]
    assert files_of(kb) == sorted([*named, named[0].parent / "notes-of-a-user.txt"])
    assert kb.check().findings == ()


def test_each_model_says_what_it_is(kb: vs.Store) -> None:
    fill(kb)
    kb.clusters.fit("concepts", "spherical", 4, seed=7)
    (info,) = kb.models.list()
    assert kb.path is not None and info.file is not None
    data = (kb.path / info.file).read_bytes()
    assert (info.name, info.version, info.type, info.status) == ("concepts", 1, "cluster", "current")
    assert (info.kind, info.space, info.rows, info.size) == ("concepts", "concepts", 120, len(data))
    assert info.sha256 == hashlib.sha256(data).hexdigest() and info.library == modelfiles.library()
    assert info.details["recipe"]["name"] == "spherical" and info.details["seed"] == 7
    assert info.details["coherence"] > 0.5 and info.details["silhouette"] > 0.2


def test_the_disk_refusing_a_model_file_leaves_the_old_fit(kb: vs.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(kb)
    kb.clusters.fit("concepts", "kmeans", 4)
    before = kb.clusters.predict(np.eye(4, 12))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "_write", full)
        with pytest.raises(OSError, match="No space left"):
            kb.clusters.refit(n=2)
    assert kb.clusters.predict(np.eye(4, 12)) == before and kb.check().litter == ()


# -- blobs -------------------------------------------------------------------------------------------------------------


def test_blobs_are_kept_as_they_are(open_store: Callable[..., vs.Store], tmp_path: Path) -> None:
    evil = pickle.dumps(Call(os.system, f"touch /tmp/{MARK}"))
    (tmp_path / "net.pth").write_bytes(evil * 100_000)
    with open_store() as kb:
        assert kb.models.put("net", tmp_path / "net.pth", kind="concepts", metadata={"layers": 3}, library="torch") == 1
        assert kb.models.put("net", b"second") == 2
        assert kb.models.put("empty", b"") == 1
    kb = open_store()
    assert kb.models.get("net", 1) == evil * 100_000 and kb.models.get("net") == b"second"
    assert kb.models.path("net").read_bytes() == b"second" and kb.models.get("empty") == b""
    first, second = kb.models.list("net")
    assert (first.status, second.status) == ("retired", "current") and first.details == {"layers": 3}
    assert (first.kind, first.space, first.library) == ("concepts", "concepts", "torch")
    assert not Path("/tmp", MARK).exists() and kb.check().findings == ()
    assert kb.models.delete("net", 2) == 1 and kb.models.get("net") == evil * 100_000
    assert kb.models.delete("net") == 1 and kb.models.list("net") == ()
    assert [path.name.startswith("blob.") for path in files_of(kb)] == [True]


def test_a_damaged_blob_is_a_lost_source(kb: vs.Store) -> None:
    kb.models.put("net", b"weights")
    (path,) = files_of(kb)
    path.write_bytes(b"Weights")
    with pytest.raises(vs.CorruptError, match="not those that were written"):
        kb.models.get("net")
    (finding,) = kb.check().findings
    assert finding.layer == "models" and not finding.derived and finding.mend == "put it again"
    assert kb.repair(dry_run=False).remaining == (finding,)


@pytest.mark.parametrize(
    ("name", "source", "error", "message"),
    [
        ("../up", b"x", vs.ValidationError, "no path separators"),
        ("a/b", b"x", vs.ValidationError, "no path separators"),
        ("", b"x", vs.ValidationError, "an id has"),
        ("x\n", b"x", vs.ValidationError, "printable"),
        ("net", "nowhere.pth", vs.ValidationError, "'nowhere.pth' cannot be read: No such file"),
        ("net", 17, vs.ValidationError, "expected bytes or a path, got int"),
    ],
)
def test_bad_blobs_are_refused(name: str, source: Any, error: type[Exception], message: str, kb: vs.Store) -> None:
    with pytest.raises(error, match=message):
        kb.models.put(name, source)
    assert kb.models.list() == () and kb.check().litter == ()


def test_names_of_fits_and_blobs_are_apart(kb: vs.Store) -> None:
    fill(kb)
    kb.clusters.fit("concepts", "kmeans", 4)
    kb.models.put("net", b"x")
    with pytest.raises(vs.ConflictError, match="is a line of fits"):
        kb.models.put("concepts", b"x")
    with pytest.raises(vs.ValidationError, match="taken by a model of something else"):
        kb.clusters.fit("concepts", "kmeans", 4, name="net")
    with pytest.raises(vs.ValidationError, match=r"store.clusters.drop\('concepts'\)"):
        kb.models.delete("concepts")
    with pytest.raises(vs.NotFound, match="no line of fits 'net'"):
        kb.clusters.state("net")
    with pytest.raises(vs.NotFound, match="no model 'nets'"):
        kb.models.get("nets")
    with pytest.raises(vs.NotFound, match="no version 3; there are: 1"):
        kb.models.get("net", 3)
    assert kb.check().findings == () and kb.check().litter == ()


def test_blobs_in_memory_have_no_path() -> None:
    with vs.open(":memory:", embedder=None) as store:
        store.models.put("net", b"x")
        assert store.models.get("net") == b"x"
        with pytest.raises(vs.ValidationError, match="has no path"):
            store.models.path("net")
