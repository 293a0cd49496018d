"""Whole stores, contexts and kinds as files of other formats, out and in; and what other systems left behind, in.

`outgoing.py` writes, the readers turn a file into a `Source` of items, `arrivals.py` brings items into the store.
"""

from vectorstore.interchange.exchange import Exchange

__all__ = ["Exchange"]
