"""What verbs demand of their callers and promise them, checked at the call; and what is noted of each call.

`promises.py` declares the contracts; this module checks them. A verb is wrapped once, when the package is loaded: its
rules are tested before it runs (so a stream refuses a bad argument when it is asked for, not at its first record), its
promises after it. What guards the data itself (records, vectors, filters) is no part of this and cannot be
switched off. Why it is not icontract: docs/adr/0010.
"""

from __future__ import annotations

import functools
import os
import re
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vectorstore.errors import BrokenPromise, ContractViolation, ValidationError
from vectorstore.metrics import Metrics
from vectorstore.telemetry import Doing, Telemetry

SWITCH = "VECTORSTORE_CONTRACTS"
_ABSENT: Any = object()
_SHOWN = 80


@dataclass(frozen=True)
class Rule:
    """What an argument must be: in words, and as a test that never raises."""

    words: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Promise:
    """What a result must be: in words, and as a test of (the object, the arguments by name, the result)."""

    words: str
    holds: Callable[[Any, Callable[..., Any], Any], bool]


@dataclass(frozen=True)
class Verb:
    """The contract of one verb.

    Attributes:
        takes: argument -> rule; an argument that is left out has its default, which is right.
        gives: what is promised of the result.
        writes: afterwards the store's commits must not have gone back.
        counted: whether it is an operation of the metrics.
    """

    takes: Mapping[str, Rule] = field(default_factory=dict)
    gives: tuple[Promise, ...] = ()
    writes: bool = False
    counted: bool = True


class _Busy(threading.local):
    """Whether this thread is inside a verb already."""

    now = False


class Watch:
    """What an open store notes of its verbs."""

    def __init__(self) -> None:
        self.contracts = True
        self.metrics = Metrics()
        self.telemetry: Telemetry | None = None
        self.violated: Callable[[str, str, ContractViolation], None] = lambda verb, kind, error: None
        self.commits: Callable[[], int | None] = lambda: None
        self._highest = 0
        self._busy = _Busy()

    def enter(self) -> bool:
        """Whether this is the outermost verb of the thread; if so, `leave` must follow."""
        if self._busy.now:
            return False
        self._busy.now = True
        return True

    def leave(self) -> None:
        """The outermost verb is done."""
        self._busy.now = False

    def check_commits(self) -> None:
        """The invariant of all writing: the number of commits never falls.

        Raises:
            BrokenPromise: the catalog was put back to an earlier state under the open store.
        """
        before = self._highest  # read first: other threads raise it meanwhile
        seq = self.commits()
        if seq is None:  # in a transaction, which may yet be rolled back
            return
        if seq < before:
            raise BrokenPromise(
                f"seq: expected at least {before}, got {seq}; the catalog was replaced by an older one while the store "
                "was open; close it, look at what is there, and open it again",
                value=seq,
                rule=f"at least {before}",
            )
        self._highest = max(self._highest, seq)


def switched_on(asked: bool | None) -> bool:
    """Whether contracts are checked: as asked, else as the environment says, else yes.

    Raises:
        ValidationError: the environment variable says neither.
    """
    if asked is not None:
        return asked
    told = os.environ.get(SWITCH, "on").lower()
    if told not in ("on", "1", "off", "0"):
        raise ValidationError(f"{SWITCH}: expected on or off, got {told!r}", value=told)
    return told in ("on", "1")


def demand(rules: Mapping[str, Rule], values: Mapping[str, Any]) -> None:
    """Refuse the first value that breaks its rule.

    Raises:
        ContractViolation: with field, value and rule.
    """
    for name, rule in rules.items():
        if not rule.holds(values[name]):
            raise _refusal(name, rule, values[name])


def keep(classes: Iterable[type], verbs: Mapping[str, Verb], but: Container[str]) -> None:
    """Wrap the public methods of classes and of what they derive from, each once; those without an entry are counted.

    Args:
        classes: their instances have a `_sync`, whose `watch` is the store's.
        verbs: "Class.method" -> its contract.
        but: methods that stay as they are.
    """
    for cls in dict.fromkeys(base for each in classes for base in each.__mro__):
        if not cls.__module__.startswith("vectorstore."):
            continue
        for name, function in list(vars(cls).items()):
            plain = hasattr(function, "__code__") and not hasattr(function, "contract")
            if plain and name[0] != "_" and name not in but:
                setattr(cls, name, _kept(name, function, verbs.get(f"{cls.__name__}.{name}", Verb())))


