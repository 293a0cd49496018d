"""The table of a run: its targets, met or missed, and its figures by size, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.dataset import BUCKETS
from benchmarks.timing import median

Sizes = dict[int, dict[str, Any]]


@dataclass(frozen=True)
class Target:
    """What is asked of a store: the wanted value, the measured one, and whether it is enough; None: not measured."""

    name: str
    wanted: str
    measured: str
    met: bool | None


def by_size(results: dict[str, Any]) -> Sizes:
    """The figures, with numbers as keys, smallest first."""
    return dict(sorted((int(size), found) for size, found in results["sizes"].items()))


def judged(results: dict[str, Any]) -> int:
    """The size that the targets are read at: the whole data set, or else the largest that was measured."""
    sizes = by_size(results)
    rows = results["about"]["data_rows"]
    return rows if rows in sizes else max(sizes)


def targets(results: dict[str, Any]) -> list[Target]:
    """Every target, judged in one run."""
    sizes = by_size(results)
    found = sizes[judged(results)]
    return [
        *_write_targets(found, sizes),
        *_search_targets(found),
        *_filter_targets(found["filters"]),
        _upper("memory of its own (RssAnon) / raw float32", 0.25, _memory(found, "store", "RssAnon"), "{:.3f}"),
    ]


def _write_targets(found: dict[str, Any], sizes: Sizes) -> list[Target]:
    upkeep = found["upkeep"]
    first_answer = median([run["open_s"] + run["first_answer_s"] for run in found["open"]])
    return [
        _lower("add, batches of 10,000, records/s", 25_000, found["add"]["records_per_s"], "{:,.0f}"),
        _lower("add one by one, each durable, records/s", 300, upkeep["single_adds_per_s"], "{:,.0f}"),
        _growth(sizes),
        _upper("open to first answer, s", 0.1, first_answer, "{:.4f}"),
        _upper("rebuild, s", 10, found["index"]["rebuild_s"], "{:.2f}"),
        _upper("check, s", 5, upkeep["check_s"], "{:.2f}"),
    ]


def _growth(sizes: Sizes) -> Target:
    name, wanted = "CPU time a record, at 1,000,000 / at 10,000", "≤ 2"
    if max(sizes) < 1_000_000 or 10_000 not in sizes:
        return Target(name, wanted, "not measured", None)
    late = median([batch["cpu_seconds"] / batch["records"] for batch in sizes[max(sizes)]["add"]["batches"][-10:]])
    early = 1 / sizes[10_000]["add"]["records_per_cpu_s"]
    return Target(name, wanted, f"{late / early:.2f}", late / early <= 2)


def _search_targets(found: dict[str, Any]) -> list[Target]:
    search = found["search"]
    ours, flat = search["store"], search["faiss flat"]["p50_ms"]
    made = [
        _upper("search p50 / raw FAISS flat p50", 1 / 6, ours["p50_ms"] / flat, "{:.3f}"),
        _lower("delivered recall@10", 0.99, ours["recall"], "{:.4f}"),
    ]
    if "recipe raw" in search:
        limit = 1.3 * search["recipe raw"]["p50_ms"] + 0.3
        made.append(
            Target(
                "search p50, ms, at most 1.3 × the raw recipe + 0.3 ms",
                f"≤ {limit:.3f}",
                f"{ours['p50_ms']:.3f}",
                ours["p50_ms"] <= limit,
            )
        )
    batch = found["many"]["batch_100"]
    made.append(_lower("search_many of 100, throughput / single calls", 5, batch["throughput_ratio"], "{:.2f}"))
    return made


def _filter_targets(filters: dict[str, Any]) -> list[Target]:
    made = []
    for name in ("share-10", "share-1", "share-0.1"):
        share, measured = _percent(name), filters[name]
        made.append(_lower(f"filter {share}: recall@10", 1.0, measured["recall"], "{:.4f}"))
        ratio = measured["ratio_to_unfiltered"]
        made.append(_upper(f"filter {share}: p50 / unfiltered p50", 1.5, ratio, "{:.2f}"))
    return made


def _lower(name: str, limit: float, value: float, form: str) -> Target:
    return Target(name, f"≥ {limit:,g}", form.format(value), value >= limit)


def _upper(name: str, limit: float, value: float, form: str) -> Target:
    return Target(name, f"≤ {limit:.3g}", form.format(value), value <= limit)


def _percent(bucket: str) -> str:
    return f"{BUCKETS[bucket] * 100:g} %"


def _memory(found: dict[str, Any], contestant: str, part: str) -> float:
    return float(found["memory"][contestant][part] / found["data"]["raw_float32_bytes"])


# -- the figures by size -----------------------------------------------------------------------------------------------

Row = tuple[str, Callable[[dict[str, Any]], str]]


def _ms(contestant: str) -> Callable[[dict[str, Any]], str]:
    def cell(found: dict[str, Any]) -> str:
        measured = found["search"].get(contestant)
        if measured is None:
            return "–"
        exactness = f" ({measured['recall']:.4f})" if "recall" in measured else ""
        return f"{measured['p50_ms']:.3f} / {measured['p95_ms']:.3f}{exactness}"

    return cell


def _filtered(name: str) -> Callable[[dict[str, Any]], str]:
    def cell(found: dict[str, Any]) -> str:
        measured = found["filters"][name]
        return (
            f"{measured['p50_ms']:.3f} ({measured['recall']:.4f}), ×{measured['ratio_to_unfiltered']:.2f}, "
            f"cold {measured['cold_ms']:.1f}"
        )

    return cell


def _remembered(contestant: str) -> Callable[[dict[str, Any]], str]:
    def cell(found: dict[str, Any]) -> str:
        if contestant not in found["memory"]:
            return "–"
        own, file = (_memory(found, contestant, part) for part in ("RssAnon", "RssFile"))
        return f"{own:.2f} + {file:.2f}"

    return cell


def _rate(get: Callable[[dict[str, Any]], float]) -> Callable[[dict[str, Any]], str]:
    return lambda found: f"{get(found):,.0f}"


def _number(get: Callable[[dict[str, Any]], float], form: str) -> Callable[[dict[str, Any]], str]:
    return lambda found: form.format(get(found))


def _batch(size: int) -> Callable[[dict[str, Any]], str]:
    def cell(found: dict[str, Any]) -> str:
        measured = found["many"][f"batch_{size}"]
        return f"{measured['ms_per_query']:.3f}, ×{measured['throughput_ratio']:.2f}"

    return cell


def _disk(found: dict[str, Any]) -> str:
    raw = found["data"]["raw_float32_bytes"]
    return " + ".join(f"{found['disk'][part] / raw:.2f}" for part in ("catalog", "embeddings", "indexes"))


def _opened(found: dict[str, Any]) -> str:
    runs = found["open"]
    names = ("open_s", "first_answer_s", "imports_s")
    return " + ".join(f"{median([run[name] for run in runs]) * 1e3:.1f}" for name in names)


def _rebuilt(found: dict[str, Any]) -> str:
    index = found["index"]
    graph = f"{index['hnsw_build_s']:.1f}" if "hnsw_build_s" in index else "–"
    return f"{index['rebuild_s']:.2f} / {index['raw_build_s']:.2f} / {graph}"


def _growth_of(found: dict[str, Any]) -> str:
    rates = [batch["records"] / batch["seconds"] for batch in found["add"]["batches"]]
    return f"{rates[0]:,.0f} → {rates[-1]:,.0f}"


ROWS: tuple[Row, ...] = (
    ("**writing**", lambda _: ""),
    ("add from objects, records/s", _rate(lambda found: found["add"]["records_per_s"])),
    ("· the same, records per second of CPU time", _rate(lambda found: found["add"]["records_per_cpu_s"])),
    ("· first batch → last batch", _growth_of),
    ("· building the objects before, records/s", _rate(lambda found: found["add"]["objects_built_per_s"])),
    ("· add from dicts, records/s", _rate(lambda found: found["add"]["dicts_records_per_s"])),
    ("· add from columns, records/s", _rate(lambda found: found["add"]["columns_records_per_s"])),
    ("· with publishing in the background, records/s", _rate(lambda found: found["add_published"]["records_per_s"])),
    (
        "· then until published and closed, s",
        _number(lambda f: f["add_published"]["closed_after_last_add_s"], "{:.2f}"),
    ),
    ("add one by one, records/s", _rate(lambda found: found["upkeep"]["single_adds_per_s"])),
    ("· the disk's fsync, ms", _number(lambda found: found["upkeep"]["fsync_ms"], "{:.2f}")),
    ("rebuild / raw recipe / HNSW32 build, s", _rebuilt),
    ("· CPU seconds of the rebuild", _number(lambda found: found["index"]["rebuild_cpu_s"], "{:.2f}")),
    ("check, s", _number(lambda found: found["upkeep"]["check_s"], "{:.2f}")),
    ("delete a tenth, s", _number(lambda found: found["upkeep"]["delete_s"], "{:.2f}")),
    ("compact after it, s", _number(lambda found: found["upkeep"]["compact_s"], "{:.2f}")),
    ("**searching, one thread, k = 10: p50 / p95 ms (recall)**", lambda _: ""),
    ("store, with records", _ms("store")),
    ("store, exact=True", _ms("store exact")),
    ("FAISS flat", _ms("faiss flat")),
    ("numpy", _ms("numpy")),
    ("FAISS, the same recipe, candidates only", _ms("recipe raw")),
    ("FAISS, the same recipe, re-ranked by numpy", _ms("recipe raw, re-ranked")),
    ("FAISS HNSW32, efSearch 128", _ms("hnsw32")),
    ("the plan's candidates", _rate(lambda found: found["search"]["plan"]["candidates"])),
    ("search_many of 100: ms a query, throughput / single", _batch(100)),
    ("search_many of 1,000", _batch(1_000)),
    ("with 500 newer vectors, p50 ms", _number(lambda found: found["upkeep"]["search_with_tail_ms"], "{:.3f}")),
    ("with a tenth deleted, p50 ms", _number(lambda found: found["upkeep"]["search_with_deleted_ms"], "{:.3f}")),
    ("**filters: p50 ms (recall), ratio to unfiltered, cold ms**", lambda _: ""),
    *((f"keeps {_percent(name)}", _filtered(name)) for name in BUCKETS),
    ("keeps a topic, about 5 %", _filtered("topic")),
    ("first filter of a process, ms", _number(lambda found: found["filters"]["first_filter_of_process_ms"], "{:.1f}")),
    ("**text, p50 ms**", lambda _: ""),
    ("text", _number(lambda found: found["text"]["text"]["p50_ms"], "{:.3f}")),
    ("hybrid, without a model's time", _number(lambda found: found["text"]["hybrid"]["p50_ms"], "{:.3f}")),
    ("**opening**", lambda _: ""),
    ("open + first answer + imports, ms", _opened),
    ("**space, in units of the raw float32 vectors**", lambda _: ""),
    ("store: own memory + file pages", _remembered("store")),
    ("FAISS flat", _remembered("flat")),
    ("FAISS HNSW32", _remembered("hnsw")),
    ("disk: catalog + embeddings + indexes", _disk),
)


def table(results: dict[str, Any]) -> str:
    """The report as Markdown."""
    about, sizes = results["about"], by_size(results)
    verdicts = {True: "met", False: "**missed**", None: "–"}
    made = targets(results)
    lines = [
        "# The life of a store, measured",
        "",
        _paragraph(about),
        "",
        f"Targets, read at {judged(results):,} records:",
        "",
        *_markdown(
            ("target", "wanted", "measured", ""),
            [(one.name, one.wanted, one.measured, verdicts[one.met]) for one in made],
        ),
        "",
        "Figures by size:",
        "",
        *_markdown(
            ("records", *(f"{size:,}" for size in sizes)),
            [(name, *(cell(found) for found in sizes.values())) for name, cell in ROWS],
        ),
        "",
        *(f"- {size:,} records: {found['data']['method']}." for size, found in sizes.items()),
        "",
    ]
    return "\n".join(lines)


def _paragraph(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"{about['date']}; {about['cpu']}, {about['cores']} cores, {about['memory_bytes'] / 2**30:.0f} GiB, "
        f"{about['system']}, load {about['load_at_start']:.1f} at the start; Python {about['python']}, "
        f"{versions}, SQLite {about['sqlite']}. Data: {about['data']} ({about['data_rows']:,} rows), seed "
        f"{about['seed']}. A perturbed copy is a row plus a random vector of {about['noise']} of its length, made "
        "unit again. Medians; contestants take turns within each measurement, so ratios are steadier than times."
    )


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *("---:" for _ in head[1:])]
    return ["| " + " | ".join(cells) + " |" for cells in (head, rule, *rows)]
