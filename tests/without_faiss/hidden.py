"""A pytest plugin: the suite as it is on a machine without FAISS (the `faiss.py` beside this is found in its place).

Tests that build an index must fail, and by nothing but LibraryMissing: none is passed over in silence.
"""

from __future__ import annotations

import fnmatch
import sys

import pytest

import vectorstore as vs
from vectorstore.vectors import has_faiss

BUILD_AN_INDEX = (
    "test_search.py::test_exact_search_equals_brute_force[[]indexed-*",
    "test_search.py::test_the_default_search_keeps_its_recall_and_scores_truly",
    "test_search.py::test_filtered_search_is_never_short_and_keeps_recall*",
    "test_search.py::test_a_wide_filter_goes_through_the_index",
    "test_search.py::test_batches_equal_single_searches",
    "test_collection.py::test_purge_waits_for_the_retention_and_erases",
    "test_recipes.py::test_a_recipe_keeps_its_promise_and_ranks_like_brute_force*",
    "test_recipes.py::test_an_index_is_really_used*",
    "test_recipes.py::test_a_filtered_search_is_never_short*",
    "test_recipes.py::test_a_recipe_that_faiss_cannot_build_leaves_the_old_index*",
    "test_recipes.py::test_a_recipe_below_its_minimum_is_refused_with_both_numbers*",
    "test_recipes.py::test_an_index_survives_reopening",
    "test_recipes.py::test_an_inverted_file_is_not_trusted_under_a_filter",
    "test_recipes.py::test_real_queries_get_what_they_ask_for*",
    "test_recipes.py::test_a_filter_that_would_make_an_index_propose_too_much_is_scored_exactly*",
    "test_recipes.py::test_construction_is_applied_kept_with_the_index_and_comes_back*",
    "test_recipes.py::test_more_construction_finds_more",
    "test_oracle.py::test_every_built_in_recipe_makes_an_index_that_can_be_loaded_and_used*",
)
NEEDS_FAISS = pytest.mark.xfail(raises=vs.LibraryMissing, strict=True, reason="builds an index")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name = item.nodeid.removeprefix("tests/")
        if (
            any(fnmatch.fnmatchcase(name, pattern) for pattern in BUILD_AN_INDEX)
            and "exact" not in name.partition("[")[2]
        ):
            item.add_marker(NEEDS_FAISS)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if has_faiss() or "faiss" in sys.modules:
        session.exitstatus = 99
