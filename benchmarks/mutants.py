"""Mutation testing: small changes to the code that keeps the data, each of which some test must notice.

    make mutants                                            the sample that the report has; about two hours on two cores
    python -m benchmarks.mutants vectorstore/files.py       all mutants of a file
    python -m benchmarks.mutants --each 20                  20 of each file, by --seed
    python -m benchmarks.mutants --report                   write the report of what was run

Which tests reach a line is known from `make coverage`. A process that has everything imported forks for each mutant,
changes the one function in place, and runs the tests that reach it, of each test file the quickest first, until one
fails or `--seconds` of them are used up. Before a failure counts, the same test is seen to pass without the mutant.
So a mutant costs a fraction of a second, and a child that hangs or dies takes nothing along. What this cannot see:
tests that reach the line in another process, and the rigs of `make crash`, `faults` and `power`; some survivors die
there.

A survivor that cannot be killed because nothing observable changes is explained in `explained.toml` beside this file;
one that is neither killed nor explained makes this end with an error.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import types
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import coverage
import pytest

from benchmarks.mutations import Mutant, codes, mutants_of

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
EXPLAINED = Path(__file__).parent / "explained.toml"
DATA = Path(os.environ.get("COVERAGE_DATA", ROOT / "build" / "coverage"))
LEFT = ("survived", "not reached")
Line = dict[str, Any]


def key(line: Line) -> tuple[str, ...]:
    """A mutant by what stands there, so that it keeps its name when lines move."""
    return tuple(line[word] for word in ("path", "function", "text", "what"))


def latest(paths: Iterable[Path]) -> list[Line]:
    """Of each mutant the last line, in the order of the first ones."""
    found: dict[tuple[str, ...], Line] = {}
    for path in paths:
        for text in path.read_text().splitlines() if path.exists() else ():
            line = json.loads(text)
            found[key(line)] = line
    return [*found.values()]


def explained() -> dict[tuple[str, ...], str]:
    """Survivor -> why nothing can notice it."""
    groups = tomllib.loads(EXPLAINED.read_text())["explained"]
    return {tuple(name.split(" | ", 3)): group["why"] for group in groups for name in group["mutants"]}


class Forking:
    """A pytest plugin that runs mutants instead of the tests it was given.

    Args:
        mutants: what to try.
        seconds: of tests for one mutant, by what they took before.
        out: where a line of JSON goes for each.
        scratch: folder in which the tests work; emptied after each mutant.
    """

    def __init__(self, mutants: list[Mutant], seconds: float, out: Path, scratch: Path) -> None:
        self.mutants, self.seconds, self.out, self.scratch = mutants, seconds, out, scratch
        self.took: dict[str, float] = {}
        self.contexts: dict[str, dict[int, list[str]]] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try each mutant in a child of its own."""
        items = defaultdict(list)
        for item in session.items:
            if isinstance(item, pytest.Function):
                items[f"{item.module.__name__}.{item.function.__qualname__}"].append(item)
        self.took = durations()
        functions: dict[tuple[str, str, int], list[types.FunctionType]] = defaultdict(list)
        for path in {mutant.path for mutant in self.mutants}:
            self.contexts[path] = reached(path)
            __import__(path.removesuffix(".py").replace("/", "."))
        for each in gc.get_objects():
            if isinstance(each, types.FunctionType):
                code = each.__code__
                functions[code.co_filename, code.co_qualname, code.co_firstlineno].append(each)
        gc.collect()
        gc.freeze()
        passing: dict[str, bool] = {}
        for number, mutant in enumerate(self.mutants, 1):
            where = functions[str(ROOT / mutant.path), mutant.function, mutant.first]
            line = self._try(session, items, where, mutant, passing)
            with self.out.open("a") as out:
                out.write(json.dumps(line) + "\n")
            print(
                f"{number}/{len(self.mutants)} {mutant.path}:{mutant.line} {mutant.what}: {line['result']}"
                f" ({line['seconds']:.1f} s, {line['by'] or line['tests']})",
                file=sys.__stdout__,
                flush=True,
            )
        return True

    def _try(
        self,
        session: pytest.Session,
        items: dict[str, list[pytest.Function]],
        functions: list[types.FunctionType],
        mutant: Mutant,
        passing: dict[str, bool],
    ) -> Line:
        line: Line = {**mutant.told(), "result": "survived", "by": "", "tests": 0, "seconds": 0.0}
        code = mutant.code()
        if not functions or any(f.__code__.co_freevars != code.co_freevars for f in functions):
            return {**line, "result": "not made"}  # it is defined in another way than by its own `def`
        if same(code, functions[0].__code__):
            return {**line, "result": "same"}
        tests = self._chosen(items, mutant)
        started = time.monotonic()
        while True:
            tests = [item for item in tests if passing.get(item.nodeid, True)]
            line["tests"] = len(tests)
            ended, by = self._child(session, tests, functions, code)
            if ended == "survived" or not by:
                break
            if by not in passing:
                one = [item for item in tests if item.nodeid == by]
                passing[by] = self._child(session, one, functions, None)[0] == "survived"
            if passing[by]:
                break
        return {**line, "result": ended, "by": by, "seconds": round(time.monotonic() - started, 2)}

    def _chosen(self, items: dict[str, list[pytest.Function]], mutant: Mutant) -> list[pytest.Function]:
        """Tests that reach the line: each file's quickest, then each file's second, while the time lasts."""
        found = [item for context in self.contexts[mutant.path].get(mutant.line, []) for item in items.get(context, [])]
        found.sort(key=self._seconds)
        ranks: dict[str, int] = defaultdict(int)
        ranked = []
        for item in found:
            ranked.append((ranks[item.module.__name__], self._seconds(item), item))
            ranks[item.module.__name__] += 1
        chosen: list[pytest.Function] = []
        used = 0.0
        for _, seconds, item in sorted(ranked, key=lambda each: each[:2]):
            if used + seconds <= self.seconds or not chosen:
                chosen.append(item)
                used += seconds
        return chosen

    def _seconds(self, item: pytest.Function) -> float:
        return self.took.get(f"{item.module.__name__.rpartition('.')[2]}::{item.name}", 1.0)

    def _child(
        self,
        session: pytest.Session,
        tests: list[pytest.Function],
        functions: list[types.FunctionType],
        code: types.CodeType | None,
    ) -> tuple[str, str]:
        """(survived, killed or time limit; the test that ended it), by a child that runs the tests on the code."""
        if not tests:
            return "not reached", ""
        limit = 15 + 3 * sum(map(self._seconds, tests))
        with tempfile.TemporaryFile() as told:
            if not (child := os.fork()):
                _run(session, tests, functions if code else [], code, int(limit), told.fileno())
            status = _waited(child, 60 + 6 * limit)
            told.seek(0)
            names = told.read().decode().splitlines()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what the tests started
        shutil.rmtree(self.scratch, ignore_errors=True)
        if status == 0:
            return "survived", ""
        ended = "killed" if status is not None and not os.WIFSIGNALED(status) else "time limit or signal"
        return ended, names[-1] if names else ""


