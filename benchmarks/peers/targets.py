"""What vectorstore is asked to reach beside its peers, as ratios: met, or missed and by how much. Pure."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.base import BARE, BUCKETS, COLUMNS, RECORDS
from benchmarks.peers.choice import FLOOR, FULL
from benchmarks.peers.systems import OURS

Figures = Mapping[str, Any]
All = Mapping[str, Figures]
ARROW = "lancedb-flat"


SIGNS: dict[str, Callable[[float, float], bool]] = {"≥": operator.ge, "≤": operator.le, "<": operator.lt}


@dataclass(frozen=True)
class Target:
    """One claim.

    Attributes:
        ratio: measured against the rival; None when nothing could be compared.
        sign: of `SIGNS`: how the ratio has to stand to `wanted`.
        rival: whom it was compared with.
        detail: the two figures behind the ratio.
        qualified: False when our own recall is too low to be compared at all, which is a miss.
    """

    name: str
    ratio: float | None
    sign: str
    wanted: float
    rival: str
    detail: str
    qualified: bool = True

    @property
    def met(self) -> bool | None:
        if not self.qualified:
            return False
        return None if self.ratio is None else SIGNS[self.sign](self.ratio, self.wanted)

    @property
    def verdict(self) -> str:
        """`met`, or `missed by` so much of what was wanted."""
        if self.met is None:
            return "not compared"
        if self.met:
            return "met"
        if self.ratio is None:
            return "**missed**"
        return f"**missed by {abs(1 - self.ratio / self.wanted):.0%}**"

    @property
    def goal(self) -> str:
        return f"{self.sign} {self.wanted:g}"


def targets(found: All) -> list[Target]:
    """Every target, judged on the figures of one run (`figures.final` by system); none when we are not in it."""
    if OURS not in found:
        return []
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
    whole = f"durable and searchable at recall ≥ {FLOOR} / fastest peer that builds an index"
    bare = "/ LanceDB from Arrow without an index"
    asked = [
        (RECORDS, f"from records, {whole}", building, 5.0, _holds(ours)),
        (COLUMNS, f"from columns, {whole}", building, 5.0, _holds(ours)),
        (BARE, f"from columns, without an index {bare}", arrow, 0.5, True),
        (COLUMNS, f"from columns, with our index {bare}", arrow, 0.5, True),
    ]
    return [
        _against(
            f"ingest {words}",
            _Figure(_rate, "{:,.0f} rows/s"),
            float(ours["ingest"][variant]["rows_per_s"]),
            peers,
            ("≥", wanted),
            qualified=qualified,
        )
        for variant, words, peers, wanted, qualified in asked
        if variant in ours["ingest"]
    ]


def _single(ours: Figures, holding: All) -> Target:
    name = f"single search p50 at recall ≥ {FLOOR}, with records / fastest peer store"
    figure = _Figure(lambda one: float(one["tuned"]["p50_ms"]), "{:.3f} ms")
    return _against(name, figure, figure.of(ours), holding, FASTER, qualified=_holds(ours))


def _filter(ours: Figures, stores: All, share: str) -> Target:
    """Only peers whose own recall is full count: a wrong answer can always be had faster."""
    full = {name: one for name, one in stores.items() if one["filters"][share]["recall"] >= FULL}
    name = f"filter that keeps {share} %, p50 at recall 1.0 / fastest peer store"
    figure = _Figure(lambda one: float(one["filters"][share]["p50_ms"]), "{:.3f} ms")
    qualified = ours["filters"][share]["recall"] >= FULL
    return _against(name, figure, figure.of(ours), full, FASTER, qualified=qualified)


def _reopen(ours: Figures, stores: All, state: str) -> Target:
    words = {"cold": "caches dropped", "warm": "files cached"}[state]
    figure = _Figure(lambda one: float(one["reopen"][f"{state}_ms"]), "{:.1f} ms")
    return _against(f"reopen to first answer, {words} / fastest peer store", figure, figure.of(ours), stores, FASTER)


def _memory(ours: Figures, found: All) -> Target:
    others = {name: one for name, one in found.items() if name != OURS and _holds(one)}
    name = f"own memory (RssAnon) after 1,000 searches / smallest of all that hold recall ≥ {FLOOR}"
    figure = _Figure(lambda one: float(one["memory"]["RssAnon"]) / 2**20, "{:.1f} MiB")
    return _against(name, figure, figure.of(ours), others, FASTER, qualified=_holds(ours))


def _disk(ours: Figures, stores: All) -> Target:
    keeping = {name: one for name, one in stores.items() if one["keeps_float32"]}
    figure = _Figure(lambda one: float(one["disk_bytes"]) / 1e6, "{:.1f} MB")
    return _against("disk / smallest peer store that keeps float32", figure, figure.of(ours), keeping, ("≤", 1.15))


FASTER = ("<", 1.0)
"""Or smaller."""


@dataclass(frozen=True)
class _Figure:
    """How a system's figure is found, and how it is printed."""

    of: Callable[[Figures], float]
    form: str


def _against(
    name: str, figure: _Figure, value: float, peers: All, goal: tuple[str, float], *, qualified: bool = True
) -> Target:
    """Our value over the best of the peers' figures: the largest when ours shall be larger, else the smallest."""
    sign, wanted = goal
    if not qualified:
        return Target(name, None, sign, wanted, "–", "our recall is too low", qualified)
    if not peers:
        return Target(name, None, sign, wanted, "–", "no peer to compare with")
    best = (max if sign == "≥" else min)(peers, key=lambda peer: figure.of(peers[peer]))
    rival = figure.of(peers[best])
    detail = f"{figure.form.format(value)} / {figure.form.format(rival)}"
    return Target(name, value / rival, sign, wanted, str(peers[best]["name"]), detail)


def _holds(one: Figures) -> bool:
    return float(one["tuned"]["recall"]) >= FLOOR


def _rate(one: Figures) -> float:
    """The best of the forms in which a peer was given its rows."""
    return max(float(run["rows_per_s"]) for run in one["ingest"].values())
