"""Stands in for FAISS when this folder comes first on the path: FAISS is not installed, also for child processes."""

raise ImportError("No module named 'faiss' (hidden by the tests)")
