"""Cluster the records of a kind by a recipe, say how good and how stable the result is, and publish it.

    python models/fit.py demo-kb concepts models/cluster/spherical.toml --n 40

The recipe is tried with several seeds first: clusters, noise, coherence, silhouette and seconds of each, and the mean
adjusted Rand index between them. Then the first seed's fit is made current, unless --dry-run is given. RECIPE is a
built-in name or a .toml file.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

import vectorstore as vs
from vectorstore.cli.app import exit_code
from vectorstore.reason.fitting import FitReport
from vectorstore.reason.trials import FitTrials


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def told(trials: FitTrials, report: FitReport | None) -> str:
    """The trials as a table, and what was published."""
    lines = [
        f"{trials.recipe} over {trials.rows:,} records",
        "",
        "  seed  clusters  noise  coherence  silhouette  seconds",
        *(
            f"{trial.seed:6}{trial.clusters:10}{trial.noise:7.1%}{_figure(trial.coherence):>11}"
            f"{_figure(trial.silhouette):>12}{trial.seconds:9.2f}"
            for trial in trials.trials
        ),
        "",
        f"stability (mean adjusted Rand index between seeds): {_figure(trials.stability)}",
    ]
    if report is not None:
        lines.append(
            f"published as {report.name} version {report.version}: {len(report.kept)} clusters kept, "
            f"{len(report.new)} new, {len(report.retired)} retired"
        )
        lines += [report.note] if report.note else []
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, metavar="STORE", help="the store's folder")
    parser.add_argument("kind", metavar="KIND", help="whose records: concepts, ...")
    parser.add_argument("recipe", metavar="RECIPE", help="kmeans, spherical, hdbscan, ... or a .toml file")
    parser.add_argument("--n", type=int, help="how many clusters (default: the recipe's number, or a rule of thumb)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="to try (default: 0 1 2)")
    parser.add_argument("--name", help="of the line of fits (default: the kind's)")
    parser.add_argument("--dry-run", action="store_true", help="publish nothing")
    parser.add_argument("--json", action="store_true", help="the figures as JSON on stdout")
    given = parser.parse_args(arguments)
    report: FitReport | None = None
    try:
        with vs.open(given.store, create=False) as store:
            trials = store.clusters.trials(given.kind, given.recipe, given.n, seeds=given.seeds)
            if not given.dry_run:
                seed = given.seeds[0]
                report = store.clusters.fit(given.kind, given.recipe, given.n, name=given.name, seed=seed)
    except vs.VectorstoreError as error:
        print(f"fit.py: {error}", file=sys.stderr)
        return exit_code(error)
    published = None if report is None else dataclasses.asdict(report)
    figures = {"trials": dataclasses.asdict(trials), "published": published}
    typer.echo(json.dumps(figures) if given.json else told(trials, report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
