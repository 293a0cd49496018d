"""A state: named values in memory, and what loading and saving them means wherever they lie.

`State` is a mapping from text to values of any type that `codec.py` knows. Two classes say where it is saved:
`StoreState` in a store, `StateFile` in a file of its own. Both follow the same rules:

- nothing saved: `load` returns False and changes nothing; otherwise it replaces all values at once, or none;
- `save` encodes everything before it writes anything, so that a value that cannot be kept leaves the old save as it is;
- a save that somebody else made since is never overwritten: `StateConflict`, or both are merged.
"""

from __future__ import annotations

import contextlib
import math
import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from vectorstore.errors import CorruptError, StateConflict, Unserialisable, ValidationError
from vectorstore.states import deltas, signals
from vectorstore.states.codec import TAG, Codec
from vectorstore.states.envelope import Cipher, Compression
from vectorstore.states.values import StateType

HISTORY = 1000
_RACES = 20
Tree = dict[str, Any]


@dataclass(frozen=True)
class Saved:
    """What a save did.

    Attributes:
        version: 1, 2, 3, ... in a store; 0 for a file, which has no numbers.
        kind: "full", "delta", or "same" when nothing had changed and nothing was written.
        size: bytes that were written.
        overruled: places that somebody else had changed too; the value saved here stands, theirs is the version before.
        unsearchable: artifacts that cannot be found by their vectors, and why.
    """

    version: int
    kind: str
    size: int
    overruled: tuple[str, ...] = ()
    unsearchable: Mapping[str, str] = field(default_factory=dict)


class Moved(Exception):
    """Somebody else saved between the look and the write."""


