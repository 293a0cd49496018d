"""After a crash: reopen without any manual step, compare with the model, check, sweep, write again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlite_utils.utils import sqlite3

import vectorstore as vs
from tests.crash.model import Model, fields_of, matrix_of, vector_of
from tests.crash.same import LOOKED, Rows, Ticking, differing, rows_of
from tests.crash.verbs import VERBS, Verb
from vectorstore.storage import pastrows

QUERIES = ("one", "two", "three")


def problems_of(verb: Verb, root: Path, allowed: Sequence[Model], rows: Sequence[Rows]) -> list[str]:
    """Everything that is not as it must be; the store must be in one of the allowed states as a whole.

    Args:
        verb: what was done.
        root: the store.
        allowed: the models of the concepts that may be there.
        rows: the rows of all tables that may be there; the same place of both lists need not belong together.
    """
    problems: list[str] = []
    if verb.comparable:
        with (
            vs.open(root, embedder=None, kinds=verb.kinds, read_only=True) as store,
            store._catalog.read() as connection,
        ):
            if tables := differing(rows_of(connection), rows):
                problems.append(f"the rows are those of no commit; the nearest one differs in {', '.join(tables)}")
        try:
            problems += [f"read-only: {problem}" for problem in at_first_sight(verb, root, allowed)]
        except vs.CorruptError:
            if verb.again is None:
                raise
    with vs.open(root, embedder=None, kinds=verb.kinds, auto_publish=False, clock=Ticking(LOOKED)) as store:
        if verb.again is not None:
            verb.again(store)
        model = state_of(store, allowed)
        if model is None:
            problems.append(f"the records are in none of the allowed states: {difference(store, allowed[0])}")
            model = allowed[0]
        else:
            problems += answers(store, model)
        problems += half_fits(store)
        problems += half_lattice(store, together=verb is VERBS["lattice"])
        if verb.also is not None:
            problems += verb.also(store, root)
        report = store.check()
        problems += [f"check found: {finding}" for finding in report.findings]
        store.sweep(0)
        problems += [f"litter after sweep: {name}" for name in litter(store, root)]
        store.concepts.add([fields_of("after the crash", 0)], vectors=matrix_of(["after the crash"], 0))
        after = model.copy()
        after.put("after the crash", "after the crash as of 0", vector_of("after the crash", 0))
        if state_of(store, [after]) is None:
            problems.append("the following write did not arrive")
        else:
            problems += [f"after the following write: {problem}" for problem in answers(store, after, everything=False)]
        problems += [f"check after the following write: {finding}" for finding in store.check().findings]
    for path in sorted(root.glob("*.backup.sqlite*")):
        problems += backup_problems(path)
    return problems


def at_first_sight(verb: Verb, root: Path, allowed: Sequence[Model]) -> list[str]:
    """What a reader meets that may change nothing."""
    with vs.open(root, embedder=None, kinds=verb.kinds, read_only=True, clock=Ticking(LOOKED)) as store:
        model = state_of(store, allowed)
        findings = [f"check found: {f}" for f in store.check().findings if verb.again is None or not f.derived]
        if model is None:
            return [*findings, "the records are in none of the allowed states"]
        return findings + answers(store, model, everything=False)


def state_of(store: vs.Store, allowed: Sequence[Model]) -> Model | None:
    """Which of the allowed states the records are in, deleted ones counted."""
    found = summary(store)
    gone = store.stats()["kinds"]["concepts"]["deleted"]
    return next((m for m in allowed if m.summary() == found and len(m.gone) == gone), None)


def summary(store: vs.Store) -> dict[str, tuple[str, str | None, int]]:
    return {record.id: (record.definition, record.domain, record.version) for record in store.concepts.stream()}


def difference(store: vs.Store, model: Model) -> str:
    found, expected = summary(store), model.summary()
    lost = [name for name in expected if found.get(name) != expected[name]]
    extra = [name for name in found if name not in expected]
    gone = store.stats()["kinds"]["concepts"]["deleted"]
    return (
        f"{len(lost)} lost or changed ({lost[:3]}), {len(extra)} too many ({extra[:3]}), "
        f"{gone} deleted instead of {len(model.gone)}"
    )


def answers(store: vs.Store, model: Model, everything: bool = True) -> list[str]:
    """Where a search differs from brute force: ids, order, scores."""
    problems = []
    for word in QUERIES:
        query = vector_of(word, 0)
        expected = model.ranked(query)
        whole = everything and word == QUERIES[0]
        for options in ({"exact": True}, {"recall": 1.0}):
            k = len(expected) + 5 if whole and "exact" in options else 10
            hits = store.concepts.search(query, k=k, **options)
            if [(hit.id, hit.score) for hit in hits] != expected[:k]:
                problems.append(f"search({word}, {options}) differs from brute force")
        scores = dict(expected)
        hits = store.concepts.search(query, k=10)
        if len(hits) != min(10, len(expected)):
            problems.append(f"search({word}) is short: {len(hits)} hits of {len(expected)}")
        if any(scores.get(hit.id) != hit.score for hit in hits):
            problems.append(f"search({word}) gave a wrong score")
    return problems


def half_fits(store: vs.Store) -> list[str]:
    """Fits of which only a part is there: clusters, members and file come and go together."""
    problems = []
    for line in store.clusters.lines():
        (current,) = [version for version in store.clusters.versions(line) if version.status == "current"]
        shown = list(store.clusters.find({"model": line}))
        members = sum(store.clusters.members(cluster.id).total for cluster in shown)
        whole = len(shown) == current.clusters
        if store.models.list(line)[current.version - 1].file is not None:  # it goes when a cluster is erased
            whole = whole and len(store.clusters.model(line).cluster_centers_) == current.clusters
        if not whole:
            problems.append(f"{line} has {current.clusters} clusters and shows {len(shown)}")
        state = store.clusters.state(line)
        if members != current.rows - state.removed + state.new - state.unassigned:
            problems.append(f"{line} was fitted on {current.rows} and has {members} members")
    return problems


def half_lattice(store: vs.Store, *, together: bool) -> list[str]:
    """Forms that lack terms, steps or links; and some of many that a verb has reached where others were not."""
    forms = list(store.lattice)
    problems = [fault for form in forms for fault in store.lattice.verify(form.anchor)]
    for what, found in (
        ("events", {form.events for form in forms}),
        ("tau", {form.tau_days for form in forms}),
        ("number", {len(forms), len(forms) + store.stats()["kinds"]["forms"]["deleted"]} - {0}),
    ):
        if together and len(found) > 1:
            problems.append(f"the {what} of forms that change together differ: {sorted(found)}")
    loose = len(store["form_terms"]) - sum(form.events for form in forms)
    return [*problems, f"{loose} terms belong to no form"] if loose else problems


def litter(store: vs.Store, root: Path) -> list[str]:
    """Files of the store's folder that nothing names."""
    with store._catalog.read() as connection:
        found = connection.execute(
            "SELECT 'embeddings/' || s.name || '/' || f.file FROM segments f JOIN spaces s ON s.id = f.space "
            "UNION SELECT 'indexes/' || s.name || '/' || f.file FROM artifacts f JOIN spaces s ON s.id = f.space "
            "UNION SELECT 'models/' || file FROM models WHERE file IS NOT NULL UNION SELECT 'trail/' || file FROM trail_files"
        ).fetchall()
        named = {name for (name,) in found} | {each.path for each in pastrows.named_files(connection, past=True)}
    named |= {"store.lock", "feeding.lock", "catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"}
    here = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    missing = sorted(f"{name} (missing)" for name in named - here if "/" in name)
    return missing + sorted(name for name in here - named if not name.endswith(".backup.sqlite"))


def backup_problems(path: Path) -> list[str]:
    """A file that is called a backup is a whole one."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        if connection.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
            return [f"{path.name} is damaged"]
        if connection.execute("PRAGMA application_id").fetchone()[0] == 0:
            return [f"{path.name} is no catalog"]
    except sqlite3.DatabaseError as error:
        return [f"{path.name}: {error}"]
    finally:
        connection.close()
    return []
