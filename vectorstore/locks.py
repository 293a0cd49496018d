"""Locks of a module, which outlive a fork."""

from __future__ import annotations

import os
import threading


def process_lock() -> threading.Lock:
    """A lock that the child of a fork finds open: the thread of the parent that held it is not there to let it go."""
    lock = threading.Lock()
    os.register_at_fork(after_in_child=lock._at_fork_reinit)  # type: ignore[attr-defined]  # as logging does
    return lock
