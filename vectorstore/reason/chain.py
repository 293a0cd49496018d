"""The chain of a form: one signature over everything that was ever said of it, in order.

    signature(n) = SHA-256(signature(n - 1), what was said), its first 128 bits as 32 hexadecimal digits

It begins with the form's state (domain, phase, identities, topology, ...), and each term and each step is a link. So a
signature that was noted down proves all terms, topologies, phases and edges before it: whoever changes one of them has
to change every signature since. It holds no secret, so it proves nothing against somebody who can rewrite the whole
store *and* every note of its signatures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring as _text
from typing import Any

from vectorstore.ids import to_micros
from vectorstore.records import EchoForm, EchoStep, EchoTerm

STATE = ("domain", "phase", "recursive", "topology", "identities")
"""The fields of a form whose change is a step."""

_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False).encode


def link(previous: str, said: Any) -> str:
    """The signature after something that JSON can say."""
    return _hashed(previous, _ENCODE(said))


def _hashed(previous: str, text: str) -> str:
    return hashlib.sha256(f"{previous}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def began(anchor: str, context: str, state: Mapping[str, Any]) -> str:
    """The signature of a form without terms."""
    return link("", ["form", context, anchor, state])


def with_term(previous: str, number: int, symbol: str, role: str, intensity: float, at: int, extra: Any) -> str:
    """The signature after a term; its instant in microseconds."""
    rest = _ENCODE(extra) if extra else "{}"
    # What _ENCODE(["term", ...]) gives, in a quarter of the time.
    return _hashed(previous, f'["term",{number},{_text(symbol)},{_text(role)},{intensity!r},{at},{rest}]')


def with_step(previous: str, number: int, terms: int, phase: str, edge: str | None, value: Any, at: int) -> str:
    """The signature after a step that is not the first; its instant in microseconds."""
    return link(previous, ["step", number, terms, phase, edge, value, at])


def state_of(form: EchoForm) -> dict[str, Any]:
    """What the chain says of a form itself."""
    return {**{name: getattr(form, name) for name in STATE}, "identities": list(form.identities)}


def faults(
    form: EchoForm,
    terms: Sequence[EchoTerm],
    steps: Sequence[EchoStep],
    edges: Mapping[str, Mapping[str, Any]],
    noted: str | None = None,
) -> Iterator[str]:
    """What does not agree with the chain, said once for each thing.

    Args:
        form: as it is stored.
        terms: all of its terms, by number.
        steps: all of its steps, by number.
        edges: edge -> source, target, type and weight, of those that are stored.
        noted: a signature that the form had at some moment.

    Cost: one hash a term and step.
    """
    taken, said = 0, state_of(form)
    linked: dict[str, Any] = {}
    if steps:
        said = steps[0].value
        if steps[0].number != 1 or steps[0].terms or steps[0].edge is not None or steps[0].previous:
            yield f"step {steps[0].number} is no beginning"
    signature = began(form.anchor, form.context, said)
    seen = {signature}
    if steps and steps[0].signature != signature:
        yield "step 1 was changed: its signature does not follow from it"
    for place, step in enumerate(steps[1:], 2):
        signature = over(signature, terms[taken : step.terms], seen)
        taken = max(taken, step.terms)
        if step.number != place or step.previous != signature:
            yield f"step {step.number} does not follow on what came before: a term or a step was changed or removed"
        at = to_micros(step.at)
        signature = with_step(step.previous, step.number, step.terms, step.phase, step.edge, step.value, at)
        if step.signature != signature:
            yield f"step {step.number} was changed: its signature does not follow from it"
        signature = step.signature
        seen.add(signature)
        if step.edge is None:
            said = step.value
        else:
            linked[step.edge] = step.value
    signature = over(signature, terms[taken:], seen)
    if [term.number for term in terms] != list(range(1, form.events + 1)):
        yield f"it has {len(terms)} terms, and {form.events} were added"
    if signature != form.trace_signature:
        yield "its signature does not follow from its terms and steps: one of them, or the form, was changed"
    if noted is not None and noted not in seen:
        yield f"{noted!r} is the signature of no moment of it"
    for name, value in state_of(form).items():
        if said.get(name) != value:
            yield f"{name} is {value!r}, and its last step says {said.get(name)!r}"
    for edge in linked.keys() | edges.keys():
        if linked.get(edge, {}) != edges.get(edge, {}):
            yield f"edge {edge} is {edges.get(edge, {})!r}, and its last step says {linked.get(edge, {})!r}"


def over(signature: str, terms: Iterable[EchoTerm], seen: set[str] | None = None) -> str:
    """The signature after terms, in their order; those on the way are added to `seen`."""
    for term in terms:
        at = to_micros(term.at)
        signature = with_term(signature, term.number, term.symbol, term.role, term.intensity, at, term.extra)
        if seen is not None:
            seen.add(signature)
    return signature
