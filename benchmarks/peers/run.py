"""Measure vectorstore beside its peers.

    make bench-peers
    python -m benchmarks.peers --data base.f16.npy --queries queries.npz --texts texts.jsonl.gz --rows 100000

This process prepares, chooses and reports; every measurement is a process of the peers' own environment. What is
measured is kept at once, so the same command continues a run that was cut short. README.md says how it is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.dataset import note
from benchmarks.peers import choice, figures, report
from benchmarks.peers.base import BOTH_CORES, System
from benchmarks.peers.data import Judge, load_source, prepare
from benchmarks.peers.machine import drop_caches, machine
from benchmarks.peers.systems import PLACES, system

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
QUICK_S = 15.0
"""Whoever ingested faster than this does so again in each later round."""

QUIET = {
    "ANONYMIZED_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "RUST_LOG": "error",
    "LANCE_LOG": "error",
    "PYTHONPATH": str(ROOT),
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    if options.report:
        results = json.loads((options.out / "peers.json").read_text(encoding="utf-8"))
        report.write(results, options.out)
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:BOTH_CORES])
    run = Run.begun(options)
    results = run.measure()
    report.write(results, options.out)
    print((options.out / "peers.md").read_text(encoding="utf-8"))
    if not options.keep:
        shutil.rmtree(run.work)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description="Measure vectorstore beside its peers.")
    parser.add_argument("--data", type=Path, help="(n, d) vectors, .npy; without it the packaged WordNet sample")
    parser.add_argument("--queries", type=Path, help=".npz with `queries`")
    parser.add_argument("--texts", type=Path, help="gzipped JSON lines: lemmas, definition, domain, pos")
    parser.add_argument("--rows", type=int, help="so many of the data, at random; without it all")
    parser.add_argument("--query-count", type=int, default=1_000, help="at most so many queries")
    parser.add_argument("--filter-queries", type=int, default=200, help="of them for each filter")
    parser.add_argument("--systems", default=",".join(PLACES), help="names with commas: " + ", ".join(PLACES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=4.0, help="seconds for a part of a round")
    parser.add_argument("--no-columns", action="store_true", help="leave our ingest from columns out; it needs pyarrow")
    parser.add_argument("--again", default="", help="names whose kept measurements are thrown away first")
    parser.add_argument("--python", type=Path, default=PEERS_PYTHON, help="the interpreter that has the peers")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--work", type=Path, help="where stores and raw measurements go; out/tmp/peers-ROWS")
    parser.add_argument("--keep", action="store_true", help="do not remove the stores at the end")
    parser.add_argument("--report", action="store_true", help="only write the table and the pictures again")
    return parser.parse_args(arguments)


@dataclass
class Contestant:
    """A system, where its store lies, and what has been measured of it."""

    key: str
    system: System
    folder: Path
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def works(self) -> bool:
        return "failed" not in self.raw

    def save(self) -> None:
        partial = self.folder.with_suffix(".partial")
        partial.write_text(json.dumps(self.raw), encoding="utf-8")
        partial.replace(self.folder.with_suffix(".json"))


class Failed(Exception):
    """A stage of a system ended with an error."""


@dataclass
class Run:
    """One run, or the continuation of one."""

    options: argparse.Namespace
    data: dict[str, Any]
    work: Path
    contestants: list[Contestant]
    judge: Judge
    started: float = field(default_factory=time.perf_counter)

    @classmethod
    def begun(cls, options: argparse.Namespace) -> Run:
        """Prepare the data, unless that is done, and take up what was measured of it before."""
        source = load_source(options, note)
        rows = options.rows or len(source.base)
        work = options.work or options.out / "tmp" / f"peers-{rows}"
        described = work / "data.json"
        settings = {"rounds": options.rounds, "budget_s": options.budget, "filter_queries": options.filter_queries}
        if not described.exists():
            note(f"preparing {rows} rows and the exact answers in {work}")
            data = {**prepare(source, rows, work), **settings}
            described.write_text(json.dumps(data), encoding="utf-8")
        data = json.loads(described.read_text(encoding="utf-8"))
        wanted = {**settings, "name": source.name, "queries": len(source.queries)}
        if {name: data[name] for name in wanted} != wanted:
            raise SystemExit(f"peers: {work} holds a run over other data or settings; remove it or use another --work")
        found = []
        for key in options.systems.split(","):
            contestant = Contestant(key, system(key), work / key)
            kept = contestant.folder.with_suffix(".json")
            if key in options.again.split(","):
                shutil.rmtree(contestant.folder, ignore_errors=True)
                kept.unlink(missing_ok=True)
            if kept.exists() and contestant.store.exists():
                contestant.raw = json.loads(kept.read_text(encoding="utf-8"))
                contestant.raw.pop("failed", None)  # another try
            contestant.folder.mkdir(exist_ok=True)
            found.append(contestant)
        return cls(options, data, work, found, Judge.of(work, data["matching"]))

    def measure(self) -> dict[str, Any]:
        """Everything that is still missing, system after system within each step; returns all results."""
        for step in (self._first, self._tune):
            for one in self.contestants:
                self._step(one, step)
        for number in range(self.options.rounds):
            turn = number % len(self.contestants)
            for one in [*self.contestants[turn:], *self.contestants[:turn]]:
                if one.works and len(one.raw["rounds"]) <= number:
                    self._note(f"round {number + 1}: {one.key}")
                    self._step(one, self._round)
        for one in self.contestants:
            if one.works and one.system.store and "fresh" not in one.raw:
                self._step(one, self._fresh)
        self._note("measured")
        working = {one.key: figures.final(one.raw, self.data["rows"]) for one in self.contestants if one.works}
        return {
            "about": machine(),
            "data": self.data,
            "systems": working,
            "failed": {one.key: one.raw["failed"] for one in self.contestants if not one.works},
        }

    def _step(self, one: Contestant, step: Any) -> None:
        """A peer that fails is named in the report and left out of the rest; what it said is on stderr too."""
        try:
            if one.works:
                step(one)
        except Failed as error:
            note(f"{one.key} FAILED: {error}")
            one.raw["failed"] = str(error)
        one.save()

    def _note(self, text: str) -> None:
        note(f"{time.perf_counter() - self.started:5.0f} s  {text}")

    def _first(self, one: Contestant) -> None:
        """Ingest in every form for the first time."""
        if set(one.raw.get("ingest", ())) >= set(self._variants(one)):
            return
        self._note(f"ingest: {one.key}")
        shutil.rmtree(one.store, ignore_errors=True)
        one.raw = {"about": _about(one.system), "ingest": {}, "rounds": []}
        self._ingest(one)

    def _tune(self, one: Contestant) -> None:
        """Try every effort."""
        if "curve" in one.raw:
            return
        self._note(f"tune: {one.key}")
        found = self._child(one, "tune", budget_s=self.options.budget)
        one.raw["curve"] = figures.curve(found, self.judge)

    def _variants(self, one: Contestant) -> Sequence[str]:
        return one.system.variants[:1] if self.options.no_columns else one.system.variants

    def _ingest(self, one: Contestant) -> None:
        """The first form of the first time makes the store that is searched; all others are made and removed."""
        for variant in self._variants(one):
            path = one.folder / "again" if one.store.exists() else one.store
            runs = one.raw["ingest"].get(variant, [])
            if runs and runs[0]["seconds"] > QUICK_S:
                continue
            shutil.rmtree(path, ignore_errors=True)  # left by a run that was cut short
            measured = self._child(one, "ingest", variant=variant, store=str(path))
            one.raw["about"]["versions"] = measured.pop("versions")
            one.raw["ingest"][variant] = [*runs, measured]
            shutil.rmtree(one.folder / "again", ignore_errors=True)

    def _round(self, one: Contestant) -> None:
        number = len(one.raw["rounds"])
        if number:
            self._ingest(one)
        effort = choice.tuned(one.raw["curve"])["effort"]
        drop_caches(one.store)
        cold = self._child(one, "reopen", effort=effort)
        warm = self._child(one, "reopen", effort=effort)
        filters = choice.filtered(one.raw["curve"])
        found = self._child(
            one, "serve", effort=effort, filters=filters, first=number == 0, budget_s=self.options.budget
        )
        one.raw["rounds"].append({"cold": cold, "warm": warm, **figures.round_of(found, self.judge)})

    def _fresh(self, one: Contestant) -> None:
        self._note(f"freshness: {one.key}")
        path = one.folder / "fresh"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        one.raw["fresh"] = self._child(one, "fresh", store=str(path / "store"))
        shutil.rmtree(path)

    def _child(self, one: Contestant, stage: str, **job: Any) -> dict[str, Any]:
        """What a stage measured, in a new process.

        Raises:
            Failed: with the last lines that it said.
        """
        order, answer = one.folder / "job.json", one.folder / "measured.json"
        answer.unlink(missing_ok=True)
        common = {"system": one.key, "folder": str(self.work.resolve()), "store": str(one.store.resolve())}
        job = {**common, "filter_queries": self.options.filter_queries, **job}
        order.write_text(json.dumps(job), encoding="utf-8")
        command = [str(self.options.python), "-m", "benchmarks.peers.child", stage, str(order.resolve())]
        with (one.folder / "said.txt").open("w+", encoding="utf-8", errors="replace") as said:
            done = subprocess.run(
                [*command, str(answer.resolve())],
                env={**os.environ, **QUIET},
                cwd=one.folder,
                stderr=said,
                stdout=said,
                check=False,
            )
            said.seek(0)
            lines = said.read().strip().splitlines()
        if done.returncode or not answer.exists():
            raise Failed(f"{stage}, exit {done.returncode}: " + " | ".join(lines[-3:]).replace(str(ROOT), "."))
        measured: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        answer.unlink()
        return measured


def _about(contestant: System) -> dict[str, Any]:
    names = ("name", "index", "durable", "batch_by", "store", "builds_index", "keeps_float32")
    return {name: getattr(contestant, name) for name in names} | {"default_effort": contestant.default}
