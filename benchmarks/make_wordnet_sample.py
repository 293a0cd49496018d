"""The maker of the WordNet sample that ships with the package.

It reads WordNet 3.0's own database files (`data.*`, `index.*` and `cntlist.rev`; formats: the manual
pages wndb(5), senseidx(5) and cntlist(5)) from a folder and writes one gzip file of JSON lines, in order
of id. The same folder and size always give the same bytes: nothing is random and no time is written.

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
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

SAMPLE_SIZE = 12_500
OUTPUT = Path(__file__).resolve().parent.parent / "vectorstore" / "data" / "wordnet-sample.jsonl.gz"

FILES = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
PARTS_OF_SPEECH = {"n": "noun", "v": "verb", "a": "adjective", "s": "adjective_satellite", "r": "adverb"}
# wndb(5): what a synset's type is called in a sense key; a satellite's also names its head.
SENSE_KEY_TYPES = {"n": 1, "v": 2, "a": 3, "r": 4, "s": 5}
# lexnames(5): a synset's two-digit file number is a position in this list. Debian leaves that file out.
# fmt: off
DOMAINS = [
    "adj.all", "adj.pert", "adv.all", "noun.Tops", "noun.act", "noun.animal", "noun.artifact",
    "noun.attribute", "noun.body", "noun.cognition", "noun.communication", "noun.event", "noun.feeling",
    "noun.food", "noun.group", "noun.location", "noun.motive", "noun.object", "noun.person",
    "noun.phenomenon", "noun.plant", "noun.possession", "noun.process", "noun.quantity",
    "noun.relation", "noun.shape", "noun.state", "noun.substance", "noun.time", "verb.body",
    "verb.change", "verb.cognition", "verb.communication", "verb.competition", "verb.consumption",
    "verb.contact", "verb.creation", "verb.emotion", "verb.motion", "verb.perception",
    "verb.possession", "verb.social", "verb.stative", "verb.weather", "adj.ppl",
]
# fmt: on

ADJECTIVE_MARKER = re.compile(r"\((?:a|p|ip)\)$")
FIRST_EXAMPLE = re.compile(r';\s*"')
EXAMPLE = re.compile(r'"([^"]*)"')
TABLE_MARKS = ("<!-- counts: written by benchmarks/make_wordnet_sample.py -->\n", "<!-- end of counts -->\n")


@dataclasses.dataclass(frozen=True)
class Synset:
    """One line of the sample; the fields are written in this order."""

    id: str
    name: str
    lemmas: list[str]
    synset: str
    domain: str
    definition: str
    examples: list[str]
    pos: str
    tag_count: int


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of a data file: words with their lexical ids, adjectives' markers such as (a) still on.

    head_offset is empty for all but satellites.
    """

    offset: str
    domain_number: int
    type: str
    words: list[tuple[str, int]]
    head_offset: str
    gloss: str


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
    tag_counts = read_tag_counts(folder / "cntlist.rev")
    for file in FILES:
        senses = read_index(folder / f"index.{file}")
        entries = {entry.offset: entry for entry in map(parse_line, database_lines(folder / f"data.{file}"))}
        for entry in entries.values():
            head = entries[entry.head_offset] if entry.head_offset else None
            definition, examples = split_gloss(entry.gloss)
            words = [without_marker(word) for word, _ in entry.words]
            lemmas = [word.replace("_", " ") for word in words]
            first = words[0].lower()
            sense_number = senses[first].index(entry.offset) + 1
            yield Synset(
                id=f"wn30-{entry.offset}-{FILES[file]}",
                name=lemmas[0],
                lemmas=lemmas,
                synset=f"{first}.{entry.type}.{sense_number:02d}",
                domain=DOMAINS[entry.domain_number],
                definition=definition,
                examples=examples,
                pos=PARTS_OF_SPEECH[entry.type],
                tag_count=sum(tag_counts[key] for key in sense_keys(entry, head)),
            )


def database_lines(path: Path) -> Iterator[str]:
    """The lines of a database file without the licence above them, which is set in by two spaces."""
    with path.open(encoding="ascii") as lines:
        yield from (line for line in lines if not line.startswith("  "))


def read_index(path: Path) -> dict[str, list[str]]:
    """Each lemma of one part of speech, in lower case, with its synsets' offsets, first sense first."""
    senses = {}
    for line in database_lines(path):
        lemma, _, synset_count, *rest = line.split()
        senses[lemma] = rest[-int(synset_count) :]
    return senses


def read_tag_counts(path: Path) -> Counter[str]:
    """Sense key to SemCor tag count; 0 if never tagged.

    The sense numbers beside them are left unread: they are those of an older order, and 751 of
    35,478 lead to another sense of the word in 3.0's index. The whole key is matched, with the head:
    "last" has six satellites that differ in nothing else, and 109 of its 141 tags belong to one of them.
    """
    counts: Counter[str] = Counter()
    for line in path.read_text(encoding="ascii").splitlines():
        sense_key, _, tag_count = line.split()
        counts[sense_key] = int(tag_count)
    return counts


def parse_line(line: str) -> Entry:
    """One line of a data file.

    Its fields are: offset, file number, type, word count (hex), that many pairs of word and lexical id (hex),
    pointer count, that many times symbol, offset, part of speech and source/target; then the gloss.
    """
    fields, gloss = line.split(" | ", 1)
    offset, domain_number, synset_type, word_count, *rest = fields.split()
    pointers_start = 2 * int(word_count, 16)
    pairs = zip(rest[0:pointers_start:2], rest[1:pointers_start:2], strict=True)
    # A satellite's first pointer of similarity leads to the head of its cluster.
    head_offset = rest[rest.index("&", pointers_start) + 1] if synset_type == "s" else ""
    return Entry(
        offset=offset,
        domain_number=int(domain_number),
        type=synset_type,
        words=[(word, int(lexical_id, 16)) for word, lexical_id in pairs],
        head_offset=head_offset,
        gloss=gloss,
    )


def without_marker(word: str) -> str:
    """An adjective without (a), (p) or (ip), which say where in a sentence it may stand."""
    return ADJECTIVE_MARKER.sub("", word)


def sense_keys(entry: Entry, head: Entry | None) -> Iterator[str]:
    """The sense key of each word: word%type:file:lexical id:head word:head's lexical id.

    cntlist.rev writes a head word with its marker and the word itself without.
    """
    head_part = f"{head.words[0][0].lower()}:{head.words[0][1]:02d}" if head else ":"
    for word, lexical_id in entry.words:
        sense = f"{SENSE_KEY_TYPES[entry.type]}:{entry.domain_number:02d}:{lexical_id:02d}"
        yield f"{without_marker(word).lower()}%{sense}:{head_part}"


def split_gloss(gloss: str) -> tuple[str, list[str]]:
    """A gloss's definition and its quoted examples; a quotation inside the definition stays there."""
    first_example = FIRST_EXAMPLE.search(gloss)
    if first_example is None:
        return gloss.strip(), []
    return gloss[: first_example.start()].strip(), EXAMPLE.findall(gloss, first_example.start())


def choose(synsets: list[Synset], size: int) -> list[Synset]:
    """The sample, in order of id; see the module's docstring for the rule."""
    domain_sizes = Counter(synset.domain for synset in synsets)
    places = {
        domain: max(size * domain_size // len(synsets), size // 1000) for domain, domain_size in domain_sizes.items()
    }
    chosen: list[Synset] = []
    others: list[Synset] = []
    for synset in sorted(synsets, key=lambda synset: (-synset.tag_count, synset.id)):
        if synset.tag_count > 0 and places[synset.domain] > 0:
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
