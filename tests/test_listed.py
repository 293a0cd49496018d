"""Lists with an index: they follow their records, are checked and mended, and come to stores that lack them."""

from __future__ import annotations

import random
import sqlite3
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

import vectorstore as vs


class Pair(BaseModel):
    left: str
    right: str | None = None


class Thing(vs.Record, table="things"):
    words: Annotated[tuple[str, ...], vs.FOLDED, vs.LISTED] = ()
    pairs: Annotated[tuple[Pair, ...], vs.Listed("left", "right")] = ()
    friends: Annotated[tuple[str, ...] | None, vs.Listed(ref="things")] = None


class Plain(vs.Record, table="things"):
    words: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()
    friends: tuple[str, ...] | None = None


def test_filters_equal_brute_force_through_changes_deletions_and_restores(place: Path | str) -> None:
    dice = random.Random(3)
    alphabet = ["a", "A", "b", "ß", "SS", "é", "x y", "x  Y", '"', "'", "%", "[1]"]

    def some() -> dict[str, Any]:
        return {
            "words": dice.choices(alphabet, k=dice.randint(0, 4)),
            "pairs": [
                {"left": dice.choice(alphabet), "right": dice.choice([None, *alphabet])}
                for _ in range(dice.randint(0, 2))
            ],
        }

    with vs.open(place, embedder=None, kinds=[Thing]) as store:
        things = store.collection(Thing)
        things.add([{"id": str(n), **some()} for n in range(80)])
        for _ in range(40):
            name = str(dice.randrange(80))
            dice.choice(
                [things.delete, things.restore, lambda name: name in things and things.update({"id": name, **some()})]
            )(name)
        live = list(things)
        folded = {each.id: {word.casefold().replace("  ", " ") for word in each.words} for each in live}
        sides = {each.id: {side for pair in each.pairs for side in (pair.left, pair.right)} for each in live}
        for one in alphabet:
            for two in alphabet:
                key = {one.casefold().replace("  ", " "), two.casefold().replace("  ", " ")}
                for operator, test in (("has_any", key.__and__), ("has_all", key.__le__)):
                    found = [each.id for each in things.find({f"words__{operator}": [one, two]}, limit=1000)]
                    assert found == [each.id for each in live if test(folded[each.id])]
            assert [each.id for each in things.find({"pairs__has": one}, limit=1000)] == [
                each.id for each in live if one in sides[each.id]
            ]
        assert store.check().findings == ()
        things.purge(older_than=timedelta(0))
        assert store.check().findings == ()


def test_what_a_list_points_to_is_there_and_stays() -> None:
    with vs.open(":memory:", embedder=None, kinds=[Thing]) as store:
        things = store.collection(Thing)
        with pytest.raises(vs.ValidationError, match=r"things\[1\].friends: no record of things has the id 'nobody'"):
            things.add([{"id": "a"}, {"id": "b", "friends": ["a", "nobody"]}])
        things.add([{"id": "b", "friends": ["a", "c"]}, {"id": "a"}, {"id": "c", "friends": []}])  # in any order
        things.delete("a")
        with pytest.raises(vs.ConflictError, match="still point to it"):
            things.purge("a")
        with pytest.raises(vs.ValidationError, match="'a' of things is deleted; restore it first"):
            things.add({"id": "d", "friends": ["a"]})
        assert things.find({"friends__isnull": True}).total == 0 and things.find({"friends__has": "a"}).total == 1
        things.update({"id": "b", "friends": None})
        assert things.purge("a") == 1 and store.check().findings == ()


def test_nul_and_wrong_declarations_are_refused() -> None:
    with vs.open(":memory:", embedder=None, kinds=[Thing]) as store:
        for bad in ({"words": ["a\0b"]}, {"pairs": [{"left": "a\0b"}]}):
            with pytest.raises(vs.ValidationError, match="NUL"):
                store.collection(Thing).add(bad)

    class Wrong(vs.Record, table="wrong"):
        number: Annotated[tuple[int, ...], vs.LISTED] = ()

    with pytest.raises(vs.ValidationError, match="LISTED needs a list of texts"):
        vs.open(":memory:", kinds=[Wrong])


@pytest.mark.parametrize(
    "damage", ["DELETE FROM things_pairs WHERE value = 'l5'", "INSERT INTO things_words VALUES ('made up', 5)"]
)
def test_a_list_that_disagrees_is_found_and_made_anew(tmp_path: Path, damage: str) -> None:
    with vs.open(tmp_path / "kb", embedder=None, kinds=[Thing]) as store:
        store.collection(Thing).add([{"words": [f"W{n}"], "pairs": [{"left": f"l{n}"}]} for n in range(10)])
    connection = sqlite3.connect(tmp_path / "kb" / "catalog.sqlite")
    connection.execute(damage)
    connection.commit()
    connection.close()
    with vs.open(tmp_path / "kb", embedder=None, kinds=[Thing]) as store:
        assert {(finding.layer, finding.derived) for finding in store.check().findings} == {("text", True)}
        assert len(store.repair(dry_run=False).actions) == 1
        assert store.check().findings == () and store.collection(Thing).find({"pairs__has": "l5"}).total == 1


def test_a_field_becomes_listed_and_plain_again_when_the_store_is_opened(tmp_path: Path) -> None:
    root = tmp_path / "kb"
    with vs.open(root, embedder=None, kinds=[Plain]) as store:
        store.collection(Plain).add(
            [{"id": str(n), "words": [f"W{n % 3}"], "pairs": [{"left": "x"}]} for n in range(9)]
        )
    with vs.open(root, embedder=None, kinds=[Thing]) as store:
        assert store.collection(Thing).find({"words__has": "w1"}).total == 3 and store.check().findings == ()
    with vs.open(root, embedder=None) as store:  # its class is not at hand
        store["things"].update({"id": "1", "words": ["new"]})
        assert store["things"].find({"words__has": "NEW"}).total == 1 and store.check().findings == ()
    with vs.open(root, embedder=None, kinds=[Plain]) as store:
        store.collection(Plain).delete("1")
        assert store.collection(Plain).purge("1") == 1 and store.check().findings == ()
        assert store.collection(Plain).find({"words__has": "W1"}).total == 2


def test_a_store_of_before_finds_senses_by_their_lemmas(tmp_path: Path) -> None:
    with zipfile.ZipFile(Path(__file__).parent / "fixtures" / "format2.zip") as archive:
        archive.extractall(tmp_path)
    root = next(path for path in tmp_path.iterdir() if path.is_dir())
    with vs.open(root) as store:
        store.concepts.update({"id": "default:word 5", "lemmas": ["five", "Fünf"]})
        assert [each.name for each in store.concepts.senses("FÜNF")] == ["word 5"]
        assert store.check().findings == () and len(store.frames) == 0