def _run(
    session: pytest.Session,
    tests: list[pytest.Function],
    functions: list[types.FunctionType],
    code: types.CodeType | None,
    limit: int,
    told: int,
) -> NoReturn:
    """In the child: the tests in turn, each named before it begins, up to the first that fails."""
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        session.config.pluginmanager.unregister(name="terminalreporter")
        quiet = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(quiet, descriptor)
        for function in functions:
            assert code is not None
            function.__code__ = code
        for item, following in zip(tests, [*tests[1:], None], strict=True):
            os.write(told, item.nodeid.encode() + b"\n")
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed or session.shouldstop:
                os._exit(1)
        os._exit(0)
    finally:
        os._exit(2)


def _waited(child: int, limit: float) -> int | None:
    """How the child ended; None when it had to be stopped."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def same(one: types.CodeType, other: types.CodeType) -> bool:
    """Whether the compiler makes the same of both."""
    pairs = zip(codes(one), codes(other), strict=False)
    return all((a.co_code, a.co_names) == (b.co_code, b.co_names) and _plain(a) == _plain(b) for a, b in pairs)


def _plain(code: types.CodeType) -> list[str]:
    return [repr(each) for each in code.co_consts if not isinstance(each, types.CodeType)]


def durations() -> dict[str, float]:
    """Test -> the seconds that it took under `make coverage`."""
    found = {}
    for report in (ROOT / "build").glob("junit*.xml"):
        for case in ET.parse(report).iter("testcase"):
            found[f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"] = float(case.get("time", 1))
    return found


def reached(path: str) -> dict[int, list[str]]:
    """Line -> the tests that reach it."""
    data = coverage.CoverageData(str(DATA))
    data.read()
    return {line: sorted(set(names) - {""}) for line, names in data.contexts_by_lineno(str(ROOT / path)).items()}


def chosen(paths: list[str], each: int | None, seed: int) -> list[Mutant]:
    """All mutants of the files, or so many of each; in no order, so that those tried so far are a sample of all."""
    found = []
    for path in paths:
        mutants = mutants_of(path)
        if each is not None and len(mutants) > each:
            kept = random.Random(f"{seed} {path}").sample(range(len(mutants)), each)
            mutants = [mutants[place] for place in kept]
        found += mutants
    random.Random(seed).shuffle(found)
    return found


def files() -> list[str]:
    """What keeps the data: `sync`, `storage`, snapshots, files."""
    parts = [path for part in ("sync", "storage") for path in (ROOT / "vectorstore" / part).glob("*.py")]
    named = [str(path.relative_to(ROOT)) for path in parts if path.name != "__init__.py"]
    return ["vectorstore/files.py", "vectorstore/vectors/live.py", *sorted(named)]


def run(mutants: list[Mutant], seconds: float, out: Path, only: list[str]) -> None:
    """Try them, in a pytest session of all test files that reach their files, or of some only."""
    contexts = {name for path in {m.path for m in mutants} for names in reached(path).values() for name in names}
    modules = {part for context in contexts for part in context.split(".")[:2]}
    tests = sorted(str(path) for path in (ROOT / "tests").glob("test_*.py") if path.stem in modules)
    tests = only or tests
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        place = Path(scratch) / "tests"
        options = ["-q", "-p", "no:cacheprovider", "--timeout=45", f"--basetemp={place}", *tests]
        pytest.main(options, plugins=[Forking(mutants, seconds, out, place)])


def main(arguments: Iterable[str] | None = None) -> int:
    """Try mutants; an error when any survived that nobody has explained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--each", type=int, help="at most so many of a file; all when left out")
    parser.add_argument("--seed", type=int, default=8, help="of the sample")
    parser.add_argument("--seconds", type=float, default=20, help="of tests for one mutant")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutants.jsonl")
    parser.add_argument("--tests", nargs="*", default=[], help="of these files, on those that survived")
    parser.add_argument(
        "--go-on", action="store_true", help="first those that survived by --out; none that was noticed"
    )
    asked = parser.parse_args(None if arguments is None else [*arguments])
    os.chdir(ROOT)
    mutants = chosen(asked.files or files(), asked.each, asked.seed)
    before = {key(line): line["result"] for line in latest([asked.out])} if asked.go_on else {}
    mutants = [mutant for mutant in mutants if before.get(key(mutant.told()), "survived") in LEFT]
    mutants.sort(key=lambda mutant: key(mutant.told()) not in before)
    if asked.tests:
        mutants = [mutant for mutant in mutants if key(mutant.told()) in before]
    run(mutants, asked.seconds, asked.out, asked.tests)
    wanted = {key(mutant.told()) for mutant in mutants}
    known = explained()
    open_ones = [line for line in latest([asked.out]) if line["result"] in LEFT and key(line) in wanted]
    open_ones = [line for line in open_ones if key(line) not in known]
    for line in open_ones:
        print(f"not noticed: {line['path']}:{line['line']} {' | '.join(key(line))}")
    return 1 if open_ones else 0


if __name__ == "__main__":
    sys.exit(main())
