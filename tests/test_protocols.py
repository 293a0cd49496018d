"""Protocols: the real classes are what they say, at run time and in every parameter; a stub that lacks one is not."""

from __future__ import annotations

import inspect
from types import new_class
from typing import Any

import pytest

import vectorstore as vs
from vectorstore.reason import REASONERS

COLLECTION = (vs.Readable, vs.Writable, vs.Searchable, vs.Records)
PROTOCOLS = (*COLLECTION, vs.KnowledgeStore, vs.Embedder)


def members(protocol: Any) -> list[str]:
    own = [base for base in protocol.__mro__ if getattr(base, "_is_protocol", False) and base.__module__ != "typing"]
    plain = {"__init__", "__module__", "__doc__", "__dict__", "__weakref__", "__parameters__", "__orig_bases__"}
    hidden = {"__subclasshook__", "__abstractmethods__", "__annotations__", "__class_getitem__", "__hash__"}
    names = {name for base in own for name in vars(base) if not name.startswith("_abc_") and name[:4] != "_is_"}
    names |= {name for base in own for name in inspect.get_annotations(base)}
    return sorted(names - plain - hidden)


def test_stores_collections_and_embedders_are_what_the_protocols_say() -> None:
    with vs.open(":memory:", embedder="hash:8") as store:
        assert isinstance(store, vs.KnowledgeStore)
        for kind in store.kinds:
            assert all(isinstance(store.collection(kind), protocol) for protocol in COLLECTION)
        for other in (store.models, store.trail, object()):
            assert not isinstance(other, (*COLLECTION, vs.KnowledgeStore, vs.Embedder))
        assert not isinstance(store, vs.Writable) and not isinstance(store.concepts, vs.KnowledgeStore)
    assert isinstance(vs.HashEmbedder(), vs.Embedder)
    assert isinstance(vs.CallableEmbedder(lambda texts: texts, "x", 2), vs.Embedder)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda each: each.__name__)
def test_a_stub_that_lacks_one_method_is_none(protocol: Any) -> None:
    def stub(names: list[str]) -> object:
        return new_class("Stub", (), {}, lambda space: space.update(dict.fromkeys(names, lambda self: None)))()

    assert len(members(protocol)) > 1 and isinstance(stub(members(protocol)), protocol)
    for lacking in members(protocol):
        assert not isinstance(stub([name for name in members(protocol) if name != lacking]), protocol), lacking


@pytest.mark.parametrize("protocol", (*COLLECTION, vs.KnowledgeStore), ids=lambda each: each.__name__)
def test_real_methods_take_all_that_a_protocol_promises(protocol: Any) -> None:
    """By name, kind and place, with a default wherever the protocol has one."""
    classes = [vs.Store] if protocol is vs.KnowledgeStore else [vs.Collection, *REASONERS.values()]
    for cls in classes:
        for name in members(protocol):
            if name.startswith("__"):
                continue
            promised = list(inspect.signature(getattr(protocol, name)).parameters.values())
            real = list(inspect.signature(getattr(cls, name)).parameters.values())
            takes = {each.name: each for each in real}
            if any(each.kind is each.VAR_KEYWORD for each in real):  # hands on what it does not look at
                continue
            for place, each in enumerate(promised):
                own = takes[each.name]
                assert own.kind is each.kind or own.kind is own.POSITIONAL_OR_KEYWORD, (cls, name, each.name)
                assert each.kind is each.KEYWORD_ONLY or real[place].name == each.name, (cls, name, each.name)
                assert (own.default is own.empty) <= (each.default is each.empty), (cls, name, each.name)
            extra = [each for each in real if each.name not in {one.name for one in promised}]
            assert all(each.default is not each.empty for each in extra), (cls, name)
