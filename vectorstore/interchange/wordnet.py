"""WordNet's own database files: synsets become concepts, their pointers relations.

Formats: the manual pages wndb(5), senseidx(5) and cntlist(5). The files `data.noun`, `data.verb`, `data.adj` and
`data.adv` are read, as many as there are; `index.*` give the number in a synset's name ("entity.n.01"), `cntlist.rev`
how often SemCor's texts use it, where they are there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vectorstore.errors import ValidationError
from vectorstore.interchange.items import Item, Source
from vectorstore.interchange.opened import lines_of

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
POINTERS = {
    "!": "antonym", "@": "hypernym", "@i": "instance_hypernym", "~": "hyponym", "~i": "instance_hyponym",
    "#m": "member_holonym", "#s": "substance_holonym", "#p": "part_holonym", "%m": "member_meronym",
    "%s": "substance_meronym", "%p": "part_meronym", "=": "attribute", "+": "derivationally_related",
    ";c": "domain_topic", "-c": "in_domain_topic", ";r": "domain_region", "-r": "in_domain_region",
    ";u": "domain_usage", "-u": "in_domain_usage", "*": "entailment", ">": "cause", "^": "also_see",
    "$": "verb_group", "&": "similar_to", "<": "participle_of", "\\": "pertainym",
}
# fmt: on
"""wndb(5); between adverbs `\\` means that the one is derived from the other, an adjective."""

_ADJECTIVE_MARKER = re.compile(r"\((?:a|p|ip)\)$")
_FIRST_EXAMPLE = re.compile(r';\s*"')
_EXAMPLE = re.compile(r'"([^"]*)"')
_VERSION = re.compile(r"WordNet (\d)\.(\d)")


class Pointer(NamedTuple):
    """From a synset to another; `source` and `target` are numbers of words from 1, 0 where all of them are meant."""

    type: str
    offset: str
    file: str
    source: int
    target: int


@dataclass(frozen=True)
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
    pointers: list[Pointer]


@dataclass(frozen=True)
class Synset:
    """An entry, read: what a concept says of it."""

    id: str
    name: str
    lemmas: list[str]
    synset: str | None
    domain: str
    definition: str
    examples: list[str]
    pos: str
    tag_count: int | None


def read_wordnet(path: Path, kind: str | None = None, relations: bool = True) -> Source:
    """The database in a folder, or the folder of one of its data files.

    Args:
        path: with data.noun and the like.
        kind: must be left out: synsets are concepts.
        relations: also the pointers; those that lead to a synset that is not there are left out and counted.

    Raises:
        ValidationError: it is no such folder, or a line of it is none of WordNet's.

    Memory: all of it, about 300 MB for WordNet 3.0.
    """
    if kind not in (None, "concepts"):
        raise ValidationError(f"{path}: synsets are concepts and pointers relations; leave kind={kind!r} out")
    if not any((path / f"data.{file}").is_file() for file in FILES):
        raise ValidationError(f"{path}: holds no data.noun, data.verb, data.adj or data.adv")
    database = {file: read_entries(path / f"data.{file}") for file in FILES if (path / f"data.{file}").is_file()}
    prefix = _prefix(path)
    source = Source(path, lambda: iter(()), unit="item")
    total = sum(len(entries) for entries in database.values())
    pointers = sum(len(entry.pointers) for entries in database.values() for entry in entries.values())
    source.total = total + pointers * relations

    def items() -> Iterator[Item]:
        place = 0
        for synset in synsets_of(path, database, prefix):
            place += 1
            record = {name: value for name, value in vars(synset).items() if value is not None}
            yield Item("concepts", record, place)
        if relations:
            source.left_out.clear()
            for record in _relations(database, prefix, source):
                place += 1
                yield Item("relations", record, place)

    source.read = items
    return source


def _prefix(folder: Path) -> str:
    """What ids begin with: "wn30" for WordNet 3.0, as its licence, which stands above the data, calls it."""
    for file in FILES:
        if (folder / f"data.{file}").is_file():
            with (folder / f"data.{file}").open("rb") as data:
                found = _VERSION.search(data.read(4096).decode("utf-8", "replace"))
            return f"wn{found[1]}{found[2]}" if found else "wn"
    return "wn"


def _relations(database: dict[str, dict[str, Entry]], prefix: str, source: Source) -> Iterator[dict[str, str]]:
    for file, entries in database.items():
        for entry in entries.values():
            for pointer in dict.fromkeys(entry.pointers):
                target = database.get(pointer.file, {}).get(pointer.offset)
                if target is None:
                    absent = "pointers to synsets that are not there"
                    source.left_out[absent] = source.left_out.get(absent, 0) + 1
                    continue
                record = {
                    "source": f"{prefix}-{entry.offset}-{FILES[file]}",
                    "type": pointer.type,
                    "target": f"{prefix}-{target.offset}-{FILES[pointer.file]}",
                }
                if pointer.source:
                    record["source_lemma"] = _lemma(entry, pointer.source)
                    record["target_lemma"] = _lemma(target, pointer.target)
                yield record


def _lemma(entry: Entry, number: int) -> str:
    if not 0 < number <= len(entry.words):
        raise ValidationError(f"WordNet: the synset {entry.offset} has no word {number}, to which a pointer leads")
    return without_marker(entry.words[number - 1][0]).replace("_", " ")


def synsets_of(folder: Path, database: dict[str, dict[str, Entry]], prefix: str = "wn30") -> Iterator[Synset]:
    """Every synset of the database, file by file in order of offset."""
    counts = folder / "cntlist.rev"
    tag_counts = read_tag_counts(counts) if counts.is_file() else None
    for file, entries in database.items():
        index = folder / f"index.{file}"
        senses = read_index(index) if index.is_file() else {}
        for entry in entries.values():
            head = entries.get(entry.head_offset) if entry.head_offset else None
            definition, examples = split_gloss(entry.gloss)
            words = [without_marker(word) for word, _ in entry.words]
            lemmas = [word.replace("_", " ") for word in words]
            first = words[0].lower()
            known = senses.get(first, [])
            number = known.index(entry.offset) + 1 if entry.offset in known else None
            yield Synset(
                id=f"{prefix}-{entry.offset}-{FILES[file]}",
                name=lemmas[0],
                lemmas=lemmas,
                synset=None if number is None else f"{first}.{entry.type}.{number:02d}",
                domain=DOMAINS[entry.domain_number],
                definition=definition,
                examples=examples,
                pos=PARTS_OF_SPEECH[entry.type],
                tag_count=None if tag_counts is None else sum(tag_counts[key] for key in sense_keys(entry, head)),
            )


def database_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, text) of the lines of a database file without the licence above them, which is set in by two spaces."""
    for number, line in lines_of(path):
        if not line.startswith(b"  "):
            try:
                yield number, line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValidationError(f"{path}:{number}: is not UTF-8: {error}") from None


