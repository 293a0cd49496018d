"""The command line: `vectorstore COMMAND STORE ...`.

A thin door: it turns arguments into calls of the library, and results into tables or JSON. `app.py` holds what all
commands share (options, opening, error class -> exit code), the other modules the commands themselves.
"""

from __future__ import annotations

from vectorstore.cli import (
    demo,
    engines,
    help,
    interchange,
    keeping,
    lattice,
    mcp,
    records,
    searching,
    serving,
    states,
    trail,
    upkeep,
    work,
)
from vectorstore.cli.app import app

for part in (
    demo,
    records,
    searching,
    serving,
    upkeep,
    engines,
    trail,
    work,
    lattice,
    mcp,
    keeping,
    states,
    interchange,
    help,
):
    part.register(app)


def main() -> None:
    """Run the command that the process's arguments name; never returns."""
    app(prog_name="vectorstore")


__all__ = ["app", "main"]
