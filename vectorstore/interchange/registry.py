"""What a soft-logic registry says, as records of ours: concepts, frames, their instances, clusters, fields, analogies.

It lets much through that no record may be: its instances bind what their frames do not have, its qualities may be 7.5,
its analogies may say nothing. What can be kept is kept, in `extra` where no field takes it; the rest is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vectorstore.errors import ValidationError
from vectorstore.ids import check_id, fold, id_part
from vectorstore.interchange.items import NO_VECTORS, Item, Source, Vector
from vectorstore.records.relations import said as digest_of

Fields = Mapping[str, Any]
_TYPES = ("core", "peripheral", "extrathematic")
_ELEMENTS = ("core_elements", "peripheral_elements")
_PROPORTIONS = (("source_a", "a"), ("source_b", "b"), ("target_a", "c"), ("target_b", "d"))


def contents_of(said: Fields, context: str, vectors: Mapping[str, Any], source: Source) -> Iterator[Item]:
    """The items of one registry, what is pointed to first.

    Args:
        said: component ("concepts", "frames", ...) -> its JSON.
        context: where its records belong.
        vectors: of concepts, by the ids that they have there.
        source: counts and notes what is left out.

    Raises:
        ValidationError: a field of a frame or of a semantic field is no list, and should be.
    """
    concepts = _entries(said.get("concepts"), "concepts")
    bound: set[str] = set()
    for name, each in concepts.items():
        record = _concept(name, each, context)
        bound |= {name, record["id"]}
        found = vectors.get(name)
        vector = found if found is None or isinstance(found, Vector) else Vector(found, "pretrained")
        yield Item("concepts", record, 0, "", NO_VECTORS if vector is None else {"text": vector})
    absent = len(vectors.keys() - concepts.keys())
    if absent:
        _count(source, "vectors of concepts that are not there", absent)
    frames = _entries(said.get("frames"), "frames")
    for name, each in frames.items():
        _check_frame(each, f"{source.path}: {context}: frames[{name!r}]")
    yield from _frames(frames, context, source)
    for name, each in _entries(said.get("frames"), "frame_instances").items():
        instance = _instance(name, each, frames, bound, context)
        if instance is None:
            _count(source, "frame instances that do not fit their frame")
        else:
            yield Item("frame_instances", instance, 0)
    for name, each in _entries(said.get("clusters"), "clusters").items():
        yield _cluster(name, each, context)
    for name, each in _entries(said.get("fields"), "semantic_fields").items():
        where = f"{source.path}: {context}: semantic_fields[{name!r}]"
        _check_lists(each, ("core_concepts", "associated_frames"), where)
        yield Item("fields", _field(name, each, context), 0)
    listed = said.get("analogies")
    listed = listed.get("cross_domain_analogies") if isinstance(listed, Mapping) else listed
    for place, each in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(each, Mapping):
            analogy = analogy_of(each, context, f"analogy {place + 1}", source)
            if analogy is not None:
                yield Item("analogies", analogy, 0)


def _entries(said: Any, name: str) -> dict[str, Fields]:
    inside = said.get(name) if isinstance(said, Mapping) else None
    if not isinstance(inside, Mapping):
        return {}
    return {str(key): each for key, each in inside.items() if isinstance(each, Mapping)}


def _check_frame(said: Fields, where: str) -> None:
    if not isinstance(said.get("inherits_from"), str):
        _check_lists(said, ("inherits_from",), where)
    _check_lists(said, (*_ELEMENTS, "lexical_units"), where)
    for name in _ELEMENTS:
        for place, each in enumerate(said.get(name) or ()):
            if isinstance(each, Mapping):
                _check_lists(each, ("semantic_constraints", "typical_fillers"), f"{where}.{name}[{place}]")


def _check_lists(said: Fields, names: Sequence[str], where: str) -> None:
    """Fields that may be lists, objects, whose keys then count, or empty."""
    for name in names:
        found = said.get(name)
        if found and not isinstance(found, list | Mapping):
            raise ValidationError(f"{where}.{name}: expected a list, got {found!r:.80}")


def _count(source: Source, what: str, count: int = 1) -> None:
    source.left_out[what] = source.left_out.get(what, 0) + count


def _id(name: str, *parts: str) -> str:
    """The id that it has there, if it may be one of ours, else one that follows from it."""
    try:
        return check_id(name)
    except ValueError:
        return ":".join(id_part(part) for part in (*parts, name))[:200] + f":{digest_of(*parts, name)}"


def _own(context: str) -> str:
    return context if _id(context) == context else id_part(context)


def time_of(said: Any) -> str | None:
    """A time with its zone; those of SQLite have none and mean UTC."""
    try:
        found = datetime.fromisoformat(said)
    except (TypeError, ValueError):
        return None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).isoformat()


def _base(said: Fields, context: str, taken: Sequence[str]) -> dict[str, Any]:
    """Context, time and tags of a record, and in `extra` what no field of it takes and says something."""
    left = {key: value for key, value in said.items() if key not in taken and value not in (None, "", [], {})}
    metadata = left.pop("metadata", None)
    if isinstance(metadata, Mapping):
        left = {**metadata, **left}
    elif metadata is not None:
        left["metadata"] = metadata
    record: dict[str, Any] = {"context": _own(context), "extra": left}
    tags = left.pop("tags", None)
    if isinstance(tags, list):
        record["tags"] = [tag for tag in dict.fromkeys(map(str, tags)) if 0 < len(tag) <= 255]
    for name in ("created_at", "updated_at"):
        moment = time_of(left.get(name))
        if moment is not None:
            record[name] = moment
            del left[name]
    return record


def _share(value: Any, low: float = 0.0) -> float | None:
    """A number in low..1, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= 1:
        return None
    return float(value)


