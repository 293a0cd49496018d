"""Names for clusters: the words that set each one's texts apart from the others', by c-TF-IDF.

    weight of word t in cluster c  =  tf(t, c) * ln(1 + A / f(t))

with tf the share of the cluster's words that are t, f how often t comes in all clusters, and A the mean number of words
a cluster (Grootendorst 2022, "BERTopic", section 3.3). Words that nearly every text has weigh little; English function
words are left out altogether, as few clusters cannot tell them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

TERMS = 8
LONGEST = 100
"""Longer runs of letters are sequences, keys and the like; they name nothing."""

_WORD = re.compile(r"[^\W\d_][\w'-]*[^\W_]")


def words(text: str) -> list[str]:
    """Words of two to a hundred letters, case-folded, without English function words."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    found = _WORD.findall(text.casefold())
    return [word for word in found if len(word) <= LONGEST and word not in ENGLISH_STOP_WORDS]


def terms(texts: Sequence[Sequence[str]], count: int = TERMS) -> list[tuple[str, ...]]:
    """The best words of each cluster, best first, ties in alphabetical order.

    Args:
        texts: of each cluster the texts of its members, or of a sample of them.
        count: how many words.
    """
    counts = [Counter(word for text in cluster for word in words(text)) for cluster in texts]
    everywhere: Counter[str] = Counter()
    for found in counts:
        everywhere.update(found)
    mean = everywhere.total() / max(1, len(counts))
    best = []
    for found in counts:
        total = max(1, found.total())
        weights = {word: many / total * math.log(1 + mean / everywhere[word]) for word, many in found.items()}
        best.append(tuple(sorted(weights, key=lambda word: (-weights[word], word))[:count]))
    return best
