"""Tables of measured figures in the README and the documentation, written from `benchmarks/results/*.json`.

    python -m benchmarks.figures            # writes them; a test fails when a page is not as this would write it

A page marks where a table belongs, `<!-- figures: NAME -->` and `<!-- end of figures -->`; what stands between is
replaced. No figure is typed by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "performance.md")
BLOCK = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
Found = Callable[[str], dict[str, Any]]
Rows = list[tuple[str, ...]]
PEERS = ("vectorstore", "zvec", "qdrant-edge", "lancedb-hnsw-sq", "chroma", "sqlite-vec")


def read(results: Path, name: str) -> dict[str, Any]:
    """A result of the benchmarks."""
    found: dict[str, Any] = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
    return found


def markdown(head: Sequence[str], rows: Rows, *, right: bool = False) -> str:
    """A table; with `right`, all columns but the first are set to the right."""
    rule = ["---", *("---:" if right else "---" for _ in head[1:])]
    return "".join(
        "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|\n" for cells in (head, rule, *rows)
    )


def knowledge(found: Found) -> str:
    """Analogies and clusters."""
    analogies, clusters = found("analogies"), found("clusters")
    google = analogies["google"]
    of = google["sizes"][str(google["words"])]
    ours, theirs = of["3cosadd"], of["gensim 3cosadd"]
    faster = theirs["seconds"] / theirs["questions"] / (ours["seconds"] / ours["questions"])
    complete, scan, stories = analogies["complete"], analogies["scan"]["accuracy"], analogies["stories"]["accuracy"]
    banking = {one["recipe"]: one for one in clusters["sets"]["banking77"]["recipes"]}
    whole, quick = banking["agglomerative"], banking["spherical"]
    time = clusters["time"]
    return markdown(
        ("", ""),
        [
            (
                f"Google's {ours['questions']:,} word analogies, {google['words']:,} words of GloVe-{google['dim']}",
                f"3CosAdd {ours['accuracy']:.4f}, 3CosMul {of['3cosmul']['accuracy']:.4f}, as the protocol has them; "
                f"{faster:.0f} times gensim's speed in the same run",
            ),
            (
                f"`complete` over {complete['rows']:,} concepts, median",
                f"{complete['3cosadd']['p50_ms']:.1f} ms (3CosMul {complete['3cosmul']['p50_ms']:.1f}, "
                f"pair direction {complete['pair']['p50_ms']:.1f})",
            ),
            (
                f"`discover` between two domains of {analogies['discovery']['concepts'] // 2:,} concepts",
                f"{analogies['discovery']['seconds']:.1f} s",
            ),
            (
                "SCAN: terms mapped right",
                f"{scan['align'][0]:.3f}; cosine of the terms {scan['cosine of the terms'][0]:.3f}",
            ),
            (
                "StoryAnalogy, the right one of four",
                f"{stories['the whole score'][0]:.3f}; cosine of the texts {stories['cosine of the texts'][0]:.3f}, "
                "chance 0.25",
            ),
            (
                f"Banking77, {clusters['sets']['banking77']['clusters']} clusters: NMI, ARI",
                f"{whole['nmi']:.3f}, {whole['ari']:.3f} (agglomerative); {quick['nmi']:.3f}, {quick['ari']:.3f} "
                f"(spherical, {quick['seconds'] / whole['seconds']:.0%} of the time)",
            ),
            (
                f"k-means of {time['rows']:,} x {time['dim']} into {time['clusters']}",
                f"{time['seconds']['store'] / time['seconds']['raw FAISS']:.2f} times raw FAISS, "
                "from store to committed clusters",
            ),
        ],
    )


def work(found: Found) -> str:
    """Workflows, contracts, backups, history."""
    flows, contracts, backups = found("work"), found("contracts"), found("backup")
    rates = {name: one["median"] for name, one in flows["rates"].items()}
    batched = [one["ratio"] - 1 for one in (*contracts["reads"], *contracts["writes"]) if one["batched"]]
    trail = [one["ratio"] - 1 for one in contracts["trail"]]
    taken = {name: median(seconds) for name, seconds in backups["copies"].items()}
    history = {
        name: median(one["with history"]) / median(one["without history"]) for name, one in backups["history"].items()
    }
    kinds = ("add 5,000 with vectors", "update a field of 5,000", "delete 5,000")
    return markdown(
        ("", ""),
        [
            (
                f"{flows['items']:,} analogies through a workflow, in durable chunks",
                f"{rates['process it']:,.0f} a second (plain `add`: {rates['add, one call, one commit']:,.0f})",
            ),
            (
                "contracts on batched verbs; the trail",
                f"{min(batched) * 100:+.1f} to {max(batched) * 100:+.1f} % of CPU time; "
                f"at most {max(trail) * 100:.1f} %",
            ),
            (
                f"a backup of {backups['bytes'] / 1e6:.0f} MB: first, again, after 1,000 new records",
                f"{taken['first backup']:.2f} s, {taken['backup, nothing has changed']:.2f} s, "
                f"{taken['backup, 1,000 records have come']:.2f} s (`cp -r` {taken['cp -r']:.2f} s; "
                f"with fsync {taken['cp -r, then fsync of each file']:.2f} s)",
            ),
            (
                "history of rows, when switched on: add, update, delete",
                ", ".join(f"{history[name]:.2f}" for name in kinds) + " times",
            ),
        ],
    )


def memory(found: Found) -> str:
    """Memories, causes, the lattice."""
    minds, lattice = found("remembering"), found("lattice")
    recall, graphs = minds["recall"], minds["paths"]["graphs"].values()
    usual = recall["rows"]["default (1, 0.25, 0.25)"]
    made, again = lattice["resolve_many"]["passes"]
    return markdown(
        ("", ""),
        [
            (
                f"`recall` over {recall['memories']:,} memories by similarity, importance and recency, median",
                f"{usual['p50_ms']:.1f} ms, recall@10 {usual['recall@10']:.4f} against brute force",
            ),
            (
                f"causal paths to depth {minds['paths']['depth']} through {minds['paths']['edges']:,} edges, slowest",
                f"{max(one['max_ms'] for one in graphs) / 1e3:.2f} s from one to another, "
                f"{max(one['anywhere_max_ms'] for one in graphs) / 1e3:.2f} s to anywhere (first 10,000)",
            ),
            (
                f"pairs of the lattice resolved, {lattice['batch']:,} a durable commit",
                f"{made:,.0f} a second when they are new, {again:,.0f} again",
            ),
        ],
    )


def retrieval(found: Found) -> str:
    """Judged search, with bounds."""
    results = found("retrieval")
    names = {
        ("text", "unicode61"): "words (BM25)",
        ("dense, exact", ""): "meaning (MiniLM)",
        ("hybrid, weighted", "unicode61"): 'both (`mode="hybrid"`)',
        ("hybrid, weighted", "porter"): 'both, with stems (`tokenizer="porter"`)',
    }
    sets = results["sets"]
    rows: Rows = []
    for key, name in names.items():
        cells = []
        for one in sets.values():
            row = next((row for row in one["rows"] if (row["method"], row["tokenizer"]) == key), None)
            if row is None:
                cells.append("–")
                continue
            low, high = row["bounds"]["nDCG@10"]
            cells.append(f"{row['nDCG@10']:.3f} ({low:.2f}–{high:.2f})")
        rows.append((name, *cells))
    head = tuple(f"{name}, {one['queries']} questions" for name, one in sets.items())
    return markdown(("nDCG@10 (95 %)", *head), rows, right=True)


def peers(found: Found) -> str:
    """Beside other stores; the best of a row is bold."""
    systems = found("peers")["systems"]
    shown = [systems[name] for name in PEERS]
    seen = {"fresh": "at once", "stale": "no", "refused": "cannot open"}

    def ingest(one: dict[str, Any]) -> float:
        return float((one["ingest"].get("records") or one["ingest"]["columns"])["rows_per_s"])

    fastest = max(ingest(one) for one in shown if one["builds_index"])
    quickest = min(one["tuned"]["p50_ms"] for one in shown)
    shares = ("10", "1", "0.1")
    rows: Rows = [
        (
            "rows/s until durable and found through the index",
            *(
                _bold(f"{ingest(one):,.0f}", one["builds_index"] and ingest(one) == fastest)
                + ("" if one["builds_index"] else " (no index)")
                for one in shown
            ),
        ),
        (
            "one search, median ms",
            *(_bold(_ms(one["tuned"]["p50_ms"]), one["tuned"]["p50_ms"] == quickest) for one in shown),
        ),
    ]
    for share in shares:
        least = min(one["filters"][share]["p50_ms"] for one in shown)
        rows.append(
            (
                f"a filter that keeps {share} %, ms",
                *(
                    _bold(_ms(one["filters"][share]["p50_ms"]), one["filters"][share]["p50_ms"] == least)
                    for one in shown
                ),
            )
        )
    rows.append(("a second process finds a new row", *(_seen(one["fresh"], seen) for one in shown)))
    return markdown(("", *(one["name"] for one in shown)), rows, right=True)


def _seen(tried: list[dict[str, Any]], words: dict[str, str]) -> str:
    """What the default does; when only another effort makes it see, it has to be asked."""
    found = [one["seen"] for one in tried]
    return "when asked to" if found[0] == "stale" and "fresh" in found else words[found[0]]


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 2 else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _bold(text: str, really: bool) -> str:
    return f"**{text}**" if really else text


def growth(found: Found) -> str:
    """What an operation costs as a store grows."""
    results = found("lifecycle")
    sizes = {int(size): one for size, one in results["sizes"].items()}
    rows: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
        ("add, records/s", lambda one: f"{one['add']['records_per_s']:,.0f}"),
        ("search, k = 10, median ms", lambda one: f"{one['search']['store']['p50_ms']:.2f}"),
        ("· delivered recall@10", lambda one: f"{one['search']['store']['recall']:.4f}"),
        ("· exact", lambda one: f"{one['search']['store exact']['p50_ms']:.2f}"),
        ("· with a filter that keeps 1 %", lambda one: f"{one['filters']['share-1']['p50_ms']:.2f}"),
        ("FAISS flat, row numbers only", lambda one: f"{one['search']['faiss flat']['p50_ms']:.2f}"),
        ("open to first answer, ms", lambda one: f"{1e3 * _opened(one):.0f}"),
        ("index built, s", lambda one: f"{one['index']['rebuild_s']:.1f}"),
        ("check of everything, s", lambda one: f"{one['upkeep']['check_s']:.1f}"),
        ("disk, MB", lambda one: f"{sum(one['disk'].values()) / 1e6:,.0f}"),
        ("own memory after 1,000 searches, MB", lambda one: f"{one['memory']['store']['RssAnon'] / 1e6:,.0f}"),
    )
    cells = [(name, *(cell(sizes[size]) for size in sorted(sizes))) for name, cell in rows]
    return markdown(("records", *(f"{size:,}" for size in sorted(sizes))), cells, right=True)


def _opened(one: dict[str, Any]) -> float:
    return float(median(run["open_s"] + run["first_answer_s"] for run in one["open"]))


def installing(found: Found) -> str:
    """What a clean environment weighs and takes."""
    results = found("packaging")
    one = results["installed"][0]
    return markdown(
        ("", ""),
        [
            (
                "installed into a clean environment",
                f"{one['bytes'] / 1e6:,.0f} MB in {one['distributions']} packages, {one['torch_bytes'] / 1e6:,.0f} MB "
                f"of it torch {one['torch']}, {one['own_bytes'] / 1e6:.1f} MB this one",
            ),
            ("`[minilm]`, the default model, besides", f"{one['minilm_bytes'] / 1e6:,.0f} MB"),
            (
                "CPU time of `import vectorstore`; and of a store made and filled, no model",
                f"{one['import'] * 1e3:.0f} ms; {one['import, open, add'] * 1e3:.0f} ms",
            ),
            (
                "and of the first text of a process, by the default model (torch is imported)",
                f"{one['first_text']:.1f} s",
            ),
        ],
    )


TABLES: dict[str, Callable[[Found], str]] = {
    "growth": growth,
    "installing": installing,
    "knowledge": knowledge,
    "memory": memory,
    "peers": peers,
    "retrieval": retrieval,
    "work": work,
}


def filled(text: str, results: Path = RESULTS) -> str:
    """A page's text with its tables as they are now.

    Raises:
        KeyError: a marker names no table here.
    """
    return BLOCK.sub(lambda at: f"{at[1]}{TABLES[at[2]](partial(read, results))}{at[3]}", text)


def main() -> None:
    """Write every page's tables."""
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = filled(old)
        if new != old:
            page.write_text(new, encoding="utf-8")
            print(f"{page.relative_to(ROOT)}: written")


if __name__ == "__main__":
    main()