def _concept(name: str, said: Fields, context: str) -> dict[str, Any]:
    taken = ["unique_id", "name", "context", "synset_id", "disambiguation"]
    roles = said.get("frame_roles")
    record: dict[str, Any] = {"id": _id(str(said.get("unique_id") or name)), "name": str(said.get("name") or name)}
    if isinstance(roles, Mapping) and all(isinstance(role, str) for role in roles.values()):
        taken.append("frame_roles")
        record["roles"] = dict(roles)
    here = said.get("context")
    record |= _base(said, here if isinstance(here, str) and here.strip() else context, taken)
    for field, value in (("synset", said.get("synset_id")), ("disambiguation", said.get("disambiguation"))):
        if isinstance(value, str):
            record[field] = value
    return record


def _frame_id(name: str, context: str) -> str:
    return f"{id_part(_own(context))}:{id_part(name)}"[:255]


def _frames(frames: Mapping[str, Fields], context: str, source: Source) -> Iterator[Item]:
    known = {fold(name) for name in frames}
    for name, said in frames.items():
        taken = ["name", "definition", "core_elements", "peripheral_elements", "lexical_units", "inherits_from"]
        elements = [
            _element(each, type)
            for type in ("core", "peripheral")
            for each in said.get(f"{type}_elements") or ()
        ]  # fmt: skip
        single = {fold(each["name"]): each for each in reversed(elements) if each["name"].strip()}
        record = {
            "id": _frame_id(name, context),
            "name": str(said.get("name") or name),
            "definition": str(said.get("definition") or ""),
            "elements": list(reversed(single.values())),
            "lexical_units": [str(unit) for unit in said.get("lexical_units") or () if str(unit).strip()],
        }
        yield Item("frames", {**record, **_base(said, context, taken)}, 0)
    for name, said in frames.items():
        for parent in _parents(said):
            if fold(parent) not in known or fold(parent) == fold(name):
                _count(source, "relations to frames that are not there")
                continue
            pair = {"source": _frame_id(name, context), "target": _frame_id(parent, context)}
            yield Item("frame_relations", {**pair, "type": "inheritance", "context": _own(context)}, 0)