class State(MutableMapping[str, Any]):
    """Named values that outlive the process.

    Attributes:
        name: what it is called.
        lock: hold it while you change several values that belong together, if another thread may save meanwhile.
        problems: what the last load did not understand: unknown or malformed types, by place. They are kept as they
            are, and saved again unchanged.
    """

    counted_as = "state"

    def __init__(
        self,
        name: str,
        *,
        types: Iterable[StateType] = (),
        compression: Compression = "auto",
        cipher: Cipher | None = None,
    ) -> None:
        self.name = name
        self.lock = threading.RLock()
        self.problems: tuple[str, ...] = ()
        self._types = tuple(types)
        self._codec = Codec(self._types)
        self._compression = compression
        self._cipher = cipher
        self._values: dict[str, Any] = {}
        self._bounds: dict[str, int] = {}
        self._at: str | None = None
        """Which save the values come from; None before the first load or save."""
        self._tree: Tree | None = None
        """That save, packed: what a delta and a merge start from."""
        self._attempt: tuple[str, Tree, Tree] | None = None
        """The last save that this object began: which one it is once it is there, its tree, and the values then."""

    # -- a mapping -------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if type(name) is not str or name == TAG:
            raise ValidationError(f"{self.name}: expected text other than {TAG!r} as the name of a value, got {name!r}")
        with self.lock:
            self._values[name] = value

    def __delitem__(self, name: str) -> None:
        with self.lock:
            del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {', '.join(self._values)}>"

    # -- histories -------------------------------------------------------------------------------------------------

    def history(self, name: str, maxlen: int | None = None) -> deque[Any]:
        """A value that keeps its newest items only, made if absent; take it anew after each `load`.

        Args:
            name: of the value; a list there becomes a history.
            maxlen: how many items; it stands, whatever a save says that is loaded later. None leaves it to the save,
                and is 1000 for a new history.

        Raises:
            ValidationError: something else has that name.
        """
        if maxlen is not None:
            if isinstance(maxlen, bool) or not isinstance(maxlen, int) or maxlen < 1:
                where = f"{self.name}[{name!r}].maxlen"
                raise ValidationError(f"{where}: expected a whole number from 1 on, got {maxlen!r}")
            self._bounds[name] = maxlen
        with self.lock:
            found = self._values.get(name)
            if found is None:
                self[name] = deque(maxlen=self._bounds.get(name, HISTORY))
            else:
                self[name] = self._bounded(name, found)
            history: deque[Any] = self._values[name]
        return history

    def _bounded(self, name: str, found: Any) -> deque[Any]:
        if isinstance(found, deque):
            bound = self._bounds.get(name, found.maxlen)
            return found if bound == found.maxlen else deque(found, maxlen=bound)
        if isinstance(found, list | tuple):  # written without a type by other programs
            return deque(found, maxlen=self._bounds.get(name, HISTORY))
        raise ValidationError(f"{self.name}[{name!r}]: expected a history, got {type(found).__name__}")

    def statistics(self) -> dict[str, dict[str, Any]]:
        """Type and size of every value; for series of numbers their mean, 0.0 when empty.

        Numbers that are not finite are left out of the mean and counted in `not_finite`.
        """
        with self.lock:
            return {name: _described(value) for name, value in self._values.items()}

    # -- load and save ---------------------------------------------------------------------------------------------

    def load(self, *, fallback: bool = False) -> bool:
        """Replace all values by those of the newest save.

        Args:
            fallback: when that save is damaged, take the newest one before it that is whole.

        Returns:
            False when nothing is saved; the values stay.

        Raises:
            CorruptError: damaged; it is set aside, never overwritten, and the values stay.
            WrongKey, NewerFormat: the values stay.
        """
        found = self._newest(fallback)
        if found is None:
            return False
        with self.lock:
            self._take(*found)
        return True

    def _take(self, at: str | None, tree: Tree) -> None:
        values, problems = self._unpacked(tree)
        # Nothing can fail, or be interrupted by a signal, between these.
        self._values, self.problems, self._at, self._tree = values, problems, at, tree

    def _unpacked(self, tree: Tree) -> tuple[dict[str, Any], tuple[str, ...]]:
        values, problems = {}, []
        for name, item in tree.items():
            values[name], found = self._codec.unpack(item, f"{self.name}[{name!r}]")
            problems += found
        for name, bound in self._bounds.items():
            if name not in values:
                values[name] = deque(maxlen=bound)
            elif isinstance(values[name], deque | list | tuple):
                values[name] = self._bounded(name, values[name])
            else:
                problems.append(f"{self.name}[{name!r}]: expected a history, got {type(values[name]).__name__}")
        return values, tuple(problems)

    def _packed(self) -> Tree:
        """All values as a tree; a thread that changes them meanwhile makes it begin again."""
        for attempt in range(_RACES):
            try:
                return {name: self._codec.pack(item, f"{self.name}[{name!r}]") for name, item in self._values.items()}
            except RuntimeError as error:
                if "during iteration" not in str(error) and "mutated" not in str(error):
                    raise
                if attempt + 1 == _RACES:
                    raise Unserialisable(f"{self.name}: other threads keep changing it; hold state.lock") from error
        raise AssertionError("unreachable")

    def _save(self, merge: bool, label: str | None = None) -> Saved:
        """What `save` does, guarded from signals that would leave it (`signals.py`).

        `lock` is not held while it is written: the store's own lock is taken then, and whoever holds that may want
        this one. Another thread's save of the same object meanwhile is noticed, and this one begins again.
        """
        for _ in range(_RACES):
            with self.lock:
                packed, at, parent = self._packed(), self._at, self._tree
            there = self._there()
            if at != self._at:
                continue
            tree, overruled = packed, list[str]()
            with contextlib.suppress(Moved):
                if there is not None and there != at:
                    if not merge:
                        raise StateConflict(self._conflict())
                    before, parent = parent or {}, self._read(there)
                    tree, overruled = deltas.merge(before, parent, packed)
                if there is not None and label is None and parent is not None and deltas.same(tree, parent):
                    saved = Saved(self._number(there), "same", 0, tuple(overruled))
                    self._done(there, tree, packed)
                    return saved
                return self._write(tree, packed, parent, there, label, tuple(overruled))
        raise StateConflict(f"{self.name}: others kept saving it meanwhile; try again")

    def _done(self, at: str, tree: Tree, packed: Tree) -> None:
        """A save is certain: what was merged in is taken over, beside what was changed here meanwhile."""
        with self.lock:
            if tree is packed or deltas.same(tree, packed):
                self._at, self._tree = at, tree
                return
            now = self._packed()
            self._take(at, tree if deltas.same(now, packed) else deltas.merge(packed, tree, now)[0])
            self._tree = tree

    def _settle(self, token: str | None) -> None:
        """The newest save is this one: if it is the last attempt of this object, it is done.

        It may be there without anybody having said so: another thread's that is about to, an interrupted one's.
        """
        with self.lock:
            if self._attempt is not None and token == self._attempt[0] != self._at:
                self._done(*self._attempt)

    def _conflict(self) -> str:
        done = "was saved before" if self._at is None else "was saved by somebody else since it was loaded"
        return f"{self.name} {done}; nothing was written; save(merge=True) keeps both changes, load() takes theirs"

    # -- where it lies ---------------------------------------------------------------------------------------------

    def save(self, *, merge: bool = False) -> Saved:
        """Save all values, durable when this returns; nothing is written if nothing changed.

        Args:
            merge: when somebody else saved since the load, put both changes together (`deltas.merge`); then the
                values here are those that were saved.

        Raises:
            Unserialisable: a value cannot be kept; it names the place. StateConflict: somebody else saved.
        """
        return guarded_save(self, merge)

    @abstractmethod
    def hold(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else holds the state meanwhile.

        Raises:
            StateBusy: somebody does.
        """

    @abstractmethod
    def _newest(self, fallback: bool) -> tuple[str, Tree] | None:
        """What `load` takes: which save, and its tree."""

    @abstractmethod
    def _there(self) -> str | None:
        """Which save is the newest now; if it is this object's own, it is settled."""

    @abstractmethod
    def _read(self, at: str) -> Tree:
        """The tree of a save."""

    @abstractmethod
    def _number(self, at: str) -> int:
        """The version of a save."""

    @abstractmethod
    def _write(
        self,
        tree: Tree,
        packed: Tree,
        parent: Tree | None,
        there: str | None,
        label: str | None,
        overruled: tuple[str, ...],
    ) -> Saved:
        """Write a tree, if `there` is still the newest save, and call `_settle` once it is certain.

        Raises:
            Moved: it is not.
        """


def _described(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"type": type(value).__name__}
    if hasattr(value, "__len__"):
        found["size"] = len(value)
    if isinstance(value, deque):
        found["maxlen"] = value.maxlen
    if isinstance(value, deque | list | tuple):
        numbers = [item for item in value if isinstance(item, int | float) and not isinstance(item, bool)]
        if len(numbers) == len(value):
            finite = [item for item in numbers if math.isfinite(item)]
            found["mean"] = math.fsum(finite) / len(finite) if finite else 0.0
            if len(finite) < len(numbers):
                found["not_finite"] = len(numbers) - len(finite)
    return found


def members(tree: Any, where: str) -> Tree:
    """The values in an unsealed envelope.

    Raises:
        CorruptError: there are none.
    """
    found = tree.get("state")
    if type(found) is not dict:
        raise CorruptError(f"{where}: holds no state")
    return found


def guarded_save(state: State, merge: bool, label: str | None = None) -> Saved:
    """`State._save`, and then whatever signal came meanwhile."""
    try:
        return state._save(merge, label)
    finally:
        signals.deliver()


signals.guard(State._save)
