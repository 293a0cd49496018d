"""The parts of `analogies.py` that are about texts: systems of terms (SCAN) and short stories (StoryAnalogy)."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

import vectorstore as vs
from vectorstore.reason.algebra import unit
from vectorstore.reason.retrieval import compare, stories

SEED = 0
Accuracy = dict[str, tuple[float, float, float]]
"""Method -> accuracy on all, on the half that weights were chosen on, and on the other."""


def halves(count: int) -> list[np.ndarray]:
    """[all, the half for choosing, the half held back]."""
    order = np.random.default_rng(SEED).permutation(count)
    return [order, order[: count // 2], order[count // 2 :]]


def scan(store: vs.Store, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Terms of two systems mapped: by the cosine of the words alone, and by `analogies.align`."""
    systems: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        systems[row["source"], row["target"]].append(row)
    embedder = store._embedding.embedder
    right: dict[str, list[tuple[int, int]]] = {"cosine of the terms": [], "align": []}
    for (source, target), pairs in systems.items():
        order = np.random.default_rng(SEED).permutation(len(pairs))
        terms, others = [row["source_term"] for row in pairs], [pairs[at]["target_term"] for at in order]
        good = {row["source_term"]: {row["target_term"], *row["alternatives"]} for row in pairs}
        near = unit(embedder.embed(terms)) @ unit(embedder.embed(others)).T
        plain = [(terms[i], others[j]) for i, j in zip(*linear_sum_assignment(near, maximize=True), strict=True)]
        analogy = store.analogies.align(source, terms, target, others)
        found = [(pair.source, pair.target) for pair in analogy.concept_mappings]
        for name, mapping in (("cosine of the terms", plain), ("align", found)):
            right[name].append((sum(y in good[x] for x, y in mapping), len(mapping)))
    parts = halves(len(systems))
    accuracy: Accuracy = {}
    for name, counted in right.items():
        sums = [np.array(counted)[part].sum(axis=0) for part in parts]
        accuracy[name] = tuple(float(good / total) for good, total in sums)  # type: ignore[assignment]
        print("scan", name, accuracy[name], flush=True)
    return {"systems": len(systems), "terms": len(rows), "accuracy": accuracy}


def story_choices(store: vs.Store, questions: list[dict[str, Any]]) -> dict[str, Any]:
    """The choice with the best score of each kind; chance is one in four."""
    told = stories(
        [text for one in questions for text in (one["source"], *one["choices"])], store._embedding.embedder.embed
    )
    wanted = np.array([one["answer"] for one in questions])
    width = len(questions[0]["choices"]) + 1
    matches = [[compare(told[at], told[at + n]) for n in range(1, width)] for at in range(0, len(told), width)]
    terms = {name: np.array([[m.terms[name] for m in row] for row in matches]) for name in matches[0][0].terms}
    texts = list(dict.fromkeys(text for one in questions for text in (one["source"], *one["choices"])))
    whole = dict(zip(texts, unit(store._embedding.embedder.embed(texts)), strict=True))
    scores = {
        "cosine of the texts": np.array(
            [[whole[one["source"]] @ whole[c] for c in one["choices"]] for one in questions]
        ),
        "steps alone (no weights)": terms["relational"],
        "the whole score": np.array([[match.score for match in row] for row in matches]),
    }
    accuracy: Accuracy = {}
    for name, values in scores.items():
        right = values.argmax(axis=1) == wanted
        accuracy[name] = tuple(float(right[part].mean()) for part in halves(len(questions)))  # type: ignore[assignment]
        print("stories", name, accuracy[name], flush=True)
    return {"questions": len(questions), "accuracy": accuracy}


def story_retrieval(store: vs.Store, questions: list[dict[str, Any]], pool: int = 100) -> dict[str, Any]:
    """The analogue of each story among all choices of all questions: by text, and in two stages."""
    texts = list(dict.fromkeys(choice for one in questions for choice in one["choices"]))
    told = dict(zip(texts, stories(texts, store._embedding.embedder.embed), strict=True))
    asked = stories([one["source"] for one in questions], store._embedding.embedder.embed)
    embed = store._embedding.embedder.embed
    whole = unit(embed(texts))
    queries = unit(embed([one["source"] for one in questions]))
    ranks: dict[str, list[float]] = {"text": [], "two stages": []}
    for one, story, query in zip(questions, asked, queries, strict=True):
        near = np.argsort(-(whole @ query), kind="stable")
        first = [texts[at] for at in near]
        second = sorted(first[:pool], key=lambda text: -compare(story, told[text]).score)
        gold = one["choices"][one["answer"]]
        ranks["text"].append(first.index(gold))
        ranks["two stages"].append(second.index(gold) if gold in second else np.inf)
    stages = {}
    for name, found in ranks.items():
        values = np.array(found)
        stages[name] = {f"hit@{k}": float((values < k).mean()) for k in (1, 10)} | {
            "mrr": float((1 / (values + 1)).mean())
        }
        print("retrieval", name, stages[name], flush=True)
    return {"texts": len(texts), "pool": pool, "stages": stages}
