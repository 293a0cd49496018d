"""What answers look like in a notebook: what they hold, escaped, and of a size that a notebook bears."""

from __future__ import annotations

import re
from pathlib import Path
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


def test_a_record_is_a_table_of_what_it_says(store: vs.Store) -> None:
    store.concepts.add({"name": "<king>", "quality": 0.123456, "tags": ["a", "b"], "colour": "red"})
    record = store.concepts.get("default:<king>")
    assert record is not None
    rows = dict(cells(record._repr_html_())[1:])
    assert rows["name"] == "<king>" and rows["quality"] == "0.1235" and rows["tags"] == "a, b"
    assert rows["colour"] == "red" and rows["updated_at"].startswith("2026-01-31 12:00:00")
    assert "definition" not in rows and "concepts · default:&lt;king&gt; · version 1" in record._repr_html_()
    assert "no id yet" in vs.Relation(source="a", type="is", target="b")._repr_html_()


def test_clusters_and_fits_are_tables(store: vs.Store) -> None:
    store.concepts.add([{"name": f"n{n}"} for n in range(40)], vectors=clustered(40, 64, groups=2))
    fit = store.clusters.fit("concepts", "spherical", 2)
    rows = dict(cells(fit._repr_html_())[1:])
    assert rows["clusters"] == "2" and rows["rows"] == "40" and rows["silhouette"] == f"{fit.silhouette:.4g}"
    assert "version 1 · spherical" in fit._repr_html_()
    cluster = store.clusters.get(fit.clusters[0])
    assert cluster is not None and dict(cells(cluster._repr_html_())[1:])["size"] == str(cluster.size)


def test_a_check_is_one_line_when_all_is_well_and_else_its_findings(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder="hash:64", auto_publish=False) as store:
        store.concepts.add([{"name": f"n{n}"} for n in range(1100)])
        report = store.check()
        assert cells(report._repr_html_()) == [["layer", "where", "what", "mend"]]
        assert "sound: 1101 records, 1100 vectors, 1 segments, 0 indexes agree" in report._repr_html_()
    (segment,) = (tmp_path / "kb" / "embeddings").rglob("*.npz")
    segment.write_bytes(segment.read_bytes()[:-9])
    with vs.open(tmp_path / "kb", embedder="hash:64", auto_publish=False) as store:
        report = store.check()
        rows = cells(report._repr_html_())
        assert len(rows) == 1 + len(report.findings) > 1 and rows[1][2] == report.findings[0].what
        assert f"{len(report.findings)} findings" in report._repr_html_()


def test_a_workflow_is_a_table_of_how_far_it_is(store: vs.Store) -> None:
    made = store.workflows.create("concepts", [{"name": "a"}, {"name": "b", "quality": 7}], policy="lenient")
    assert dict(cells(made._repr_html_())[1:])["processed"] == "0 of 2"
    done = store.workflows.process(made.id)
    rows = dict(cells(done._repr_html_())[1:])
    assert rows["processed"] == "2 of 2" and rows["errors"] == "1" and rows["policy"] == "lenient"
    assert f"create concepts · {made.id} · completed" in done._repr_html_()


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
