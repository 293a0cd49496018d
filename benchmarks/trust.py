"""Four questions about trust, put to a store and its peers: python -m benchmarks.trust [SYSTEM ...].

kills      A process adds batches of 20 and says each that was acknowledged; it is killed (SIGKILL) at a random moment,
           half of the time in the same, ageing store. Is every acknowledged row there, by id and by its own vector?
freshness  Two processes have the store open. One adds a row; does the other's very next search find it?
starving   20,000 rows, a filter that lets 10, 20 or 200 of them through, near the query or far from it. Do ten come
           back, and are they the right ones?
erasing    500 of 1,000 rows are deleted and what is documented for erasing is done. Are their texts and vectors still
           among the bytes of the store's files? Only plain bytes are looked for, so a store that compresses shows less.

Every system runs in the most durable mode that it documents; what a system cannot do is told in its own words.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.machine import machine
from benchmarks.trusted import CONTESTANTS, text_of, vector_of

RESULTS = Path(__file__).parent / "results"
SPAWN = multiprocessing.get_context("spawn")
BATCH = 20
KEPT = {1: range(5000, 5010), 2: range(5100, 5120), 3: range(5300, 5500)}
"""Value of `bucket` -> the rows that have it; all others have 0."""

ROWS = 20_000


# -- in children -------------------------------------------------------------------------------------------------------


def child(system: str, stage: str, path: Path, argument: int) -> None:
    """One stage in a process of its own; what it finds is the last line on standard output."""
    store = CONTESTANTS[system](path)
    if stage == "write":
        print("open", flush=True)
        number = argument
        while True:
            store.add(range(number, number + BATCH))
            number += BATCH
            print(number, flush=True)
    found: dict[str, Any] = {}
    if stage == "verify":
        sample = sorted({0, argument - 1, *random.Random(argument).choices(range(argument), k=30)}) if argument else []
        found = {"count": store.count(), "sample": len(sample), "by_id": sum(map(store.has, sample))}
        found["by_vector"] = sum(store.find(number) == [number] for number in sample)
    elif stage == "versions":
        found = {"versions": store.versions(), "name": store.name, "durable": store.durable, "erase": store.erase}
    elif stage == "starve":
        found = _starve(store)
    elif stage == "fill":
        store.add(range(argument))
    elif stage == "erase":
        store.delete(range(0, argument, 2))
    if stage != "erase" or system != "chroma":  # there its files are closed already
        store.close()
    print(json.dumps(found), flush=True)
    os._exit(0)


def _starve(store: Any) -> dict[str, Any]:
    """The rows that pass lie in one thousand; queries come from it (near) or from another one (far)."""
    places = np.zeros(ROWS, dtype=int)
    for bucket, rows in KEPT.items():
        places[list(rows)] = bucket
    numbers = list(range(ROWS))
    for start in range(0, ROWS, 1000):
        store.add(numbers[start : start + 1000], [int(x) for x in places[start : start + 1000]])
    store.index()
    found: dict[str, Any] = {}
    for bucket, rows in KEPT.items():
        vectors = np.stack([vector_of(n) for n in rows])
        for where, base in (("near", 5500), ("far", 12_000)):
            came = right = wanted = 0
            for query in range(base, base + 50):
                k = min(10, len(rows))
                exact = {rows[at] for at in np.argsort(-(vectors @ vector_of(query)))[:k]}
                answer = store.find(query, 10, bucket)
                came, right, wanted = came + len(answer), right + len(exact & set(answer)), wanted + k
            found[f"{len(rows)} {where}"] = {"came": came / wanted, "recall": right / wanted}
    return found


def run(system: str, stage: str, path: Path, argument: int = 0, timeout: float = 300) -> dict[str, Any]:
    """What a stage found, or why it could not."""
    command = [sys.executable, "-m", "benchmarks.trust", "--child", system, stage, str(path), str(argument)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"did not end within {timeout:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        told = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        return {"failed": f"exit code {done.returncode}: {told.replace(str(path.parent), '...')[:200]}"}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


# -- the questions -----------------------------------------------------------------------------------------------------


def kills(system: str, folder: Path, rounds: int) -> dict[str, Any]:
    chance = random.Random(7)
    total = {"rounds": 0, "acknowledged": 0, "lost": 0, "sampled": 0, "missing_by_id": 0, "missing_by_vector": 0}
    problems: list[str] = []
    path, base = folder / "kills", 0
    for number in range(rounds):
        if number % 2 == 0 or problems:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
            base = 0
        writer = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.trust", "--child", system, "write", str(path), str(base)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(chance.uniform(0.3, 2.0))
        os.killpg(writer.pid, signal.SIGKILL)
        told = [line for line in writer.stdout.read().split(b"\n")[:-1] if line.isdigit()]
        writer.wait()
        acknowledged = int(told[-1]) if told else base
        found = run(system, "verify", path, acknowledged)
        total["rounds"] += 1
        total["acknowledged"] += acknowledged - base
        if "failed" in found:
            problems.append(found["failed"])
            total["lost"] += acknowledged
            continue
        total["lost"] += max(0, acknowledged - found["count"])
        total["sampled"] += found["sample"]
        total["missing_by_id"] += found["sample"] - found["by_id"]
        total["missing_by_vector"] += found["sample"] - found["by_vector"]
        # What was not acknowledged may be there, too, and then the next process must not meet it.
        base = -(-max(acknowledged, found["count"]) // BATCH) * BATCH
    return {**total, "unreadable": len(problems), "problems": sorted(set(problems))[:3]}


def _end(*queues: Any) -> None:
    """Leave at once, without whatever a library does at the end of a process, once the queues are written."""
    for each in queues:
        each.close()
        each.join_thread()
    os._exit(0)


def _follow(system: str, path: Path, inbox: Any, outbox: Any) -> None:
    try:
        store = CONTESTANTS[system](path)
        outbox.put("open")
        while (number := inbox.get()) is not None:
            until, answer = time.monotonic() + 2, "stale"
            if store.find(number) == [number]:
                answer = "fresh"
            else:
                while answer == "stale" and time.monotonic() < until:
                    time.sleep(0.05)
                    answer = "late" if store.find(number) == [number] else "stale"
            outbox.put(answer)
    except Exception as error:
        outbox.put(f"refused: {type(error).__name__}: {str(error).splitlines()[0][:150]}")
    _end(outbox)


def _lead(system: str, path: Path, times: int, inbox: Any, outbox: Any, results: Any) -> None:
    store = CONTESTANTS[system](path)
    store.add(range(1000))
    results.put("ready")
    if outbox.get() != "open":
        _end(results)
    counted: dict[str, int] = {"fresh": 0, "late": 0, "stale": 0}
    for number in range(5000, 5000 + times):
        try:
            store.add([number])
        except Exception as error:
            results.put(f"the first cannot write any more: {type(error).__name__}: {str(error)[:150]}")
            _end(results)
        inbox.put(number)
        answer = outbox.get()
        if answer not in counted:
            results.put(answer)
            _end(results)
        counted[answer] += 1
    inbox.put(None)
    results.put(counted)
    _end(inbox, results)


def freshness(system: str, folder: Path, times: int) -> dict[str, Any]:
    path = folder / "fresh"
    path.mkdir()
    inbox, outbox, relay, results = SPAWN.Queue(), SPAWN.Queue(), SPAWN.Queue(), SPAWN.Queue()
    lead = SPAWN.Process(target=_lead, args=(system, path, times, inbox, relay, results), daemon=True)
    lead.start()
    follower = None
    try:
        results.get(timeout=120)
        follower = SPAWN.Process(target=_follow, args=(system, path, inbox, outbox), daemon=True)
        follower.start()
        first = outbox.get(timeout=90)
        relay.put(first)
        if first != "open":
            return {"refused": first.replace(str(folder), "...")}
        for _ in range(times):
            if not results.empty():  # the first could not go on
                break
            relay.put(outbox.get(timeout=60))
        found = results.get(timeout=60)
        return found if isinstance(found, dict) else {"refused": found.replace(str(folder), "...")}
    except Exception as error:
        with contextlib.suppress(queue.Empty):
            return {"refused": str(results.get(timeout=1)).replace(str(folder), "...")}
        codes = [process.exitcode for process in (lead, follower) if process is not None]
        return {"refused": f"no answer ({type(error).__name__}); exit codes {codes}"}
    finally:
        for process in (lead, follower):
            if process is not None:
                process.kill()


def erasing(system: str, folder: Path) -> dict[str, Any]:
    path, count = folder / "erase", 1000
    path.mkdir()
    filled = run(system, "fill", path, count)
    if "failed" in filled:
        return filled
    gone, kept = range(0, count, 2), range(1, count, 2)
    before = _visible(path, gone)
    erased = run(system, "erase", path, count)
    if "failed" in erased:
        return erased
    return {"before": before, "after": _visible(path, gone), "kept": _visible(path, kept)}


def _visible(path: Path, numbers: range) -> dict[str, int]:
    """How many texts, and how many vectors (their first eight numbers), are among the bytes of all files."""
    data = b"\0".join(each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file())
    texts = sum(text_of(number).split(" ")[1].encode() in data for number in numbers)
    return {"texts": texts, "vectors": sum(vector_of(number)[:8].tobytes() in data for number in numbers)}


# -- the report --------------------------------------------------------------------------------------------------------


def table(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    systems = found["systems"]
    told = found["machine"]
    lines = [
        "# Trust",
        "",
        f"`make bench-trust` on {told['cores']} cores ({told['cpu']}), {told['date']}, Python {told['python']}. "
        "What was asked, and how, stands in `benchmarks/trust.py`; the stores are used as in `benchmarks/trusted.py`.",
        "",
        "## Killed while writing",
        "",
        "| store | durable by | rounds | acknowledged rows | lost | missing by id | missing by vector | unreadable |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in systems.values():
        k = each["kills"]
        missing = " | ".join(f"{k[name]} of {k['sampled']}" for name in ("missing_by_id", "missing_by_vector"))
        unreadable = _cell(", ".join([str(k["unreadable"]), *k["problems"]]))
        lines.append(
            f"| {each['name']} | {each['durable']} | {k['rounds']} | {k['acknowledged']:,} | {k['lost']:,} "
            f"| {missing} | {unreadable} |"
        )
    lines += [
        "",
        "A kill leaves what the system has taken over; a power cut does not, and was not tried here.",
        "",
        "## A second process",
        "",
        "| store | fresh at once | within 2 s | not at all | or |",
        "|---|---|---|---|---|",
    ]
    for each in systems.values():
        f = each["freshness"]
        counted = [str(f.get(key, "–")) for key in ("fresh", "late", "stale")]
        lines.append(f"| {each['name']} | {' | '.join(counted)} | {_cell(f.get('refused', ''))} |")
    keys = next((list(each["starving"]) for each in systems.values() if "failed" not in each["starving"]), [])
    lines += [
        "",
        "## Filters that leave little",
        "",
        f"Of {ROWS:,} rows; the share of the ten that came back, and of the right ones; all at their defaults. "
        "(txtai asks its index for ten times k unless `similar` is given a number.)",
        "",
        f"| store | {' | '.join(f'{key}: came, right' for key in keys)} |",
        "|---|" + "---|" * len(keys),
    ]
    for each in systems.values():
        s = each["starving"]
        if "failed" in s:
            lines.append(f"| {each['name']} | {_cell(s['failed'])} |" + " |" * (len(keys) - 1))
        else:
            cells = [f"{s[key]['came']:.3f}, {s[key]['recall']:.3f}" for key in keys]
            lines.append(f"| {each['name']} | {' | '.join(cells)} |")
    lines += [
        "",
        "## Erased, and still there",
        "",
        "500 of 1,000 rows; texts and vectors that are among the bytes of the files.",
        "",
        "| store | erased by delete and | texts before | after | vectors before | after |",
        "|---|---|---|---|---|---|",
    ]
    for each in systems.values():
        e = each["erasing"]
        if "failed" in e:
            lines.append(f"| {each['name']} | {each['erase']}: {_cell(e['failed'])} | | | | |")
        else:
            a, b = e["before"], e["after"]
            lines.append(
                f"| {each['name']} | {each['erase']} | {a['texts']} | {b['texts']} | {a['vectors']} | {b['vectors']} |"
            )
    versions = "; ".join(
        ", ".join(f"{name} {version}" for name, version in each["versions"].items()) for each in systems.values()
    )
    return "\n".join([*lines, "", f"Versions: {versions}.", ""])


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", default=list(CONTESTANTS))
    parser.add_argument("--rounds", type=int, default=10, help="kills")
    parser.add_argument("--times", type=int, default=20, help="rows that a second process is asked for")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        system, stage, path, argument = given.child
        child(system, stage, Path(path), int(argument))
        return
    out = given.out / "trust.json"
    found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {"systems": {}}
    for system in given.systems:
        folder = Path(tempfile.mkdtemp(prefix=f"trust-{system}-"))
        try:
            (folder / "versions").mkdir()
            each = run(system, "versions", folder / "versions")
            if "failed" in each:
                print(f"{system}: {each['failed']}", flush=True)
                continue
            for question, ask in (
                ("kills", partial(kills, system, folder, given.rounds)),
                ("freshness", partial(freshness, system, folder, given.times)),
                ("starving", partial(starving, system, folder)),
                ("erasing", partial(erasing, system, folder)),
            ):
                each[question] = ask()
                print(system, question, json.dumps(each[question]), flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        systems = {**found["systems"], system: each}
        found = {"machine": machine(), "systems": {name: systems[name] for name in CONTESTANTS if name in systems}}
        given.out.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n")
        (given.out / "trust.md").write_text(table(found))


def starving(system: str, folder: Path) -> dict[str, Any]:
    (folder / "starve").mkdir()
    return run(system, "starve", folder / "starve", timeout=600)


if __name__ == "__main__":
    main()
