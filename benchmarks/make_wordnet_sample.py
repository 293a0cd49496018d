"""The maker of the WordNet sample that ships with the package.

It reads WordNet 3.0's own database files (`data.*`, `index.*` and `cntlist.rev`) from a folder, as the
importer of WordNet does, and writes one gzip file of JSON lines, in order of id. The same folder and size
always give the same bytes: nothing is random and no time is written.

Which synsets are taken, by SemCor tag count (how often the sense was met in running text), ties by id:

1. of each domain its most used synsets, as many as its share of WordNet gives it, but at least a
   thousandth of the sample, so that a filter on a domain can keep a tenth, a hundredth or a thousandth;
2. where a domain has fewer used synsets than its share, the places left over go to the most used
   synsets of all the others.

If a README.md stands beside the output, its table of counts by domain is rewritten between its two marks.

    python benchmarks/make_wordnet_sample.py /usr/share/wordnet
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import hashlib
import io
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from vectorstore.interchange.wordnet import FILES, Synset, read_entries, synsets_of

SAMPLE_SIZE = 12_500
OUTPUT = Path(__file__).resolve().parent.parent / "vectorstore" / "data" / "wordnet-sample.jsonl.gz"

TABLE_MARKS = ("<!-- counts: written by benchmarks/make_wordnet_sample.py -->\n", "<!-- end of counts -->\n")


def main() -> None:
    """Write the sample and say what is in it."""
    parser = argparse.ArgumentParser(description="Make the packaged sample from WordNet 3.0.")
    parser.add_argument("folder", type=Path, help="the folder with data.noun, index.noun, cntlist.rev, ...")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: the packaged file")
    parser.add_argument("--size", type=int, default=SAMPLE_SIZE, help=f"default: {SAMPLE_SIZE:,} synsets")
    arguments = parser.parse_args()
    missing = [name for name in needed_files() if not (arguments.folder / name).is_file()]
    if missing:
        sys.exit(f"{arguments.folder} lacks {', '.join(missing)}; on Debian: apt-get install wordnet-base")

    synsets = list(read_synsets(arguments.folder))
    sample = choose(synsets, arguments.size)
    lines = as_lines(sample)
    packed = pack(lines)
    arguments.output.write_bytes(packed)
    readme = arguments.output.parent / "README.md"
    if readme.is_file():
        readme.write_text(with_counts(readme.read_text(encoding="utf-8"), sample), encoding="utf-8")
    domains = {synset.domain for synset in sample}
    print(f"{len(sample):,} of {len(synsets):,} synsets in {len(domains)} domains")
    print(f"{arguments.output}: {len(packed):,} bytes, sha256 {hashlib.sha256(packed).hexdigest()}")
    print(f"unpacked: {len(lines):,} bytes, sha256 {hashlib.sha256(lines).hexdigest()}")


def needed_files() -> list[str]:
    """The names of the database files that are read."""
    return [f"{kind}.{file}" for kind in ("data", "index") for file in FILES] + ["cntlist.rev"]


def read_synsets(folder: Path) -> Iterator[Synset]:
    """Every synset of the database, file by file in order of offset."""
    database = {file: read_entries(folder / f"data.{file}") for file in FILES}
    return synsets_of(folder, database, "wn30")


def choose(synsets: list[Synset], size: int) -> list[Synset]:
    """The sample, in order of id; see the module's docstring for the rule."""
    domain_sizes = Counter(synset.domain for synset in synsets)
    places = {
        domain: max(size * domain_size // len(synsets), size // 1000) for domain, domain_size in domain_sizes.items()
    }
    chosen: list[Synset] = []
    others: list[Synset] = []
    for synset in sorted(synsets, key=lambda synset: (-(synset.tag_count or 0), synset.id)):
        if (synset.tag_count or 0) > 0 and places[synset.domain] > 0:
            places[synset.domain] -= 1
            chosen.append(synset)
        else:
            others.append(synset)
    return sorted((chosen + others)[:size], key=lambda synset: synset.id)


def as_lines(sample: Iterable[Synset]) -> bytes:
    """JSON lines in UTF-8, with the keys in the order of the fields."""
    return "".join(json.dumps(dataclasses.asdict(synset), ensure_ascii=False) + "\n" for synset in sample).encode()


def pack(lines: bytes) -> bytes:
    """One gzip member, the same for the same lines on every day and under every file name.

    The deflated bytes are zlib's; another deflate library may pack the same lines otherwise.
    """
    # Not gzip.compress: since Python 3.11 its header (byte 9, the system) depends on Python's version.
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as file:
        file.write(lines)
    return packed.getvalue()


def with_counts(readme: str, sample: list[Synset]) -> str:
    """The README with its table of counts by domain made anew."""
    counts = Counter(synset.domain for synset in sample)
    table = "| domain | synsets | of the sample |\n| --- | ---: | ---: |\n"
    for domain, count in counts.most_common():
        table += f"| {domain} | {count:,} | {count / len(sample):.2%} |\n"
    before, _, rest = readme.partition(TABLE_MARKS[0])
    _, end, after = rest.partition(TABLE_MARKS[1])
    if not end:
        raise ValueError(f"README.md lacks the lines {TABLE_MARKS} around its table; put them back")
    return before + TABLE_MARKS[0] + table + TABLE_MARKS[1] + after


if __name__ == "__main__":
    main()