def _parents(said: Fields) -> list[str]:
    found = said.get("inherits_from") or []
    return [str(each) for each in ([found] if isinstance(found, str) else found)]


def _element(said: Any, type: str) -> dict[str, Any]:
    if not isinstance(said, Mapping):
        return {"name": str(said), "type": type}
    told = str(said.get("element_type") or type).rpartition(".")[2].lower()
    return {
        "name": str(said.get("name") or ""),
        "type": told if told in _TYPES else type,
        "description": str(said.get("description") or ""),
        "constraints": [str(each) for each in said.get("semantic_constraints") or ()],
        "typical_fillers": [str(each) for each in said.get("typical_fillers") or ()],
    }


def _instance(
    name: str, said: Fields, frames: Mapping[str, Fields], bound: set[str], context: str
) -> dict[str, Any] | None:
    """The instance, if it fits: its frame is there, has its elements, and its core is bound to concepts that are."""
    by_name = {fold(each): frame for each, frame in frames.items()}
    frame = by_name.get(fold(str(said.get("frame_name"))))
    bindings = said.get("element_bindings")
    if frame is None or not isinstance(bindings, Mapping) or not all(str(each) in bound for each in bindings.values()):
        return None
    line, met = [frame], {fold(str(said.get("frame_name")))}
    core: set[str] = set()
    every: set[str] = set()
    while line:
        now = line.pop()
        core |= {fold(_element(each, "core")["name"]) for each in now.get("core_elements") or ()}
        every |= {fold(_element(each, "peripheral")["name"]) for each in now.get("peripheral_elements") or ()}
        above = [fold(parent) for parent in _parents(now) if fold(parent) in by_name and fold(parent) not in met]
        met |= set(above)
        line += [by_name[parent] for parent in above]
    given = {fold(str(element)) for element in bindings}
    if not core <= given or not given <= core | every:
        return None
    taken = ["instance_id", "frame_name", "element_bindings", "context", "confidence"]
    here = said.get("context")
    record = _base(said, here if isinstance(here, str) and here.strip() else context, taken)
    record |= {
        "id": _id(str(said.get("instance_id") or name), context),
        "frame": _frame_id(str(said["frame_name"]), context),
    }
    record["bindings"] = {str(element): _id(str(concept)) for element, concept in bindings.items()}
    sure = _share(said.get("confidence"))
    return record if sure is None else {**record, "confidence": sure}


def _cluster(name: str, said: Fields, context: str) -> Item:
    number, members = said.get("cluster_id"), said.get("members")
    record: dict[str, Any] = {
        "id": f"{id_part(_own(context))}:cluster:{id_part(name)}"[:255],
        "name": f"cluster {name}",
    }
    record |= _base(said, context, ["cluster_id", "centroid", "coherence_score"])
    record["size"] = len(members) if isinstance(members, Mapping | list) else 0
    record["coherence"] = _share(said.get("coherence_score"), -1.0)
    if isinstance(number, int) and number >= 0:
        record["number"] = number
    centroid = said.get("centroid")
    return Item("clusters", record, 0, "", {"text": Vector(centroid)} if isinstance(centroid, list) else NO_VECTORS)


def _field(name: str, said: Fields, context: str) -> dict[str, Any]:
    taken = ["name", "description", "coherence", "core_concepts", "related_concepts", "associated_frames"]
    related = said.get("related_concepts")
    record: dict[str, Any] = {
        "id": f"{id_part(_own(context))}:field:{id_part(name)}"[:255],
        "name": str(said.get("name") or name),
    }
    record |= _base(said, context, taken)
    record["description"] = str(said.get("description") or "")
    record["core"] = [_id(str(each)) for each in said.get("core_concepts") or ()]
    record["frames"] = [_frame_id(str(each), context) for each in said.get("associated_frames") or ()]
    record["coherence"] = _share(said.get("coherence"), -1.0)
    if isinstance(related, Mapping):
        shares = {_id(str(each)): _share(share) for each, share in related.items()}
        record["related"] = {each: share for each, share in shares.items() if share is not None}
    return record


