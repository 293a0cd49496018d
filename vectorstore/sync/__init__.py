"""Sync: catalog, files and indexes agree, now and after any crash."""

from vectorstore.sync import past
from vectorstore.sync.check import CheckReport, Finding, check
from vectorstore.sync.compact import CompactReport, compact
from vectorstore.sync.core import Guard, Progress, SnapshotMoved, SpaceState, Sync, after, part
from vectorstore.sync.expiry import expire
from vectorstore.sync.health import StoreHealth, health
from vectorstore.sync.publish import snapshot, wants_index
from vectorstore.sync.rebuild import Quality, RebuildReport, rebuild, refresh
from vectorstore.sync.repair import RepairReport, repair, sweep, tidy
from vectorstore.sync.reviving import bring_back
from vectorstore.sync.write import Origin, Staged, attach, ensure_space, flush, stage

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
    "after",
    "attach",
    "bring_back",
    "check",
    "compact",
    "ensure_space",
    "expire",
    "flush",
    "health",
    "part",
    "past",
    "rebuild",
    "refresh",
    "repair",
    "snapshot",
    "stage",
    "sweep",
    "tidy",
    "wants_index",
]
