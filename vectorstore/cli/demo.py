"""The command demo: the main job on real input, from an empty folder to a store that survived `kill -9`.

Every step can be repeated: a second run finds the records there, an interrupted one goes on where it stopped, and
what the steps add for show is erased again.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vectorstore.cli.app import FINDINGS, AsJson, open_store
from vectorstore.cli.output import duration, note, progress_bar, say_json, size_of, table
from vectorstore.errors import StoreError, ValidationError

if TYPE_CHECKING:
    from vectorstore.results import Hits
    from vectorstore.store import Store

BATCH = 2_500
"""Records in one commit; an interrupted first run loses at most so many embeddings."""
BATCHES_BEFORE_KILL = 8
PATIENCE = 120.0


def register(app: typer.Typer) -> None:
    """Put this module's command into the application."""
    app.command(rich_help_panel="Begin here")(demo)


@dataclass
class Tour:
    """What the steps share: where, how, and what they found."""

    folder: Path
    embedder: str
    limit: int
    quiet: bool
    steps: list[tuple[str, float, str]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def open(self) -> Store:
        """The demo's store; indexes are built when the tour says so."""
        return open_store(self.folder, self.embedder, create=True, auto_publish=False)

    def say(self, text: str = "") -> None:
        """A line for people."""
        if not self.quiet:
            typer.echo(text)

    @contextmanager
    def step(self, title: str, detail: str = "") -> Iterator[list[str]]:
        """A headed, timed step; what it appends is its line in the summary."""
        heading = f"{title}: {detail}" if detail else title
        self.say(f"\n{typer.style(f'{len(self.steps) + 1}  {heading}', bold=True, fg='cyan')}")
        result: list[str] = []
        started = time.perf_counter()
        yield result
        self.steps.append((title, time.perf_counter() - started, " ".join(result)))


def demo(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where the store is made.")] = Path("demo-kb"),
    records: Annotated[int, typer.Option("--records", hidden=True)] = 0,
    embedder: Annotated[str, typer.Option("--embedder", hidden=True)] = "minilm",
    as_json: AsJson = False,
) -> None:
    """Build a store of 12,500 WordNet concepts, search it, share it with a process, and kill one in mid-write.

    The first run takes a minute or two, most of it embedding; later ones find the records there. Works offline.

    \b
    vectorstore demo
    vectorstore demo /tmp/my-demo
    """
    tour = Tour(folder, embedder, records, as_json)
    started = time.perf_counter()
    store = tour.open()
    try:
        build(tour, store)
        index(tour, store)
        with _child("add", str(folder), embedder) as other:
            search(tour, store)
            filtered(tour, store)
            share(tour, store, other)
        store.close()
        crash(tour)
        store = tour.open()
        clean = prove(tour, store)
    finally:
        store.close()
    total = time.perf_counter() - started
    if as_json:
        steps = [{"step": title, "seconds": seconds, "result": result} for title, seconds, result in tour.steps]
        say_json({"folder": str(folder), "seconds": total, "steps": steps, **tour.facts})
    else:
        typer.echo("\n" + summary(tour, total))
    if not clean:
        raise typer.Exit(FINDINGS)


# -- the steps ---------------------------------------------------------------------------------------------------------


def build(tour: Tour, store: Store) -> None:
    """All concepts of the sample are in the store."""
    from vectorstore.data import wordnet_sample

    with tour.step("Build", "WordNet concepts into a store") as result:
        _tidy(store)
        rows = list(wordnet_sample())
        if tour.limit:
            rows = rows[:: len(rows) // tour.limit][: tour.limit]
        there = {record.id for record in store.concepts.get_many(row["id"] for row in rows)}
        if len(store.concepts) and not there:
            raise ValidationError(
                f"{tour.folder}: holds {len(store.concepts)} concepts that are not the demo's; name another folder"
            )
        missing = [row for row in rows if row["id"] not in there]
        if not missing:
            tour.say(f"{len(there)} concepts found there already: nothing to embed")
            result.append(f"{len(there)} concepts found there")
        else:
            if there:
                tour.say(f"{len(there)} concepts found there; going on with the other {len(missing)}")
            _embed(tour, store, missing)
            tour.say(f"{len(missing)} concepts embedded and committed, {BATCH} in a commit")
            result.append(f"{len(missing)} concepts added")
        stats = store.stats()
        kept = stats["kinds"]["concepts"]
        tour.say(f"{kept['vectors']} vectors of {kept['dim']} dimensions, {size_of(stats['bytes'])} on disk")
        tour.facts |= {"records": len(rows), "added": len(missing)}


def _embed(tour: Tour, store: Store, missing: list[dict[str, Any]]) -> None:
    if tour.embedder == "minilm":
        note("loading all-MiniLM-L6-v2 ...")
    with progress_bar("embedding", len(missing), "concepts") as told:
        for start in range(0, len(missing), BATCH):
            store.concepts.add(missing[start : start + BATCH], progress=told)


def index(tour: Tour, store: Store) -> None:
    """The default recipe's index is current and measured."""
    from vectorstore.cli.upkeep import rebuild_table

    with tour.step("Index", "build it, measure it, then use it") as result:
        report = store.rebuild("concepts")
        tour.say(rebuild_table(report))
        tour.say("recall@10: how many of the ten nearest are found; a search says below which it does not fall")
        after = report.after
        result.append(f"{after.recipe}: recall@10 {after.recall:.4f}, {after.milliseconds:.2f} ms a query")
        tour.facts["index"] = {"recipe": after.recipe, "recall": after.recall, "milliseconds": after.milliseconds}


def search(tour: Tour, store: Store) -> None:
    """A search by meaning."""
    query = "feeling of great happiness"
    with tour.step("Search", repr(query)) as result:
        started = time.perf_counter()
        if tour.embedder == "minilm":
            note("loading the model for queries, here and in a second process ...")
        store.concepts.search(query, k=1)
        tour.say(f"the model was ready after {duration(time.perf_counter() - started)}")
        hits = store.concepts.search(query, k=5)
        _show(tour, hits)
        result.append(_line(hits))


def filtered(tour: Tour, store: Store) -> None:
    """A search among things that people made."""
    query = "it carries people across water"
    with tour.step("Filtered search", f"{query!r}, domain = noun.artifact") as result:
        hits = store.concepts.search(query, k=5, where={"domain": "noun.artifact"})
        _show(tour, hits)
        result.append(_line(hits))


def share(tour: Tour, store: Store, other: subprocess.Popen[str]) -> None:
    """What another process adds, this one finds at its next search."""
    from vectorstore.cli.demo_child import NEW

    query = "a picture of oneself taken with a phone"
    with tour.step("Two processes", "one adds, the other finds") as result:
        before = store.concepts.search(query, k=1)
        tour.say(f"this process searches {query!r}: best is {_best(before)}")
        _expect(other, "ready")
        _tell(other, "go")
        _expect(other, "added")
        tour.say(f"process {other.pid} has added the concept {NEW['name']!r}")
        hits = store.concepts.search(query, k=1)
        tour.say(
            f"this process, its store open all the time, searches again: {_best(hits)} in {duration(hits.elapsed)}"
        )
        if hits.ids != [NEW["id"]]:
            raise StoreError(f"the concept that process {other.pid} added was not found: {_best(hits)}")
        result.append(f"found {NEW['name']!r} at the next search, {duration(hits.elapsed)}")
        tour.facts["shared"] = hits.ids


def crash(tour: Tour) -> None:
    """A process is killed by SIGKILL while it writes."""
    from vectorstore.cli.demo_child import BATCH as SIZE

    with (
        tour.step("kill -9", "a process dies in the middle of a write") as result,
        _child("write", str(tour.folder)) as writer,
    ):
        assert writer.stdout is not None  # it is a pipe
        acknowledged, began, pace = 0, 0.0, 0.0
        for line in writer.stdout:
            word, _, number = line.partition(" ")
            if word == "done":
                acknowledged, pace = int(number), time.perf_counter() - began
                continue
            began = time.perf_counter()
            if int(number) > BATCHES_BEFORE_KILL * SIZE:
                time.sleep(pace / 2)
                break
        else:
            raise StoreError("the demo's writing process ended before it was killed; its message is above")
        writer.kill()
        rest = writer.stdout.read().split()
        writer.wait(PATIENCE)
        if "done" in rest:
            acknowledged = int(rest[rest.index("done") + 1])
        tour.say(f"process {writer.pid} wrote {SIZE} records a commit and acknowledged {acknowledged};")
        tour.say("it was killed by SIGKILL while the next commit was under way")
        result.append(f"{acknowledged} records acknowledged")
        tour.facts |= {"acknowledged": acknowledged, "batch": SIZE, "killed_by": -writer.returncode}


def prove(tour: Tour, store: Store) -> bool:
    """Nothing acknowledged is lost, nothing half-done is found, and everything agrees."""
    from vectorstore.cli.demo_child import TAG

    with tour.step("Reopen and check", "what was acknowledged is there, and all agrees") as result:
        acknowledged, size = tour.facts["acknowledged"], tour.facts["batch"]
        found = store.concepts.count({"tags__has": TAG})
        report = store.check()
        whole = found in (acknowledged, acknowledged + size)
        ending = (
            "the commit under way did not happen"
            if found == acknowledged
            else "the commit under way happened whole; only its acknowledgement was lost"
        )
        tour.say(f"acknowledged {acknowledged}, found {found}" + (f": {ending}" if whole else ""))
        for finding in report.findings:
            tour.say(typer.style("✗ ", fg="red") + str(finding))
        mark = typer.style("✓", fg="green") if report.ok else typer.style("✗", fg="red")
        counted = f"{report.records} records, {report.vectors} vectors, {report.segments} segments"
        tour.say(f"{mark} check: {counted}, {len(report.findings)} findings")
        erased = _tidy(store)
        tour.say(f"{erased} records that were made for show are erased; {len(store.concepts)} concepts remain")
        result.append(f"acknowledged {acknowledged}, found {found}; {len(report.findings)} findings")
        tour.facts |= {"found": found, "findings": len(report.findings), "remaining": len(store.concepts)}
    return whole and report.ok


def _tidy(store: Store) -> int:
    """Erase what the steps added for show, in this run or in one that was interrupted."""
    from vectorstore.cli.demo_child import NEW, TAG

    shown = {"or": [{"id": NEW["id"]}, {"tags__has": TAG}]}
    store.concepts.delete(where=shown)
    return store.concepts.purge(where=shown, older_than=timedelta(0))


# -- other processes ---------------------------------------------------------------------------------------------------


@contextmanager
def _child(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Another Python that runs `demo_child`; it does not outlive the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "vectorstore.cli.demo_child", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
        finally:
            process.kill()


def _expect(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None  # it is a pipe
    line = process.stdout.readline().strip()
    if line != word:
        raise StoreError(f"the demo's second process said {line!r} where {word!r} was due; its message is above")


def _tell(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None  # it is a pipe
    process.stdin.write(word + "\n")
    process.stdin.flush()


# -- the screen --------------------------------------------------------------------------------------------------------


def _show(tour: Tour, hits: Hits[Any]) -> None:
    rows = [(f"{hit.score:.4f}", hit.record.name, hit.record.domain, hit.record.definition) for hit in hits]
    tour.say(table(["score", "name", "domain", "definition"], rows, right=[0]))
    tour.say(typer.style(f"{_line(hits)}, embedding of the query included", dim=True))


def _line(hits: Hits[Any]) -> str:
    promise = "exact" if hits.exact else f"recall ≥ {hits.recall_promised:.4f}"
    among = "" if hits.plan.matching is None else f" among {hits.plan.matching}"
    return f"{len(hits)} hits{among}, {promise}, {duration(hits.elapsed)}"


def _best(hits: Hits[Any]) -> str:
    return f"{hits[0].record.name!r} ({hits[0].score:.3f})" if len(hits) else "nothing"


def _called() -> str:
    """What to type for this command: `make demo` has it in .venv, which need not be on the path."""
    found, here = shutil.which("vectorstore"), Path(sys.executable).absolute().parent
    if found is not None and Path(found).absolute().parent == here:
        return "vectorstore"
    if Path(sys.argv[0]).name == "vectorstore":
        return shlex.quote(sys.argv[0])
    return f"{shlex.quote(sys.executable)} -m vectorstore.cli"


def summary(tour: Tour, total: float) -> str:
    """The steps in a table, and what to type next."""
    rows = [(place, title, duration(seconds), result) for place, (title, seconds, result) in enumerate(tour.steps, 1)]
    rows.append(("", "all", duration(total), f"the store is in {tour.folder}"))  # type: ignore[arg-type]
    command, folder = _called(), shlex.quote(str(tour.folder))
    commands = [
        f'{command} search {folder} concepts "someone who heals the sick" --explain',
        f'{command} search {folder} concepts "a small creature that flies at night" --where domain=noun.animal',
        f"{command} find {folder} concepts --where name__startswith=king",
        f'{command} add {folder} concepts --field name=emoji --field "definition=a small picture in a message"',
        f"{command} stats {folder}",
    ]
    shown = table(["", "step", "time", "result"], rows, right=[0, 2])
    return f"{shown}\n\n{typer.style('What to type next', bold=True)}\n  " + "\n  ".join(commands)
