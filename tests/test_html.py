"""What answers look like in a notebook: what they hold, escaped, and of a size that a notebook bears."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np

import vectorstore as vs
from tests.conftest import clustered
from vectorstore.html import DRAWN, HEIGHT, NAMED, WIDTH, colour, scatter


def cells(html: str) -> list[list[str]]:
    """Rows of a table that is well-formed as XML, too."""
    root = ElementTree.fromstring(html)
    return [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]


def test_hits_and_pages_are_tables_of_their_records(store: vs.Store) -> None:
    store.concepts.add([{"name": "<b>king", "definition": "a & b" + "c" * 300}, {"name": "queen", "domain": "royalty"}])
    hits = store.concepts.search("queen", k=2)
    rows = cells(hits._repr_html_())
    assert rows[0] == ["rank", "score", "id", "record"] and [row[2] for row in rows[1:]] == hits.ids
    assert rows[1] == ["0", f"{hits[0].score:.4f}", "default:queen", "queen · royalty"]
    page = store.concepts.find(limit=1, order="name")
    assert "1 of 2 records, more follow" in page._repr_html_()
    (_, (name, text)) = cells(page._repr_html_())
    assert name == page[0].id and text.startswith("<b>king · a & bccc") and len(text) == 200 and text[-1] == "…"
    assert cells(store.concepts.find({"name": "nobody"})._repr_html_()) == [["id", "record"]]


def test_a_record_without_the_usual_fields_shows_its_texts(store: vs.Store) -> None:
    store.concepts.add([{"name": "king"}, {"name": "man"}])
    store.relations.add({"source": "default:king", "type": "is a", "target": "default:man"})
    (_, (_, text)) = cells(store.relations.find()._repr_html_())
    assert "source: default:king" in text and "target: default:man" in text


def test_a_store_is_a_table_of_its_kinds(place: str) -> None:
    with vs.open(place, embedder="hash:64") as store:
        heads, own = cells(store._repr_html_() or "")  # a new store holds the default context
        assert heads == ["kind", "records", "deleted", "vectors", "dimensions", "index"] and own[:2] == [
            "contexts",
            "1",
        ]
        store.concepts.add([{"name": "king"}, {"name": "queen"}])
        store.concepts.delete("default:king")
        assert ["concepts", "1", "1", "1", "64", ""] in cells(store._repr_html_() or "")
        assert "commit" in (store._repr_html_() or "")
    assert store._repr_html_() is None


def drawn(html: str) -> dict[str, int]:
    """Colour -> points of it in the picture; all of them are inside."""
    found = {}
    for path in ElementTree.fromstring(html.replace("&nbsp;", " ").replace("&ensp;", " ")).iter("path"):
        points = re.findall(r"M(-?\d+) (-?\d+)h0", path.attrib["d"])
        assert all(0 <= int(x) <= WIDTH and 0 <= int(y) <= HEIGHT for x, y in points)
        found[path.attrib["stroke"]] = len(points)
    return found


def test_a_map_is_a_picture_of_its_points(store: vs.Store) -> None:
    names = ["<a>", "b", "c"]
    store.concepts.add(
        [{"id": f"c{n}", "name": f"n{n}", "domain": names[n % 3] if n % 10 else None} for n in range(90)],
        vectors=clustered(90, 64, groups=4),
    )
    store.maps.fit("concepts")
    found = store.maps.get("concepts", "domain")
    html = found._repr_html_()
    counts = np.bincount(found.colours + 1, minlength=4).tolist()
    assert drawn(html) == {colour(place - 1): count for place, count in enumerate(counts) if count}
    assert "&lt;a&gt;" in html and "<a>" not in html and "90 concepts, pca, " in html
    store.concepts.delete([f"c{n}" for n in range(90)])
    assert drawn(store.maps.get("concepts")._repr_html_()) == {}


def test_of_a_large_map_some_points_are_drawn() -> None:
    points = np.random.default_rng(0).standard_normal((50_000, 2)).astype(np.float32)
    html = scatter("many", points, np.arange(50_000, dtype=np.int32) % 40, [f"v{n}" for n in range(40)])
    assert sum(drawn(html).values()) == DRAWN and len(html) < 60_000
    assert f"v{NAMED - 1}" in html and f"v{NAMED}<" not in html and f"and {40 - NAMED} more" in html


def test_points_up_are_up_and_one_point_is_in_the_middle() -> None:
    html = scatter("", np.array([[0, 0], [0, 1]], np.float32), np.array([0, 1], np.int16), ["low", "high"])
    heights = {stroke: int(y) for y, stroke in re.findall(r'<path d="M\d+ (\d+)h0" stroke="(.*?)"', html)}
    assert heights[colour(1)] < heights[colour(0)], "y counts downwards in SVG"
    assert f"M{WIDTH // 2} {HEIGHT // 2}h0" in scatter("", np.ones((1, 2), np.float32), np.zeros(1, np.int16), ["x"])