# -- analogies ---------------------------------------------------------------------------------------------------------


def analogy_of(said: Fields, context: str, where: str, source: Source) -> dict[str, Any] | None:
    """An analogy in any of the shapes that occur there, or None, counted, where it says nothing.

    Two domains with mappings; `source_pair` and `target_pair`; `source_a`, `source_b`, `target_a`, `target_b`; two
    concepts and how they are related. `context` in one of them is what it is about, not where it belongs.
    """
    terms, taken = _terms(said)
    source_domain, target_domain = (said.get(f"{end}_domain") or None for end in ("source", "target"))
    record: dict[str, Any] = {}
    if isinstance(source_domain, str) and isinstance(target_domain, str):
        record |= {"source_domain": source_domain, "target_domain": target_domain}
        taken += ["source_domain", "target_domain"]
        for name in ("concept_mappings", "frame_mappings"):
            pairs = _pairs(said.get(name))
            if pairs is not None:
                record[name] = pairs
                taken.append(name)
    elif not terms:
        _count(source, "analogies that say nothing")
        return None
    for name in ("structural_coherence", "semantic_coherence", "productivity"):
        share = _share(said.get(name))
        if share is not None:
            record[name] = share
            taken.append(name)
    for name in ("quality_score", "overall_quality", "quality"):
        if "quality" not in record and _share(said.get(name)) is not None:
            record["quality"] = _share(said[name])
            taken.append(name)
        elif said.get(name) is not None and name not in taken:
            source.note(f"{source.path}: {where}: {name}={said[name]!r} is no share of 1; it is kept in extra")
    for name, field in (("context", "setting"), ("reasoning", "reasoning")):
        if isinstance(said.get(name), str):
            record[field] = said[name]
            taken.append(name)
    own = said.get("id")
    parts = [
        repr(sorted((str(key), repr(value)) for key, value in said.items() if key not in ("created_at", "updated_at")))
    ]
    record["id"] = _id(own, context) if isinstance(own, str) and own else f"softlogic:{digest_of(context, *parts)}"
    version = said.get("version")
    if isinstance(version, int) and not isinstance(version, bool) and version >= 0:
        record["version"] = version
        taken.append("version")
    return {**record, **terms, **_base(said, context, [*taken, "id", "type"])}


def _terms(said: Fields) -> tuple[dict[str, str], list[str]]:
    """(a, b, c and d as far as they are named, the keys that name them)."""
    pairs = [said.get(f"{end}_pair") for end in ("source", "target")]
    if all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair) for pair in pairs):
        (a, b), (c, d) = pairs  # type: ignore[misc]  # both are lists of two
        return {"a": a, "b": b, "c": c, "d": d}, ["source_pair", "target_pair"]
    for names in (
        _PROPORTIONS,
        (("source_concept", "a"), ("target_concept", "c")),
        tuple(zip("abcd", "abcd", strict=True)),
    ):
        found = {field: said[name] for name, field in names if isinstance(said.get(name), str) and said[name]}
        if found:
            return found, [name for name, field in names if field in found]
    return {}, []


def _pairs(said: Any) -> list[dict[str, Any]] | None:
    """Mappings as pairs: {source: target}, {source: {target, confidence}} or a list of pairs; None when it is none."""
    if isinstance(said, Mapping):
        listed = [
            {"source": key, **(each if isinstance(each, Mapping) else {"target": each})} for key, each in said.items()
        ]
    elif isinstance(said, list) and all(isinstance(each, Mapping) for each in said):
        listed = [dict(each) for each in said]
    else:
        return None
    for each in listed:
        sure = _share(each.get("confidence", 1.0))
        if each.keys() - {"source", "target", "confidence"} or sure is None:
            return None
        if not all(isinstance(each.get(end), str) and each[end].strip() for end in ("source", "target")):
            return None
    return listed
