"""Bad inputs to the verbs of memories, causes, skills, episodes and minds."""

from datetime import datetime

from refused import NAN, Row

MEMORIES, SKILLS = "store.memories", "store.skills"
NAIVE = datetime(2026, 1, 31)

BAD: list[Row] = [
    (MEMORIES, "add", ({"content": "x", "tier": 13},), {}, "memories[0].tier", 13),
    (MEMORIES, "add", ({"content": "x", "importance": NAN},), {}, "memories[0].importance", NAN),
    (MEMORIES, "touch", (5,), {}, "ids", 5),
    (MEMORIES, "touch", ("m",), {"at": NAIVE}, "at", NAIVE),
    (MEMORIES, "level", (True,), {}, "tier", True),
    (MEMORIES, "level", ("Nowhere",), {}, "tier", "Nowhere"),
    (MEMORIES, "in_tier", (0,), {}, "tier", 0),
    (MEMORIES, "in_tier", (4,), {"limit": 0}, "limit", 0),
    (MEMORIES, "forget", (), {"below": 1.5}, "below", 1.5),
    (MEMORIES, "forget", (), {"dry_run": "no"}, "dry_run", "no"),
    (MEMORIES, "promote", (), {"to": 13}, "to", 13),
    (MEMORIES, "recall", ("x",), {"k": 0}, "k", 0),
    (MEMORIES, "recall", ("x",), {"recall": 2}, "recall", 2),
    (MEMORIES, "recall", ("x",), {"tier": 13}, "tier", 13),
    (MEMORIES, "recall", ("x",), {"tier": ["Nowhere"]}, "tier", ["Nowhere"]),
    (MEMORIES, "recall", ("x",), {"salience": 1}, "salience", 1),
    (MEMORIES, "recall", ("x",), {"touch": 1}, "touch", 1),
    (MEMORIES, "recall", ("",), {}, "memories.recall", ...),
    (MEMORIES, "associate", ("x",), {"spread": 2}, "spread", 2),
    (MEMORIES, "associate", ("x",), {"k": 1.0}, "k", 1.0),
    (MEMORIES, "effects", ("m",), {"depth": 0}, "depth", 0),
    (MEMORIES, "causes", (3,), {}, "id", 3),
    (MEMORIES, "causes", ("m",), {"type": 3}, "type", 3),
    (MEMORIES, "paths", ("m", 3), {}, "target", 3),
    (MEMORIES, "paths", ("m",), {"depth": None}, "depth", None),
    ("store.concepts", "paths", ("default:king",), {"limit": 0}, "limit", 0),
    ("store.concepts", "associate", ("x",), {"spread": "far"}, "spread", "far"),
    ("store.causes", "merge", ({"source": "a", "target": "b", "weight": NAN},), {}, "causes[0].weight", NAN),
    ("store.causes", "leaving", (3,), {}, "memory", 3),
    ("store.causes", "reaching", ("m",), {"limit": 0}, "limit", 0),
    ("store.episodes", "of", (3,), {}, "memory", 3),
    ("store.episodes", "statistics", (3,), {}, "where", 3),
    ("store.episodes", "by_trigger", ({"nothing": 1},), {}, "episodes.where.nothing", 1),
    (SKILLS, "add", ({"name": "x", "trigger_pattern": "("},), {}, "skills[0].trigger_pattern", "("),
    (SKILLS, "used", ("s", "yes"), {}, "success", "yes"),
    (SKILLS, "used", ("s", True), {"at": NAIVE}, "at", NAIVE),
    (SKILLS, "leaderboard", ("luck",), {}, "by", "luck"),
    (SKILLS, "leaderboard", (), {"min_uses": -1}, "min_uses", -1),
    (SKILLS, "with_pattern", (3,), {}, "text", 3),
    (SKILLS, "triggered", ("\ud800",), {}, "skills.triggered", ...),
    (SKILLS, "triggered", (b"x",), {}, "text", b"x"),
    ("store.architectures", "ancestors", (3,), {}, "id", 3),
    ("store.architectures", "descendants", ("t",), {"depth": 0}, "depth", 0),
    ("store.architectures", "delete", (), {}, "architectures.delete", None),
    ("store.intelligences", "move", ("i", 3), {}, "status", 3),
]
