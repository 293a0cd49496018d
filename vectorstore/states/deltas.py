"""What changed between two packed states, as little as that is; and both sides' changes put together.

A delta is a list of operations, in order:

    ["set", path, value]                    a key of an object, or a place of a list; an empty path is the whole
    ["del", path]                           a key of an object
    ["keys", path, [key, ...]]              the order of an object's keys, where it does not follow from the rest
    ["cut", path, start, count, inserted]   a part of a list, or of a long text (the data of an array is one)

A history that dropped its oldest and took new items is two cuts, however long it is. `apply(old, delta(old, new))` is
`new`, with the keys in the same order. Trees are never changed in place: what did not change is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vectorstore.states.codec import TAG, dumps

Op = list[Any]
_LONG = 256
"""Texts shorter than this are replaced whole."""
_TRIES = 64
"""How many places are tried for where a history's old items go on."""
_MISSING = object()


def delta(old: Any, new: Any) -> list[Op]:
    """The operations that make the new tree of the old one. Cost: one comparison of both."""
    ops: list[Op] = []
    _compare(old, new, [], ops)
    return ops


def _compare(old: Any, new: Any, path: list[str | int], ops: list[Op]) -> None:
    if old is new:
        return
    if type(old) is dict and type(new) is dict and old.get(TAG) == new.get(TAG):
        _compare_objects(old, new, path, ops)
    elif type(old) is list and type(new) is list:
        _compare_lists(old, new, path, ops)
    elif type(old) is str and type(new) is str and min(len(old), len(new)) >= _LONG:
        if old != new:
            head, tail = _same_ends(old, new)
            ops.append(["cut", path, head, len(old) - head - tail, new[head : len(new) - tail]])
    elif not same(old, new):
        ops.append(["set", path, new])


def same(one: Any, other: Any) -> bool:
    """Whether two trees are the same JSON; Python takes 1, 1.0 and True for equal, and the orders of keys too."""
    if type(one) is not type(other):
        return False
    if type(one) is dict:
        return list(one) == list(other) and all(same(item, other[key]) for key, item in one.items())
    if type(one) is list:
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is float:
        return bool(one == other) and str(one) == str(other)  # 0.0 and -0.0
    return bool(one == other)


def _compare_objects(old: dict[str, Any], new: dict[str, Any], path: list[str | int], ops: list[Op]) -> None:
    ops += [["del", [*path, key]] for key in old if key not in new]
    for key, item in new.items():
        if key in old:
            _compare(old[key], item, [*path, key], ops)
        else:
            ops.append(["set", [*path, key], item])
    follows = [key for key in old if key in new] + [key for key in new if key not in old]
    if follows != list(new):
        ops.append(["keys", path, list(new)])


def _compare_lists(old: list[Any], new: list[Any], path: list[str | int], ops: list[Op]) -> None:
    dropped = _dropped(old, new)
    if dropped is not None:
        if dropped:
            ops.append(["cut", path, 0, dropped, []])
        if len(new) > len(old) - dropped:
            ops.append(["cut", path, len(old) - dropped, 0, new[len(old) - dropped :]])
        return
    head, tail = _same_ends(old, new)
    before, after = old[head : len(old) - tail], new[head : len(new) - tail]
    if len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True), head):
            _compare(one, other, [*path, place], ops)
    else:
        ops.append(["cut", path, head, len(before), after])


def _dropped(old: list[Any], new: list[Any]) -> int | None:
    """How many of the oldest items went, if the rest of the old list is what the new one begins with."""
    if not old or not new:
        return None
    tries = 0
    for dropped in range(max(0, len(old) - len(new)), len(old)):
        if same(old[dropped], new[0]):
            if all(map(same, old[dropped:], new)):
                return dropped
            tries += 1
            if tries == _TRIES:
                return None
    return None


def _same_ends(old: Any, new: Any) -> tuple[int, int]:
    """(length of the common beginning, length of the common end of what is left)."""
    limit = min(len(old), len(new))
    if type(old) is list:
        head = next((place for place in range(limit) if not same(old[place], new[place])), limit)
        rest = limit - head
        tail = next((place for place in range(rest) if not same(old[-1 - place], new[-1 - place])), rest)
        return head, tail
    head = _longest(limit, lambda length: old[:length] == new[:length])
    rest = limit - head
    tail = _longest(rest, lambda length: length == 0 or old[-length:] == new[-length:])
    return head, tail


