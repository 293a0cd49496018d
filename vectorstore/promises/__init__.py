"""The contracts of the public verbs, as tables by family: what each takes, what it gives, whether it writes.

`contracts.keep` puts them around the verbs. An argument that is not listed is checked where it is understood, and
always: records and vectors by `writing.py`, filters by `where.py`, queries by `search/`, options by their own classes.

A new public verb gets a row in the table of its family (or a new module here, named in `TABLES`) and bad inputs in
the module of the same name in `tests/refused/`.
"""

from vectorstore.contracts import Verb
from vectorstore.promises import (
    analogies,
    clusters,
    interchange,
    keeping,
    knowledge,
    lattice,
    memories,
    records,
    states,
    stores,
    work,
)
from vectorstore.promises.stores import OPENING as OPENING

TABLES = (records, stores, keeping, knowledge, analogies, clusters, work, lattice, memories, states, interchange)

VERBS: dict[str, Verb] = {name: verb for table in TABLES for name, verb in table.VERBS.items()}
"""Class.method -> its contract; what a class inherits has the entry of the class that defines it."""

UNCOUNTED = {"transaction", "close", "metrics", "before", "after", "directed", "hold"}
"""Public methods that are no operations: they open and shut, or are asked from inside."""
