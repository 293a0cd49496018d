"""Python values as JSON and back, with their types.

What JSON has stands for itself. Anything else is an object with its type's name under `__type__`:

    {"__type__": "deque", "items": [1, 2], "maxlen": 1000}
    {"__type__": "ndarray", "dtype": "<f4", "shape": [2, 3], "data": "base64"}

A mapping of the caller's that has that key itself, or a key that is no text, is written as pairs
(`{"__type__": "dict", "items": [[key, value], ...]}`), so no data can be mistaken for a tag. A tag that nobody knows,
or whose fields do not fit, is no error: the value comes back as `Opaque`, its place is told, and it is saved again
unchanged.

Types are matched exactly: an OrderedDict that came back as a dict would be a silent loss, so it is refused instead.
"""

from __future__ import annotations

import base64
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np

from vectorstore.errors import Unserialisable, ValidationError
from vectorstore.states.values import NumericArtifact, Opaque, StateType

TAG = "__type__"
ARTIFACT = "NumericVectorArtifact"
"""The name that the source system wrote, so that its files are read and ours can be read by it."""
DEPTH = 100
_PLAIN = (str, bool, int, type(None))
_ARRAYS = frozenset("biufcSUmM")
_JSON_SAFE_INT = 1 << 4096
Walk = Callable[[Any, str], Any]


def dumps(tree: Any) -> bytes:
    """The JSON of a packed value; the same tree gives the same bytes."""
    return json.dumps(tree, separators=(",", ":"), allow_nan=False).encode("ascii")


class Codec:
    """Packs and unpacks values.

    Args:
        types: further types, by tag and class.
        plain: write the vectors of artifacts as lists of numbers, for programs that know nothing of arrays.
    """

    def __init__(self, types: Iterable[StateType] = (), *, plain: bool = False) -> None:
        self._plain = plain
        self._packers: dict[type, Callable[[Any, Walk, str], dict[str, Any]]] = dict(_PACKERS)
        self._unpackers: dict[str, Callable[[Mapping[str, Any], Walk, str], Any]] = dict(_UNPACKERS)
        for own in types:
            if own.tag in self._unpackers or own.type in self._packers or own.type in (*_PLAIN, float, list, dict):
                raise ValidationError(f"types: {own.tag!r} ({own.type.__name__}) is there already")
            self._packers[own.type] = _own_packer(own)
            self._unpackers[own.tag] = _own_unpacker(own)

    # -- in --------------------------------------------------------------------------------------------------------

    def pack(self, value: Any, where: str = "state") -> Any:
        """The value as a tree of what JSON has.

        Raises:
            Unserialisable: a type that the codec does not know, a cycle or too deep a nest; it names the place.
        """
        return self._pack(value, where, 0)

    def _pack(self, value: Any, where: str, depth: int) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            if kind is int and abs(value) >= _JSON_SAFE_INT:
                raise _refused(where, "an integer of more than 4096 bits", value)
            return value
        if depth > DEPTH:
            raise _refused(where, f"nested deeper than {DEPTH}, or holds itself", value)
        if kind is float:
            return value if math.isfinite(value) else {TAG: "float", "value": repr(value)}
        if kind is list:
            return [self._pack(item, f"{where}[{place}]", depth + 1) for place, item in enumerate(value)]
        if kind is dict:
            if TAG not in value and all(type(key) is str for key in value):
                return {key: self._pack(item, f"{where}[{key!r}]", depth + 1) for key, item in value.items()}
            pairs = enumerate(value.items())
            return {TAG: "dict", "items": [self._pair(pair, f"{where}.items[{n}]", depth + 1) for n, pair in pairs]}
        if kind is Opaque:
            return dict(value)
        packer = self._packers.get(kind)
        if packer is None and isinstance(value, np.generic):
            packer = _pack_scalar
        if packer is None and isinstance(value, np.ndarray) and kind is np.ndarray:
            packer = _pack_array
        if packer is None:
            named = f"{kind.__module__}.{kind.__qualname__}"
            hint = "convert it, or pass types=[StateType(...)]"
            raise _refused(where, f"{named} is no type that a state keeps, got {value!r:.60}; {hint}", value)
        if self._plain and kind is NumericArtifact:
            metadata = self._pack(value.metadata, f"{where}.metadata", depth + 1)
            return {
                TAG: ARTIFACT,
                "vector": value.vector.tolist(),
                "dtype": value.vector.dtype.name,
                "metadata": metadata,
            }
        return packer(value, lambda inner, at: self._pack(inner, at, depth + 1), where)

    def _pair(self, pair: tuple[Any, Any], where: str, depth: int) -> list[Any]:
        return [self._pack(pair[0], f"{where} (key)", depth), self._pack(pair[1], where, depth)]

    # -- out -------------------------------------------------------------------------------------------------------

    def unpack(self, tree: Any, where: str = "state") -> tuple[Any, list[str]]:
        """(the value, what was not understood).

        Every entry of the second names a place and a tag; the value there is an `Opaque`.
        """
        problems: list[str] = []

        def walk(item: Any, at: str) -> Any:
            if type(item) is list:
                return [walk(inner, f"{at}[{place}]") for place, inner in enumerate(item)]
            if type(item) is not dict:
                return item
            if TAG not in item:
                return {key: walk(inner, f"{at}[{key!r}]") for key, inner in item.items()}
            tag = item[TAG]
            unpacker = self._unpackers.get(tag) if isinstance(tag, str) else None
            if unpacker is None:
                problems.append(f"{at}: unknown type {tag!r:.60}")
                return Opaque(item)
            known = len(problems)
            try:
                return unpacker(item, walk, at)
            except Exception as error:  # whatever a malformed value, or a caller's own type, leads to
                del problems[known:]
                problems.append(f"{at}: not a {tag}: {type(error).__name__}: {error}")
                return Opaque(item)

        return walk(tree, where), problems


