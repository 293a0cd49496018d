"""Storage: SQLite and nothing else. The one door to the catalog."""

from vectorstore.storage import history, pastrows
from vectorstore.storage.catalog import CATALOG, Catalog
from vectorstore.storage.connection import SQLITE_VERSION, Connection, IntegrityError, SqliteError
from vectorstore.storage.declared import declared_kinds
from vectorstore.storage.lock import LOCK
from vectorstore.storage.migrations import FORMAT
from vectorstore.storage.models import Members, ModelRow
from vectorstore.storage.spaces import ArtifactRow, SegmentRow, SpaceRow
from vectorstore.storage.tables import RecordTable
from vectorstore.storage.transaction import Done, Transaction
from vectorstore.storage.unmade import Unmade

__all__ = [
    "CATALOG",
    "FORMAT",
    "LOCK",
    "SQLITE_VERSION",
    "ArtifactRow",
    "Catalog",
    "Connection",
    "Done",
    "IntegrityError",
    "Members",
    "ModelRow",
    "RecordTable",
    "SegmentRow",
    "SpaceRow",
    "SqliteError",
    "Transaction",
    "Unmade",
    "declared_kinds",
    "history",
    "pastrows",
]
