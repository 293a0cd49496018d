"""Sync: catalog, files and indexes agree, now and after any crash."""

from vectorstore.sync import past
from vectorstore.sync.check import CheckReport, Finding, check
from vectorstore.sync.compact import CompactReport, compact
from vectorstore.sync.core import Guard, SnapshotMoved, SpaceState, Sync
from vectorstore.sync.expiry import expire
from vectorstore.sync.health import StoreHealth, health
from vectorstore.sync.publish import snapshot, wants_index
from vectorstore.sync.rebuild import Quality, RebuildReport, rebuild, refresh
from vectorstore.sync.repair import RepairReport, repair, sweep, tidy
from vectorstore.sync.reviving import bring_back
from vectorstore.sync.telling import Progress, Telling, after, growing, part, span
from vectorstore.sync.write import Origin, Staged, attach, flush, stage

__all__ = [
    "CheckReport",
    "CompactReport",
    "Finding",
    "Guard",
    "Origin",
    "Progress",
    "Quality",
    "RebuildReport",
    "RepairReport",
    "SnapshotMoved",
    "SpaceState",
    "Staged",
    "StoreHealth",
    "Sync",
    "Telling",
    "after",
    "attach",
    "bring_back",
    "check",
    "compact",
    "expire",
    "flush",
    "growing",
    "health",
    "part",
    "past",
    "rebuild",
    "refresh",
    "repair",
    "snapshot",
    "span",
    "stage",
    "sweep",
    "tidy",
    "wants_index",
]
