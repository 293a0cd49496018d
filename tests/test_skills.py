"""Skills: counted, compared, found by their pattern's letters and by what triggers it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from conftest import Clock

import vectorstore as vs
from vectorstore.errors import ConflictError
from vectorstore.reason.skills import wilson

Opener = Callable[..., vs.Store]
REVIEW = r"review.*code|code.*review"


def test_a_skill_comes_back_as_it_went_in(store: vs.Store, clock: Clock) -> None:
    """4c skill round-trip."""
    given = vs.Skill(
        id="s1",
        name="code_review",
        description="Reads code",
        trigger_pattern=REVIEW,
        success_count=5,
        last_used=clock.now,
    )
    store.skills.add(given)
    found = store.skills.get("s1")
    assert found is not None and found.success_rate == 1.0 and found.uses == 5
    times = {"created_at", "updated_at"}
    assert found.model_dump(exclude=times) == given.model_dump(exclude=times)
    assert store.skills.get("s2") is None


def test_a_use_counts_a_success_or_a_failure_and_when(store: vs.Store, clock: Clock) -> None:
    """4c increment: 5 -> 6 with last_used; O14: failures count too, and time does not go back."""
    store.skills.add({"id": "s", "name": "code_review", "success_count": 5})
    before = store.skills.get("s")
    clock.move(hours=1)
    used = store.skills.used("s", True)
    assert (used.success_count, used.failure_count, used.last_used) == (6, 0, clock.now)
    early = store.skills.used("s", False, at=clock.now - timedelta(days=1))
    assert (early.success_count, early.failure_count, early.last_used) == (6, 1, clock.now)
    assert early == store.skills.get("s") and early.success_rate == pytest.approx(6 / 7)
    counted = {"success_count": 5, "failure_count": 0, "last_used": None}
    assert early.model_copy(update=counted) == before, "nothing else was written"
    assert store.trail.list(limit=1)[0].operation == "use"
    with pytest.raises(vs.NotFound, match="'nobody'"):
        store.skills.used("nobody", True)
    store.skills.delete("s")
    with pytest.raises(vs.NotFound, match="'s'"):
        store.skills.used("s", True)
    assert vs.Skill(name="new").success_rate is None


def test_storing_a_copy_takes_no_count_away(store: vs.Store) -> None:
    """O1, O14: counts only rise while a skill lives."""
    store.skills.add({"id": "s", "name": "code_review", "success_count": 42})
    store.skills.upsert({"id": "s", "name": "code_review", "description": "anew"})
    found = store.skills.get("s")
    assert found is not None and (found.success_count, found.description) == (42, "anew")


def test_a_name_that_is_taken_is_refused_and_nobody_loses_anything(store: vs.Store) -> None:
    """O2: storing a skill whose name exists under another id deletes no other skill."""
    store.skills.add({"id": "s1", "name": "code_review", "success_count": 42})
    for write in (store.skills.add, store.skills.upsert):
        with pytest.raises(ConflictError, match="skills.name: another record has that value"):
            write({"id": "s2", "name": "Code_Review"})
    assert [(skill.id, skill.success_count) for skill in store.skills] == [("s1", 42)]


def test_the_leaderboard_is_by_successes_by_rate_or_by_what_is_certain(store: vs.Store) -> None:
    counts = {"often": (50, 50), "sure": (99, 1), "once": (1, 0), "never": (0, 0), "bad": (0, 9), "twice": (2, 0)}
    store.skills.add([{"id": n, "name": n, "success_count": s, "failure_count": f} for n, (s, f) in counts.items()])

    def board(*args: object, **options: object) -> list[str]:
        return [skill.id for skill in store.skills.leaderboard(*args, **options)]  # type: ignore[arg-type]

    assert board() == ["sure", "often", "twice", "once", "bad"]
    assert board("rate") == ["twice", "once", "sure", "often", "bad"]
    assert board("wilson") == ["sure", "often", "twice", "once", "bad"]
    assert board("rate", min_uses=3, limit=2) == ["sure", "often"]
    assert board(min_uses=0, where={"id__in": ["never", "once"]}) == ["once", "never"]
    with pytest.raises(vs.ValidationError, match="by: expected one of"):
        store.skills.leaderboard("luck")  # type: ignore[arg-type]


@pytest.mark.parametrize(("successes", "failures"), [(1, 0), (10, 0), (99, 1), (50, 50), (8, 2), (3, 400)])
def test_wilsons_bound_solves_wilsons_equation(successes: int, failures: int) -> None:
    """(rate - p)^2 = z^2 p (1 - p) / n, with p below the rate; of 8 in 10 the published bound is 0.490."""
    skill = vs.Skill(name="x", success_count=successes, failure_count=failures)
    low, uses = wilson(skill), successes + failures
    assert (successes / uses - low) ** 2 == pytest.approx(1.959964**2 * low * (1 - low) / uses, rel=1e-5)
    assert 0 < low < successes / uses
    assert wilson(vs.Skill(name="x", success_count=8, failure_count=2)) == pytest.approx(0.490, abs=5e-4)
    assert wilson(vs.Skill(name="x")) == wilson(vs.Skill(name="x", failure_count=7)) == 0


def test_a_pattern_is_looked_for_letter_by_letter_the_most_successful_first(store: vs.Store) -> None:
    """4c by pattern: 10 then 7, and not write_tests; O8: `_` and `%` stand for themselves."""
    store.skills.add(
        [
            {"id": "g", "name": "generate_code", "trigger_pattern": "generate.*code", "success_count": 7},
            {"id": "a", "name": "analyze_code", "trigger_pattern": "analyze.*code", "success_count": 10},
            {"id": "w", "name": "write_tests", "trigger_pattern": "test|spec", "success_count": 3},
            {"id": "u", "name": "under", "trigger_pattern": "a_b"},
            {"id": "p", "name": "percent", "trigger_pattern": "100%"},
            {"id": "n", "name": "none"},
        ]
    )

    def found(text: str) -> list[str]:
        return [skill.id for skill in store.skills.with_pattern(text)]

    assert found("code") == ["a", "g"]
    assert found("_") == ["u"] and found("%") == ["p"] and found(".*") == ["a", "g"]
    assert found("a%e") == found("x") == []
    assert found("") == ["a", "g", "w", "p", "u"]
    assert [skill.id for skill in store.skills.with_pattern("", limit=2)] == ["a", "g"]


def test_a_text_triggers_the_patterns_that_match_in_it_as_python_would_find(store: vs.Store) -> None:
    patterns = [
        REVIEW,
        "(?i)deploy",
        "^write .* tests?$",
        r"\bfix\b",
        "[aeiou]{4}",
        "é+",
        "line\nbreak",
        "(a|ab)(c|bcd)",
    ]
    store.skills.add([{"id": f"s{n}", "name": f"s{n}", "trigger_pattern": p} for n, p in enumerate(patterns)])
    store.skills.add({"name": "never"})
    texts = [
        "please review my code",
        "code? review!",
        "DEPLOY it",
        "write many tests",
        "write many tests now",
        "prefix",
        "fix, please",
        "queueing",
        "canapéé",
        "a line\nbreak here",
        "xabcdx",
        "",
    ]
    for text in texts:
        expected = {f"s{n}" for n, pattern in enumerate(patterns) if re.search(pattern, text)}
        assert {skill.id for skill in store.skills.triggered(text)} == expected
    assert [skill.id for skill in store.skills.triggered("please review my code")] == ["s0"]
    assert store.skills.triggered("code review", where={"success_count__gt": 0}) == []


def test_of_triggered_skills_the_most_successful_comes_first(store: vs.Store) -> None:
    store.skills.add(
        [{"id": f"s{n}", "name": f"s{n}", "trigger_pattern": "code", "success_count": n // 2} for n in range(6)]
    )
    assert [skill.id for skill in store.skills.triggered("code")] == ["s4", "s5", "s2", "s3", "s0", "s1"]
    assert [skill.id for skill in store.skills.triggered("code", limit=1)] == ["s4"]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(unclosed", "missing"),
        (r"(a)\1", "invalid escape"),
        ("(?=ahead)", "invalid perl operator"),
        ("x{2000}", "repetition"),
        ("((((x{100}){100}){100}){100})", "size|large|repetition"),
        ("", "at least 1 characters"),
        (7, "text"),
    ],
)
def test_a_pattern_that_is_none_or_would_be_slow_is_refused(store: vs.Store, pattern: object, said: str) -> None:
    """O7: what cannot be matched in linear time is no pattern."""
    with pytest.raises(vs.ValidationError, match=r"skills\[0\].trigger_pattern: ") as caught:
        store.skills.add({"name": "x", "trigger_pattern": pattern})
    assert re.search(said, str(caught.value))
    assert len(store.skills) == 0


def test_what_takes_exponential_time_elsewhere_is_matched_in_linear_time(store: vs.Store) -> None:
    store.skills.add({"id": "s", "name": "slow", "trigger_pattern": "^(a+)+$"})
    store.skills.add({"id": "t", "name": "slower", "trigger_pattern": "(a|aa)+b"})
    begun = time.perf_counter()
    assert store.skills.triggered("a" * 50_000 + "!") == []
    assert time.perf_counter() - begun < 1, "re.search would need more than the age of the universe"


def test_a_text_that_is_no_text_triggers_nothing_but_an_error(store: vs.Store) -> None:
    store.skills.add({"name": "x", "trigger_pattern": "x"})
    with pytest.raises(vs.ValidationError, match="triggered"):
        store.skills.triggered("\ud800")
