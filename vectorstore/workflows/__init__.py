"""Work that survives: batches that are durable, resumed after a crash, and taken back as a whole."""

from vectorstore.workflows.door import Workflows
from vectorstore.workflows.states import Health, Item, Logged, Workflow
from vectorstore.workflows.workers import Worker

__all__ = ["Health", "Item", "Logged", "Worker", "Workflow", "Workflows"]
