"""What the verbs of states demand and promise."""

from __future__ import annotations

from vectorstore.contracts import Rule, Verb
from vectorstore.promises.rules import COUNT, FILTER, FLAG, HITS, NAMED, PATH, TEXT, one_of, or_none, whole

_CIPHER = Rule("a cipher, or None", lambda value: value is None or hasattr(value, "encrypt"))
_PLACE = Rule("a folder, a URL or a target", lambda value: PATH.holds(value) or hasattr(value, "put"))
_VERSION = Rule(
    "a number or a label", lambda value: isinstance(value, int | str) and not isinstance(value, bool) and value != ""
)
_OPEN = {**NAMED, "keep": whole(1), "compression": one_of("auto", "gzip", "none"), "searchable": FLAG}

VERBS: dict[str, Verb] = {
    "Shelves.state": Verb(NAMED, counted=False),
    "States.open": Verb(_OPEN, counted=False),
    "States.list": Verb(),
    "States.drop": Verb(NAMED, COUNT, writes=True),
    "State.history": Verb({**NAMED, "maxlen": or_none(whole(1))}, counted=False),
    "State.statistics": Verb(counted=False),
    "State.load": Verb({"fallback": FLAG}),
    "State.save": Verb({"merge": FLAG}),
    "StoreState.save": Verb({"merge": FLAG, "label": or_none(TEXT)}, writes=True),
    "StoreState.checkpoints": Verb(),
    "StoreState.restore": Verb({"version": _VERSION}, writes=True),
    "StoreState.forget": Verb({"version": _VERSION}, writes=True),
    "StoreState.rekey": Verb({"cipher": _CIPHER}, writes=True),
    "StoreState.search": Verb({"where": FILTER}, HITS),
    "StoreState.at": Verb({"path": TEXT}, counted=False),
    "StoreState.reindex": Verb(writes=True),
    "PortableState.export": Verb({"path": PATH, "plain": FLAG}),
    "PortableState.read": Verb({"path": PATH}),
    "PortableState.push": Verb({"place": _PLACE}),
    "PortableState.pull": Verb({"place": _PLACE, "name": or_none(TEXT)}),
}
