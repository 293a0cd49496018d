"""What vectorstore is asked to reach beside its peers, as ratios: met, or missed and by how much. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.base import BARE, BUCKETS, COLUMNS, RECORDS
from benchmarks.peers.choice import FLOOR, FULL
from benchmarks.peers.systems import OURS

Figures = Mapping[str, Any]
All = Mapping[str, Figures]
ARROW = "lancedb-flat"


@dataclass(frozen=True)
class Target:
    """One claim.

    Attributes:
        ratio: measured against the rival; None when nothing could be compared.
        wanted: the ratio that meets it: at least this when `least`, else at most (or below, when `strict`).
        rival: whom it was compared with.
        detail: the two figures behind the ratio.
        strict: equality is not enough.
        qualified: False when our own recall is too low to be compared at all, which is a miss.
    """

    name: str
    ratio: float | None
    wanted: float
    least: bool
    rival: str
    detail: str
    strict: bool = False
    qualified: bool = True

    @property
    def met(self) -> bool | None:
        if not self.qualified:
            return False
        if self.ratio is None:
            return None
        if self.strict:
            return self.ratio > self.wanted if self.least else self.ratio < self.wanted
        return self.ratio >= self.wanted if self.least else self.ratio <= self.wanted

    @property
    def verdict(self) -> str:
        """`met`, or `missed by` so much of what was wanted."""
        if not self.qualified:
            return "**missed**"
        if self.ratio is None:
            return "not compared"
        if self.met:
            return "met"
        short = 1 - self.ratio / self.wanted if self.least else self.ratio / self.wanted - 1
        return f"**missed by {short:.0%}**"

    @property
    def goal(self) -> str:
        sign = (">" if self.strict else "≥") if self.least else ("<" if self.strict else "≤")
        return f"{sign} {self.wanted:g}"


def targets(found: All) -> list[Target]:
    """Every target, judged on the figures of one run (`figures.final` by system)."""
    ours = found[OURS]
    stores = {name: one for name, one in found.items() if name != OURS and one["store"]}
    holding = {name: one for name, one in stores.items() if _holds(one)}
    return [
        *_ingest(ours, holding, found),
        _single(ours, holding),
        *(_filter(ours, stores, share) for share in BUCKETS),
        *(_reopen(ours, stores, state) for state in ("cold", "warm")),
        _memory(ours, found),
        _disk(ours, stores),
    ]


def _ingest(ours: Figures, holding: All, found: All) -> list[Target]:
    building = {name: one for name, one in holding.items() if one["builds_index"]}
    arrow = {ARROW: found[ARROW]} if ARROW in found else {}
    asked = [
        *(
            (variant, f"durable and searchable at recall ≥ {FLOOR} / fastest peer that builds an index", building, 5.0)
            for variant in (RECORDS, COLUMNS)
        ),
        (BARE, "/ LanceDB from Arrow without an index", arrow, 0.5),
        (COLUMNS, "our index included / LanceDB from Arrow without an index", arrow, 0.5),
    ]
    enough = _holds(ours)
    return [
        _against(
            f"ingest from {variant}, {words}",
            _rate(ours, variant),
            peers,
            _best_rate,
            wanted,
            "{:,.0f} rows/s",
            least=True,
            qualified=enough or wanted < 1,
        )
        for variant, words, peers, wanted in asked
        if variant in ours["ingest"]
    ]


def _single(ours: Figures, holding: All) -> Target:
    name = f"single search p50 at recall ≥ {FLOOR}, with records / fastest peer store"
    value = ours["tuned"]["p50_ms"]
    return _against(
        name,
        value,
        holding,
        lambda one: float(one["tuned"]["p50_ms"]),
        1.0,
        "{:.3f} ms",
        strict=True,
        qualified=_holds(ours),
    )


def _filter(ours: Figures, stores: All, share: str) -> Target:
    """Only peers whose own recall is full count: a wrong answer can always be had faster."""
    full = {name: one for name, one in stores.items() if one["filters"][share]["recall"] >= FULL}
    measured = ours["filters"][share]
    name = f"filter that keeps {share} %, p50 at recall 1.0 / fastest peer store"
    return _against(
        name,
        measured["p50_ms"],
        full,
        lambda one: float(one["filters"][share]["p50_ms"]),
        1.0,
        "{:.3f} ms",
        strict=True,
        qualified=measured["recall"] >= FULL,
    )


def _reopen(ours: Figures, stores: All, state: str) -> Target:
    words = {"cold": "caches dropped", "warm": "files cached"}[state]
    name = f"reopen to first answer, {words} / fastest peer store"
    value = ours["reopen"][f"{state}_ms"]
    return _against(name, value, stores, lambda one: float(one["reopen"][f"{state}_ms"]), 1.0, "{:.1f} ms", strict=True)


def _memory(ours: Figures, found: All) -> Target:
    others = {name: one for name, one in found.items() if name != OURS and _holds(one)}
    name = f"own memory (RssAnon) after 1,000 searches / smallest of all that hold recall ≥ {FLOOR}"
    return _against(name, _mebibytes(ours), others, _mebibytes, 1.0, "{:.1f} MiB", strict=True, qualified=_holds(ours))


def _disk(ours: Figures, stores: All) -> Target:
    keeping = {name: one for name, one in stores.items() if one["keeps_float32"]}
    name = "disk / smallest peer store that keeps float32"
    return _against(name, ours["disk_bytes"] / 1e6, keeping, lambda one: one["disk_bytes"] / 1e6, 1.15, "{:.1f} MB")


def _against(
    name: str,
    value: float,
    peers: All,
    figure: Callable[[Figures], float],
    wanted: float,
    form: str,
    *,
    least: bool = False,
    strict: bool = False,
    qualified: bool = True,
) -> Target:
    """Our value over the best of the peers' figures: the largest when `least`, else the smallest."""
    if not qualified:
        return Target(name, None, wanted, least, "–", "our recall is too low", strict, qualified)
    if not peers:
        return Target(name, None, wanted, least, "–", "no peer to compare with", strict)
    best = (max if least else min)(peers, key=lambda peer: figure(peers[peer]))
    rival = figure(peers[best])
    detail = f"{form.format(value)} / {form.format(rival)}"
    return Target(name, value / rival, wanted, least, str(peers[best]["name"]), detail, strict)


def _holds(one: Figures) -> bool:
    return float(one["tuned"]["recall"]) >= FLOOR


def _rate(one: Figures, variant: str) -> float:
    return float(one["ingest"][variant]["rows_per_s"])


def _best_rate(one: Figures) -> float:
    return max(float(run["rows_per_s"]) for run in one["ingest"].values())


def _mebibytes(one: Figures) -> float:
    return float(one["memory"]["RssAnon"]) / 2**20