def _refused(where: str, why: str, value: Any) -> Unserialisable:
    return Unserialisable(f"{where}: {why}", field=where, value=value, rule=why)


def is_artifact(tree: Any) -> bool:
    """Whether a packed value is a numeric artifact."""
    return type(tree) is dict and tree.get(TAG) == ARTIFACT


# -- one packer and one unpacker for each type -------------------------------------------------------------------------


def _text(data: bytes | bytearray | memoryview) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _pack_array(value: Any, walk: Walk, where: str) -> dict[str, Any]:
    if value.dtype.kind not in _ARRAYS:
        raise _refused(where, f"an array of {value.dtype} cannot be kept; numbers, texts and times can", value)
    data = np.ascontiguousarray(value).tobytes()
    return {TAG: "ndarray", "dtype": value.dtype.str, "shape": list(value.shape), "data": _text(data)}


def _unpack_array(item: Mapping[str, Any], walk: Walk, where: str) -> Any:
    dtype = np.dtype(item["dtype"])
    if dtype.kind not in _ARRAYS:
        raise ValueError(f"dtype {item['dtype']!r}")
    return np.frombuffer(_bytes(item["data"]), dtype=dtype).reshape(item["shape"]).copy()


def _pack_scalar(value: Any, walk: Walk, where: str) -> dict[str, Any]:
    packed = _pack_array(np.asarray(value), walk, where)
    return {TAG: "scalar", "dtype": packed["dtype"], "data": packed["data"]}


def _unpack_scalar(item: Mapping[str, Any], walk: Walk, where: str) -> Any:
    return _unpack_array({**item, "shape": ()}, walk, where)[()]


def _pack_artifact(value: NumericArtifact, walk: Walk, where: str) -> dict[str, Any]:
    vector = _pack_array(value.vector, walk, where)
    return {TAG: ARTIFACT, "vector": vector, "metadata": walk(value.metadata, f"{where}.metadata")}


def _unpack_artifact(item: Mapping[str, Any], walk: Walk, where: str) -> NumericArtifact:
    vector = walk(item["vector"], f"{where}.vector")
    if "dtype" in item:
        vector = np.array(vector, dtype=item["dtype"])
    return NumericArtifact(vector, walk(item.get("metadata") or {}, f"{where}.metadata"))


def _listed(value: Sequence[Any], walk: Walk, where: str) -> list[Any]:
    return [walk(item, f"{where}[{place}]") for place, item in enumerate(value)]


def _pack_deque(value: deque[Any], walk: Walk, where: str) -> dict[str, Any]:
    return {TAG: "deque", "items": _listed(list(value), walk, where), "maxlen": value.maxlen}


def _unpack_deque(item: Mapping[str, Any], walk: Walk, where: str) -> deque[Any]:
    return deque(_listed(_a_list(item["items"]), walk, where), maxlen=item.get("maxlen"))


def _a_list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise TypeError(f"expected a list, got {value!r:.60}")
    return value


def _pack_set(value: Any, walk: Walk, where: str) -> dict[str, Any]:
    """In order of their JSON: sets of texts have another order in every process."""
    items = sorted((walk(item, f"{where} (element)") for item in value), key=dumps)
    return {TAG: type(value).__name__, "items": items}


