"""The store beside other embedded vector stores and index libraries, in one run over the same data."""
