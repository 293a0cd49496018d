"""Whether following what records point to leads back to where it began."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence


def cycle_from(
    starts: Iterable[str], successors: Callable[[list[str]], Mapping[str, Sequence[str]]]
) -> list[str] | None:
    """A cycle that can be reached from one of the starts, its first id repeated at the end; None when there is none.

    Args:
        starts: where to begin; whoever added edges gives the sources of these, since every new cycle has one.
        successors: of many ids at once.

    Time O(edges that can be reached), one call of `successors` a step of breadth.
    """
    first = list(dict.fromkeys(starts))
    graph: dict[str, Sequence[str]] = {}
    frontier = first
    while frontier:
        found = successors(frontier)
        graph.update({name: found.get(name, ()) for name in frontier})
        frontier = list(dict.fromkeys(name for after in found.values() for name in after if name not in graph))
    done: set[str] = set()
    for start in first:
        path: dict[str, None] = {}
        stack = [(start, iter(graph[start]))] if start not in done else []
        path.update({start: None} if stack else {})
        while stack:
            name, rest = stack[-1]
            after = next(rest, None)
            if after is None:
                stack.pop()
                path.pop(name)
                done.add(name)
            elif after in path:
                names = list(path)
                return [*names[names.index(after) :], after]
            elif after not in done:
                path[after] = None
                stack.append((after, iter(graph[after])))
    return None