def read_entries(path: Path) -> dict[str, Entry]:
    """The entries of a data file by their offsets.

    Raises:
        ValidationError: a line is none of WordNet's.
    """
    entries: dict[str, Entry] = {}
    for number, line in database_lines(path):
        try:
            entry = parse_line(line)
        except (ValueError, IndexError, KeyError) as error:
            raise ValidationError(f"{path}:{number}: is no line of a WordNet data file: {error}") from None
        entries[entry.offset] = entry
    return entries


def read_index(path: Path) -> dict[str, list[str]]:
    """Each lemma of one part of speech, in lower case, with its synsets' offsets, first sense first."""
    senses = {}
    for number, line in database_lines(path):
        try:
            lemma, _, synset_count, *rest = line.split()
            senses[lemma] = rest[-int(synset_count) :]
        except ValueError as error:
            raise ValidationError(f"{path}:{number}: is no line of a WordNet index: {error}") from None
    return senses


def read_tag_counts(path: Path) -> Counter[str]:
    """Sense key to SemCor tag count; 0 if never tagged.

    The sense numbers beside them are left unread: they are those of an older order, and 751 of
    35,478 lead to another sense of the word in 3.0's index. The whole key is matched, with the head:
    "last" has six satellites that differ in nothing else, and 109 of its 141 tags belong to one of them.
    """
    counts: Counter[str] = Counter()
    for number, line in database_lines(path):
        try:
            sense_key, _, tag_count = line.split()
            counts[sense_key] = int(tag_count)
        except ValueError as error:
            raise ValidationError(f"{path}:{number}: is no line of a list of counts: {error}") from None
    return counts


def parse_line(line: str) -> Entry:
    """One line of a data file.

    Its fields are: offset, file number, type, word count (hex), that many pairs of word and lexical id (hex),
    pointer count, that many times symbol, offset, part of speech and source/target; then the gloss.

    Raises:
        ValueError, IndexError, KeyError: it is none.
    """
    fields, gloss = line.split(" | ", 1)
    offset, domain_number, synset_type, word_count, *rest = fields.split()
    if not 0 <= int(domain_number) < len(DOMAINS):
        raise ValueError(f"expected a file number in 0..{len(DOMAINS) - 1}, got {domain_number}")
    pointers_start = 2 * int(word_count, 16)
    pairs = zip(rest[0:pointers_start:2], rest[1:pointers_start:2], strict=True)
    count = int(rest[pointers_start])
    if not 0 <= pointers_start < len(rest) - 4 * count or count < 0:
        raise ValueError(f"expected {pointers_start // 2} words and {count} pointers of four fields; it is cut short")
    found = [rest[at : at + 4] for at in range(pointers_start + 1, pointers_start + 1 + 4 * count, 4)]
    pointers = [_pointer(synset_type, *each) for each in found]
    # A satellite's first pointer of similarity leads to the head of its cluster.
    head_offset = next((each.offset for each in pointers if each.type == "similar_to"), "")
    if synset_type == "s" and not head_offset:
        raise ValueError("expected a satellite to have a pointer & to its head, got none")
    entry = Entry(
        offset=offset,
        domain_number=int(domain_number),
        type=synset_type,
        words=[(word, int(lexical_id, 16)) for word, lexical_id in pairs],
        head_offset=head_offset if synset_type == "s" else "",
        gloss=gloss,
        pointers=pointers,
    )
    if not offset.isdigit() or not entry.words or synset_type not in PARTS_OF_SPEECH:
        raise ValueError(f"no synset: {line[:60]!r}")
    return entry


def _pointer(synset_type: str, symbol: str, offset: str, pos: str, between: str) -> Pointer:
    name = "derived_from_adjective" if symbol == "\\" and synset_type == "r" else POINTERS[symbol]
    if pos not in PARTS_OF_SPEECH:
        raise ValueError(f"expected a pointer to one of {', '.join(PARTS_OF_SPEECH)}, got {pos!r}")
    file = next(file for file, letter in FILES.items() if letter == ("a" if pos == "s" else pos))
    return Pointer(name, offset, file, int(between[:2], 16), int(between[2:], 16))


def without_marker(word: str) -> str:
    """An adjective without (a), (p) or (ip), which say where in a sentence it may stand."""
    return _ADJECTIVE_MARKER.sub("", word)


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
    first_example = _FIRST_EXAMPLE.search(gloss)
    if first_example is None:
        return gloss.strip(), []
    return gloss[: first_example.start()].strip(), _EXAMPLE.findall(gloss, first_example.start())
