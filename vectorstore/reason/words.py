"""Word vectors with gensim's words: `vs.Words(store.concepts).most_similar(...)`.

A face of any collection whose records have names and vectors. What `KeyedVectors` of gensim 4 answers, this answers on
the same vectors: the same words in the same order, scores to float32 rounding. Errors are the store's own, which derive
from the KeyError and ValueError that gensim raises.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vectorstore.collection import Collection
from vectorstore.errors import NotFound, ValidationError
from vectorstore.reason.algebra import Method, unit
from vectorstore.reason.questions import Quadruple, answers, read_questions
from vectorstore.storage.lookups import names_in_space
from vectorstore.storage.spaces import space_by_name
from vectorstore.sync import SnapshotMoved
from vectorstore.vectors import Matrix, Vids, as_unit
from vectorstore.vectors.arrays import lengths

GENSIM_EPSILON = 1e-6
"""What gensim adds below the fraction of 3cosmul; the paper, and `complete`, add 0.001."""

Similar = list[tuple[str, float]]


@dataclass(frozen=True, eq=False)
class _Vocabulary:
    """The words of one commit, in order of arrival; of two with one name the first is meant."""

    seq: int
    vids: Vids
    words: list[str]
    places: dict[str, int]
    unit: Matrix
    lengths: Matrix


class Evaluation(NamedTuple):
    """What `evaluate_analogies` found, as gensim gives it.

    Attributes:
        accuracy: right answers by questions asked, 0..1.
        sections: for each section, and last for "Total accuracy", a dict with `section` (its name), `correct` and
            `incorrect` (lists of four words).
    """

    accuracy: float
    sections: list[dict[str, Any]]


class Words:
    """The named vectors of a collection, asked by name.

    The vectors are held in memory, of length one (4 bytes x words x dimensions); after a commit to the store they are
    read again by the next question, so answers are as fresh as those of a search.
    """

    def __init__(self, collection: Collection[Any], space: str | None = None) -> None:
        """Take the words of a collection, by its first FOLDED field (`name`), and one of its vector spaces."""
        if not collection._table.schema.folded:
            raise ValidationError(f"{collection.name}: has no field that is a name (FOLDED), so it has no words")
        self.collection = collection
        self._space = collection.kind.space_name(space)
        self._lock = threading.Lock()
        self._kept: _Vocabulary | None = None

    def _now(self) -> _Vocabulary:
        sync = self.collection._sync
        with self._lock:
            while True:
                with sync.catalog.read() as connection:
                    seq = sync.catalog.seq(connection)
                    if self._kept is not None and self._kept.seq == seq and not sync.catalog.in_transaction:
                        return self._kept
                    try:
                        live = sync.state(self._space).current(connection)
                    except SnapshotMoved:
                        continue
                    space = space_by_name(connection, self._space)
                    if live is None or space is None:
                        none = np.empty(0, np.float32)
                        return _Vocabulary(seq, np.empty(0, np.int64), [], {}, none.reshape(0, 0), none)
                    vids, words = names_in_space(connection, self.collection._table, space.id)
                places = {word: place for place, word in reversed(list(enumerate(words)))}
                if self._kept is not None and np.array_equal(vids, self._kept.vids):  # a vid's vector never changes
                    known = dataclasses.replace(self._kept, seq=seq, words=words, places=places)
                else:
                    found, vectors = live.vectors_of(vids)
                    order = np.argsort(found)
                    order = order[np.searchsorted(found, vids, sorter=order)]
                    if not np.array_equal(order, np.arange(len(order))):
                        vectors = vectors[order]
                    known = _Vocabulary(seq, vids, words, places, as_unit(vectors), lengths(vectors))
                if not sync.catalog.in_transaction:  # what may yet be rolled back is not kept
                    self._kept = known
                return known

    # -- words and vectors -----------------------------------------------------------------------------------------

    @property
    def index_to_key(self) -> list[str]:
        """All words, in order of arrival (by falling frequency, if they came so)."""
        return list(self._now().words)

    def __len__(self) -> int:
        return len(self._now().words)

    def __contains__(self, word: object) -> bool:
        return word in self._now().places

    def __getitem__(self, word: str) -> Matrix:
        """The (d,) vector of a word, as it was given."""
        known = self._now()
        place = _place(known, word)
        vector: Matrix = known.unit[place] * known.lengths[place]
        return vector

    # -- similarity ------------------------------------------------------------------------------------------------

    def similarity(self, first: str, second: str) -> float:
        """The cosine of two words."""
        known = self._now()
        return float(known.unit[_place(known, first)] @ known.unit[_place(known, second)])

    def distance(self, first: str, second: str) -> float:
        """1 - similarity."""
        return 1 - self.similarity(first, second)

    def n_similarity(self, first: Sequence[str], second: Sequence[str]) -> float:
        """The cosine of the means of two sets of words, whose vectors count as they were given; unknown ones are out.

        Raises:
            ValidationError: a set is empty. NotFound: none of its words is known.
        """
        known = self._now()
        means = []
        for name, words in (("first", first), ("second", second)):
            if not len(words):
                raise ValidationError(f"n_similarity: {name}: expected some words, got none")
            places = [known.places[word] for word in words if word in known.places]
            if not places:
                raise NotFound(f"n_similarity: {name}: none of {list(words)!r} is a word of {self.collection.name}")
            means.append(unit((known.unit[places] * known.lengths[places, None]).mean(axis=0)))
        return float(means[0] @ means[1])

    def distances(self, word: str | npt.ArrayLike, others: Iterable[str] = ()) -> Matrix:
        """(n,) 1 - cosine of a word or vector with other words, or with all words."""
        known = self._now()
        vector = known.unit[_place(known, word)] if isinstance(word, str) else _vector(known, word, "distances: word")
        places = [_place(known, other) for other in others]
        found: Matrix = 1 - (known.unit[places] if places else known.unit) @ vector
        return found

    def closer_than(self, first: str, second: str) -> list[str]:
        """All words that are nearer to the first than the second is, in order of arrival."""
        known = self._now()
        far, place = self.distances(first), _place(known, first)
        return [known.words[at] for at in np.flatnonzero(far < far[_place(known, second)]).tolist() if at != place]

    def rank(self, first: str, second: str) -> int:
        """The place of the second among all words by their distance from the first; 1 for the nearest."""
        return len(self.closer_than(first, second)) + 1

    def doesnt_match(self, words: Iterable[str]) -> str:
        """The word that is farthest from the mean of all of them; unknown ones are left out.

        Raises:
            NotFound: none is known.
        """
        known = self._now()
        wanted = [word for word in words if word in known.places]
        if not wanted:
            raise NotFound(f"doesnt_match: none of the words is one of {self.collection.name}")
        vectors = known.unit[[known.places[word] for word in wanted]]
        return min(zip((vectors @ vectors.mean(axis=0)).tolist(), wanted, strict=True))[1]

    # -- analogies -------------------------------------------------------------------------------------------------

    def most_similar(
        self,
        positive: Any = (),
        negative: Any = (),
        topn: int | None = 10,
        restrict_vocab: int | None = None,
    ) -> Similar | Matrix:
        """(word, cosine) of the words nearest to the mean of the positive minus the negative ones; none of those.

        Args:
            positive: a word, a vector, or a list of them; or of pairs with a weight.
            negative: the same; their weight is -1 unless given.
            topn: how many; None for the (n,) cosines of all words.
            restrict_vocab: only among the first so many words.

        Raises:
            NotFound: a word is unknown. ValidationError: nothing was given.
        """
        known = self._now()
        parts = [*_parts(positive, 1.0), *_parts(negative, -1.0)]
        if not parts:
            raise ValidationError("most_similar: expected at least one word or vector, got none")
        vectors = [weight * _vector(known, part, "most_similar", scaled=False) for part, weight in parts]
        mean = unit(np.sum(vectors, axis=0, dtype=np.float64)).astype(np.float32)
        scores: Matrix = known.unit[: restrict_vocab or None] @ mean
        return scores if topn is None else _nearest(known, scores, [part for part, _ in parts], topn)

    def most_similar_cosmul(
        self,
        positive: Any = (),
        negative: Any = (),
        topn: int | None = 10,
        restrict_vocab: int | None = None,
    ) -> Similar | Matrix:
        """As `most_similar`, by the product of the similarities (cos + 1) / 2 to the positive over the negative ones.

        With two positive and one negative words this is 3CosMul (Levy and Goldberg 2014, equation 4). gensim 4 takes
        `restrict_vocab` here and does nothing with it; this keeps to it.
        """
        known = self._now()
        nearer, farther = [part for part, _ in _parts(positive, 1.0)], [part for part, _ in _parts(negative, 1.0)]
        if not nearer:
            raise ValidationError("most_similar_cosmul: expected at least one positive word or vector, got none")
        rows = known.unit[: restrict_vocab or None]

        def product(parts: Sequence[Any]) -> Any:
            cosines = [rows @ _vector(known, part, "most_similar_cosmul", scaled=False) for part in parts]
            return np.prod([(1 + cosine) / 2 for cosine in cosines], axis=0)

        scores = np.asarray(product(nearer) / (product(farther) + GENSIM_EPSILON))
        return scores if topn is None else _nearest(known, scores, [*nearer, *farther], topn)

    def evaluate_analogies(
        self,
        questions: str | os.PathLike[str] | Iterable[str],
        restrict_vocab: int | None = 300_000,
        case_insensitive: bool = True,
        dummy4unknown: bool = False,
        method: Method = "3cosadd",
    ) -> Evaluation:
        """How many questions "a is to b as c is to ?" the words answer right.

        Args:
            questions: a file in word2vec's format (lines `: section`, then four words a line), or its lines.
            restrict_vocab: questions with a word that is not among the first so many are skipped, and answers come from
                there; None for all words.
            case_insensitive: compare in upper case; of several words that differ in case the first is meant, and none
                of them is an answer to a question that has one.
            dummy4unknown: count questions with unknown words as wrong instead of skipping them.
            method: "3cosadd" as gensim has it; or "3cosmul", or "pair".
        """
        known = self._now()
        words = known.words[:restrict_vocab]
        cased = [word.upper() for word in words] if case_insensitive else words
        places = {word: place for place, word in reversed(list(enumerate(cased)))}
        sections: list[dict[str, Any]] = []
        rows: list[list[int]] = []
        asked: list[tuple[dict[str, Any], Quadruple]] = []
        for name, listed in read_questions(questions):
            section: dict[str, Any] = {"section": name, "correct": [], "incorrect": []}
            sections.append(section)
            for question in listed:
                four: Any = tuple(word.upper() for word in question) if case_insensitive else question
                if all(word in places for word in four):
                    rows.append([places[word] for word in four])
                    asked.append((section, four))
                elif dummy4unknown:
                    section["incorrect"].append(four)
        wanted = np.array(rows, dtype=np.int64).reshape(-1, 4)
        alike = np.array([places[word] for word in cased]) if len(places) < len(cased) else None
        found = answers(known.unit[: len(words)], wanted[:, :3], method, alike)
        for (section, four), place in zip(asked, found.tolist(), strict=True):
            section["correct" if place >= 0 and cased[place] == four[3] else "incorrect"].append(four)
        total: dict[str, Any] = {"section": "Total accuracy"}
        total |= {which: [four for one in sections for four in one[which]] for which in ("correct", "incorrect")}
        right, wrong = len(total["correct"]), len(total["incorrect"])
        return Evaluation(right / (right + wrong) if right + wrong else 0.0, [*sections, total])

    evaluate_word_analogies = evaluate_analogies


def _place(known: _Vocabulary, word: str) -> int:
    try:
        return known.places[word]
    except KeyError:
        raise NotFound(f"no word {word!r}; there are {len(known.words)} words, and capitals matter") from None


def _vector(known: _Vocabulary, part: Any, where: str, scaled: bool = True) -> Matrix:
    """A word's vector of length one; another vector as it is given, or scaled to length one."""
    if isinstance(part, str):
        vector: Matrix = known.unit[_place(known, part)]
        return vector
    vector = np.asarray(part, dtype=np.float32)
    if vector.shape != known.unit.shape[1:] or not np.isfinite(vector).all():
        raise ValidationError(f"{where}: expected {known.unit.shape[1]} finite numbers, got shape {vector.shape}")
    return unit(vector).astype(np.float32) if scaled else vector


def _parts(given: Any, weight: float) -> list[tuple[Any, float]]:
    """(word or vector, weight) of one or many."""
    if isinstance(given, str) or (isinstance(given, np.ndarray) and given.ndim == 1):
        given = [given]
    pairs = [one if isinstance(one, tuple) and len(one) == 2 else (one, weight) for one in given]
    for one, heavy in pairs:
        if isinstance(heavy, str) or not np.isscalar(heavy):
            raise ValidationError(f"expected words, vectors, or pairs with a number as weight, got {(one, heavy)!r}")
    return [(one, float(heavy)) for one, heavy in pairs]


def _nearest(known: _Vocabulary, scores: npt.NDArray[Any], parts: Sequence[Any], topn: int) -> Similar:
    """The best words that were not asked with."""
    topn = max(0, topn)
    hidden = [known.places[part] for part in parts if isinstance(part, str)]
    wanted = min(topn + len(set(hidden)), len(scores))
    if wanted < 1:
        return []
    places = np.argpartition(-scores, wanted - 1)[:wanted]
    places = places[np.lexsort((places, -scores[places]))]
    found = [(known.words[place], float(scores[place])) for place in places.tolist() if place not in hidden]
    return found[:topn]