def _longest(limit: int, fits: Callable[[int], bool]) -> int:
    """The greatest length that fits, where every shorter one fits too."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def apply(tree: Any, ops: Sequence[Op]) -> Any:
    """The tree after the operations; the given one stays as it is.

    Raises:
        KeyError, IndexError, TypeError, ValueError: they belong to another tree.
    """
    owned: set[int] = set()
    holder = {"": tree}
    owned.add(id(holder))
    for name, path, *rest in ops:
        parent, key = _reach(holder, ["", *path], owned)
        if name == "set":
            parent[key] = rest[0]
        elif name == "del":
            del parent[key]
        elif name == "keys":
            found = parent[key]
            parent[key] = {wanted: found[wanted] for wanted in rest[0]}
            owned.add(id(parent[key]))
        elif name == "cut":
            start, count, inserted = rest
            found = parent[key]
            if not 0 <= start <= start + count <= len(found):
                raise IndexError(f"cut {start}+{count} of {len(found)} at {path}")
            parent[key] = found[:start] + inserted + found[start + count :]
            owned.add(id(parent[key]))
        else:
            raise ValueError(f"unknown operation {name!r}")
    return holder[""]


def _reach(holder: Any, path: list[Any], owned: set[int]) -> tuple[Any, Any]:
    """The container that the path ends in, copied on the way where it is not ours yet, and the last key.

    An id may outlive its object and be given to another one; but all that is made while operations are applied is ours.
    """
    for key in path[:-1]:
        inner = holder[key]
        if id(inner) not in owned:
            inner = dict(inner) if type(inner) is dict else list(inner)
            holder[key] = inner
            owned.add(id(inner))
        holder = inner
    return holder, path[-1]


# -- three-way merge ---------------------------------------------------------------------------------------------------


def merge(base: Any, theirs: Any, mine: Any) -> tuple[Any, list[str]]:
    """Both sides' changes since the base: (the tree, the places where both changed the same thing and mine stands).

    Objects are merged by key, sets by element, lists and histories by what each side appended, theirs first; a history
    keeps its newest items. A key that one side removed and the other changed stays, changed.
    """
    overruled: list[str] = []
    return _merge(base, theirs, mine, "state", overruled), overruled


def _merge(base: Any, theirs: Any, mine: Any, where: str, overruled: list[str]) -> Any:
    if same(mine, base) or same(mine, theirs):
        return theirs
    if same(theirs, base):
        return mine
    if type(theirs) is dict and type(mine) is dict and theirs.get(TAG) == mine.get(TAG):
        tag = mine.get(TAG)
        before = base if type(base) is dict and base.get(TAG) == tag else {}
        if tag is None:
            return _merge_objects(before, theirs, mine, where, overruled)
        items = [side.get("items", []) for side in (before, theirs, mine)]
        if all(type(each) is list for each in items):
            if tag == "deque":
                both = _appended(*items)
                if both is not None:
                    bound = mine.get("maxlen")
                    return {**mine, "items": both if bound is None else both[max(0, len(both) - bound) :]}
            elif tag in ("set", "frozenset"):
                return {**mine, "items": _merge_sets(*items)}
            elif tag == "dict" and all(type(pair) is list and len(pair) == 2 for each in items for pair in each):
                names = {dumps(key).decode(): key for each in items for key, _ in each}
                keyed = [{dumps(key).decode(): item for key, item in each} for each in items]
                found = _merge_objects(keyed[0], keyed[1], keyed[2], where, overruled)
                return {**mine, "items": [[names[key], item] for key, item in found.items()]}
    elif type(theirs) is list and type(mine) is list:
        both = _appended(base if type(base) is list else [], theirs, mine)
        if both is not None:
            return both
    overruled.append(where)
    return mine


def _merge_objects(
    base: dict[str, Any], theirs: dict[str, Any], mine: dict[str, Any], where: str, overruled: list[str]
) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for key in [*theirs, *(key for key in mine if key not in theirs)]:
        sides = [side.get(key, _MISSING) for side in (base, theirs, mine)]
        if sides[1] is _MISSING or sides[2] is _MISSING:
            there = sides[1] if sides[2] is _MISSING else sides[2]
            if sides[0] is _MISSING or not same(there, sides[0]):
                if sides[0] is not _MISSING:
                    overruled.append(f"{where}[{key!r}]")
                merged[key] = there
            continue
        before = None if sides[0] is _MISSING else sides[0]
        merged[key] = _merge(before, sides[1], sides[2], f"{where}[{key!r}]", overruled)
    return merged


def _appended(base: list[Any], theirs: list[Any], mine: list[Any]) -> list[Any] | None:
    """Their list and what I appended, if both only appended (and dropped their oldest)."""
    news = []
    for side in (theirs, mine):
        dropped = _dropped(base, side) if base else 0
        if dropped is None:
            return None
        news.append(side[len(base) - dropped :])
    return theirs + news[1]


def _merge_sets(base: list[Any], theirs: list[Any], mine: list[Any]) -> list[Any]:
    sides = [{dumps(item): item for item in side} for side in (base, theirs, mine)]
    keep = {**sides[1], **sides[2]}
    gone = {key for key in sides[0] if key not in sides[1] or key not in sides[2]}
    return [keep[key] for key in sorted(keep) if key not in gone]