def _pack_datetime(value: datetime, walk: Walk, where: str) -> dict[str, Any]:
    packed: dict[str, Any] = {TAG: "datetime", "value": value.isoformat()}
    if isinstance(value.tzinfo, ZoneInfo) and value.tzinfo.key:
        packed["zone"] = value.tzinfo.key
    elif value.tzinfo is UTC:
        packed["zone"] = "+00:00"
    if value.fold:
        packed["fold"] = 1
    return packed


def _unpack_datetime(item: Mapping[str, Any], walk: Walk, where: str) -> datetime:
    found = datetime.fromisoformat(item["value"])
    zone = item.get("zone")
    if zone is not None:
        found = found.replace(tzinfo=UTC if zone == "+00:00" else ZoneInfo(zone))
    return found.replace(fold=item.get("fold", 0))


def _unpack_dict(item: Mapping[str, Any], walk: Walk, where: str) -> dict[Any, Any]:
    pairs = enumerate(_a_list(item["items"]))
    return {walk(key, f"{where}.items[{n}] (key)"): walk(value, f"{where}.items[{n}]") for n, (key, value) in pairs}


def _pack_text(value: Any, walk: Walk, where: str) -> dict[str, Any]:
    if isinstance(value, time) and value.tzinfo is not None and value.utcoffset() is None:
        why = f"a time of day in {value.tzinfo} has no offset without a date; keep a datetime"
        raise _refused(where, why, value)
    return {TAG: type(value).__name__, "value": value.isoformat() if hasattr(value, "isoformat") else str(value)}


def _own_packer(own: StateType) -> Callable[[Any, Walk, str], dict[str, Any]]:
    def pack(value: Any, walk: Walk, where: str) -> dict[str, Any]:
        fields = dict(own.pack(value))
        if TAG in fields or not all(type(key) is str for key in fields):
            raise _refused(where, f"pack of {own.tag} gave keys that are no text, or {TAG!r}", value)
        return {TAG: own.tag, **{key: walk(item, f"{where}.{key}") for key, item in fields.items()}}

    return pack


def _own_unpacker(own: StateType) -> Callable[[Mapping[str, Any], Walk, str], Any]:
    return lambda item, walk, where: own.unpack(
        {key: walk(inner, f"{where}.{key}") for key, inner in item.items() if key != TAG}
    )


_PACKERS: dict[type, Callable[[Any, Walk, str], dict[str, Any]]] = {
    NumericArtifact: _pack_artifact,
    deque: _pack_deque,
    tuple: lambda value, walk, where: {TAG: "tuple", "items": _listed(value, walk, where)},
    set: _pack_set,
    frozenset: _pack_set,
    bytes: lambda value, walk, where: {TAG: "bytes", "data": _text(value)},
    bytearray: lambda value, walk, where: {TAG: "bytearray", "data": _text(value)},
    datetime: _pack_datetime,
    date: _pack_text,
    time: _pack_text,
    timedelta: lambda value, walk, where: {TAG: "timedelta", "value": [value.days, value.seconds, value.microseconds]},
    complex: lambda value, walk, where: {TAG: "complex", "value": [walk(value.real, where), walk(value.imag, where)]},
    Decimal: _pack_text,
    UUID: _pack_text,
}

_UNPACKERS: dict[str, Callable[[Mapping[str, Any], Walk, str], Any]] = {
    ARTIFACT: _unpack_artifact,
    "ndarray": _unpack_array,
    "scalar": _unpack_scalar,
    "deque": _unpack_deque,
    "dict": _unpack_dict,
    "tuple": lambda item, walk, where: tuple(_listed(_a_list(item["items"]), walk, where)),
    "set": lambda item, walk, where: set(_listed(_a_list(item["items"]), walk, where)),
    "frozenset": lambda item, walk, where: frozenset(_listed(_a_list(item["items"]), walk, where)),
    "bytes": lambda item, walk, where: _bytes(item["data"]),
    "bytearray": lambda item, walk, where: bytearray(_bytes(item["data"])),
    "float": lambda item, walk, where: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[item["value"]],
    "datetime": _unpack_datetime,
    "date": lambda item, walk, where: date.fromisoformat(item["value"]),
    "time": lambda item, walk, where: time.fromisoformat(item["value"]),
    "timedelta": lambda item, walk, where: timedelta(*item["value"]),
    "complex": lambda item, walk, where: complex(*(walk(part, where) for part in item["value"])),
    "Decimal": lambda item, walk, where: Decimal(item["value"]),
    "UUID": lambda item, walk, where: UUID(item["value"]),
}