def _kept(name: str, function: Callable[..., Any], verb: Verb) -> Callable[..., Any]:
    """The function, held to its contract."""
    code = function.__code__
    parameters = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    last = code.co_argcount - 1
    strangers = verb.takes.keys() - {*parameters}
    if strangers:
        raise TypeError(f"{function.__qualname__}: the contract names {sorted(strangers)}, which it does not take")
    rules = [(p, n if n < last else 1_000, verb.takes[p]) for n, p in enumerate(parameters) if p in verb.takes]

    def demanded(args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        for parameter, place, rule in rules:
            value = args[place] if place < len(args) else options.get(parameter, _ABSENT)
            if value is not _ABSENT and not rule.holds(value):
                raise _refusal(parameter, rule, value)

    def promised(self: Any, args: tuple[Any, ...], options: Mapping[str, Any], result: Any) -> None:
        asked = {**dict(zip(parameters, args, strict=False)), **options}.get
        for promise in verb.gives:
            if not promise.holds(self, asked, result):
                raise BrokenPromise(
                    f"{name}.result: expected {promise.words}, got {_short(result)}; please report it, and run check()",
                    value=result,
                    rule=promise.words,
                )
        if verb.writes:
            self._sync.watch.check_commits()

    def tell(self: Any, error: ContractViolation, args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        if not error.valued:
            error.value = _value_at(error.field, parameters, args, options)
        error.parameters = parameters
        self._sync.watch.violated(name, _kind(self), error)

    @functools.wraps(function)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        watch: Watch = self._sync.watch
        if not (verb.counted and watch.enter()):  # a verb within a verb
            try:
                if watch.contracts and rules:
                    demanded(args, options)
                return function(self, *args, **options)
            except ContractViolation as error:
                if not verb.counted:
                    tell(self, error, args, options)
                raise
        failure: str | None = None  # its name alone: an error kept here would keep this frame, and all that is in it
        doing: Doing | None = None
        started = time.perf_counter()
        try:
            if watch.telemetry is not None:
                doing = watch.telemetry.begin(_kind(self), name)
            if watch.contracts:
                if rules:
                    demanded(args, options)
                result = function(self, *args, **options)
                if verb.gives or verb.writes:
                    promised(self, args, options, result)
            else:
                result = function(self, *args, **options)
        except ContractViolation as error:
            failure = type(error).__qualname__
            watch.leave()
            tell(self, error, args, options)
            raise
        except BaseException as error:
            failure = type(error).__qualname__
            raise
        finally:
            watch.leave()
            seconds = time.perf_counter() - started
            watch.metrics.note(f"{_kind(self)}.{name}", seconds, failure is not None)
            if doing is not None:
                if failure is None and isinstance(result, Iterator):
                    doing.leave()
                else:
                    doing.end(seconds, failure)
        if isinstance(result, Iterator):
            return _timed(watch.metrics, f"{_kind(self)}.{name}", result, doing, seconds)
        return result

    call.contract = verb  # type: ignore[attr-defined]
    return call


def _refusal(name: str, rule: Rule, value: Any) -> ValidationError:
    message = f"{name}: expected {rule.words}, got {_short(value)}"
    error = ValidationError(message, field=name, value=value, rule=f"expected {rule.words}")
    error.declared = True
    return error


def _kind(owner: Any) -> str:
    """What an object's operations are called after: its kind, or "store", "models", "state"."""
    return getattr(owner, "counted_as", None) or getattr(owner, "name", None) or type(owner).__name__.lower()


def _timed(
    metrics: Metrics, operation: str, stream: Iterator[Any], doing: Doing | None, before: float
) -> Iterator[Any]:
    """The stream, the time of whose making is counted; one that nobody reads is no operation to telemetry."""
    spent = 0.0
    failure: str | None = None
    try:
        while True:
            started = time.perf_counter()
            try:
                each = next(stream)
            except StopIteration:
                return
            except BaseException as error:
                failure = type(error).__qualname__
                raise
            finally:
                spent += time.perf_counter() - started
            yield each
    finally:
        if hasattr(stream, "close"):
            stream.close()
        metrics.note(operation, spent, failure is not None, calls=0)
        if doing is not None:
            doing.end(before + spent, failure)


def _short(value: Any) -> str:
    """What an error shows of a value; big arrays are not written out for it."""
    if hasattr(value, "shape"):
        return f"{type(value).__name__} of shape {value.shape}"
    text = repr(value) if not isinstance(value, list | tuple | dict | set) or len(value) < 20 else type(value).__name__
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _value_at(place: str, parameters: tuple[str, ...], args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    """What the caller put where an error says that something is wrong; as near to it as the path leads.

    The path begins with an argument (`limit`) or with the kind, which stands for the first argument.
    """
    named = {**dict(zip(parameters, args, strict=False)), **options}
    steps = re.findall(r"\w+", place)
    at = next((number for number, step in enumerate(steps) if step in named), None)
    if at is None:
        value, rest = next(iter(named.values()), None), steps[1:]
    else:
        value, rest = named[steps[at]], steps[at + 1 :]
    for step in rest:
        try:
            if step.isdigit():  # one record may have been given as such, and its place is 0
                value = value[int(step)] if isinstance(value, list | tuple) else value
            elif isinstance(value, Mapping):
                value = value[step]
            else:
                value = getattr(value, step)
        except (LookupError, AttributeError, TypeError):
            break
    return value
