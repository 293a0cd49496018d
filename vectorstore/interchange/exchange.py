"""The two doors of a store: `export` and `import_`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from vectorstore.interchange.reports import ExportReport, ImportReport
    from vectorstore.reason.contexts import Contexts
    from vectorstore.sync import Progress, Sync

Rule = Literal["error", "overwrite", "merge", "skip"]


class Exchange:
    """Records out of a store and into it, as files."""

    _sync: Sync
    if TYPE_CHECKING:

        def collection(self, kind: Any) -> Any:
            """The records of a kind; what `Store` has."""

        @property
        def contexts(self) -> Contexts:
            """What `Shelves` has."""

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        kinds: str | Iterable[str] | None = None,
        contexts: str | Iterable[str] | None = None,
        vectors: Literal["given", "all", "none"] = "given",
        deleted: bool = False,
        format: str | None = None,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write live records to a new file, or folder, as of one commit.

            store.export("kb.jsonl.gz")  # everything
            store.export("physics.json", contexts="physics")
            store.export("concepts.parquet", kinds="concepts", vectors="all")
            store.export("tables", format="parquet")  # a folder with a file for each kind

        Args:
            path: new; its end says the format: .jsonl, .json (both also .gz, any number of kinds); .parquet, .arrow
                (.feather, .ipc), .csv (.csv.gz), of one kind each.
            kinds: names of kinds; None for all.
            contexts: only what is in these; their parents' own records come along.
            vectors: "given": those that a caller brought; the others are made again from the texts when they come in.
                "all", or "none".
            deleted: also a line for each deleted record, so that an import with `on_conflict="overwrite"` deletes it
                there, too (jsonl, json).
            format: when the name does not say it; for tables of several kinds, with a folder as path.
            progress: told (records written, records to write).

        Raises:
            FileExistsError: the path is taken. NotFound: no such kind or context. OSError: the disk refused.
            CorruptError: a record or vector is damaged. In all cases nothing is left of it.

        Memory: one page of 512 records with their vectors. Fits of clusters, indexes, blobs and the history of what
        was deleted are not part of it; a backup keeps those.
        """
        from vectorstore.interchange.outgoing import export, kinds_of

        chosen = None if contexts is None else [contexts] if isinstance(contexts, str) else list(contexts)
        known = [] if chosen is None else dict.fromkeys(name for each in chosen for name in self.contexts.chain(each))
        return export(
            self._sync,
            Path(path),
            kinds=kinds_of(self._sync, kinds),
            contexts=chosen,
            known=list(known),
            vectors=vectors,
            deleted=deleted,
            format=format,
            progress=progress,
        )

    def import_(
        self,
        source: Any,
        format: str | None = None,
        *,
        kind: str | None = None,
        context: str | None = None,
        on_conflict: Rule = "error",
        vectors: bool = True,
        progress: Progress | None = None,
        **options: Any,
    ) -> ImportReport:
        """Bring in everything that a file, a folder or a table holds, in one commit: all of it, or nothing.

            store.import_("kb.jsonl.gz")
            store.import_("more.parquet", kind="concepts", on_conflict="merge")
            store.import_("/usr/share/wordnet", "wordnet", relations=True)
            store.import_("vectors.faiss", "faiss", kind="concepts", ids="ids.txt")

        Versions and times that records say are kept. What comes without a vector is embedded, unless the store was
        opened with `embedder=None`; an existing record's vector that the file does not bring stays.

        Args:
            source: a path, or a table (pandas, polars, Arrow) with `kind`.
            format: jsonl, json, parquet, arrow, csv; wordnet, words, faiss, chroma, softlogic. None: as the
                name or the content says.
            kind: of the records, where the file does not say it.
            context: for records that name none.
            on_conflict: what to do with an id that is there. "error": nothing is written. "overwrite": the record is
                replaced. "merge": a field that comes with another value than its default wins, tags are united, `extra`
                key by key. "skip": the record stays. Versions grow; a record that is there just so is left alone.
                Contexts that exist are no conflict; of those somebody described "error" keeps the description.
            vectors: False leaves the vectors of the file out, and embeds texts instead.
            progress: told (items prepared, items in all).
            options: of the format; see `interchange/readers.py`.

        JSON lines are a log: an id may come again, and be deleted; its last word counts. A last line that a crash has
        cut short is left out, and `notes` says so.

        Raises:
            ValidationError: a bad line or row, named. ConflictError: an id or a unique value is taken. NotFound: a kind
                that the store does not have. NewerFormat, SpaceMismatch, CorruptError: as their names say. Nothing was
                written in any case.

        Memory: a chunk of 20,000 records, and the ids of all.
        """
        from vectorstore.interchange.incoming import Wishes, bring_in
        from vectorstore.interchange.readers import read

        found, name = read(source, format, kind, self.collection, options)
        wishes = Wishes(on_conflict, vectors, context, progress)
        return bring_in(self._sync, self.collection, found, name, wishes)
