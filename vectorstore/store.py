"""Opening, wiring and closing a store; what concerns all kinds at once.

A store is a folder: `catalog.sqlite` is the truth, `embeddings/` holds the vectors that its rows name, `indexes/` what
can be built again. `Store` owns the open parts and hands out one `Collection` for each kind.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast, overload

from vectorstore.collection import Collection
from vectorstore.contracts import demand, keep, switched_on
from vectorstore.embedders import as_embedder
from vectorstore.embedding import OWN, Embedding
from vectorstore.errors import NotFound, StoreClosed, StoreError
from vectorstore.files import as_path
from vectorstore.ids import Clock, utc_now
from vectorstore.interchange import Exchange
from vectorstore.keeping import Keeping, Snapshots
from vectorstore.maintenance import Maintainer, as_html, statistics
from vectorstore.metrics import Operation
from vectorstore.opening import declare, metrics_of, mirror_of
from vectorstore.promises import OPENING, UNCOUNTED, VERBS
from vectorstore.proving import Proving
from vectorstore.reason import REASONERS, Maps, Models, Shelves, collection_of
from vectorstore.recipes import DEFAULT, Auto, IndexRecipe, as_recipe
from vectorstore.records import BUILTIN, Context, Record
from vectorstore.records.record import check_tokenizer
from vectorstore.remotes import Remotes, engines_of, served_by
from vectorstore.search.across import SearchAcross
from vectorstore.states import StateFile, States, StoreState
from vectorstore.storage import Catalog, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.sync import (
    CompactReport,
    Progress,
    RebuildReport,
    StoreHealth,
    Sync,
    compact,
    flush,
    health,
    part,
    rebuild,
    tidy,
)
from vectorstore.sync.erasing import Eraser
from vectorstore.telemetry import Telemetry
from vectorstore.telemetry import wanted as wanted_telemetry
from vectorstore.trail import Trail, actor_of
from vectorstore.workflows import Workflows

R = TypeVar("R", bound=Record)
Event = Literal["commit", "publish", "rebuild", "fit", "persist", "workflow"]
EVENTS: tuple[str, ...] = ("commit", "publish", "rebuild", "fit", "persist", "workflow")
Hook = Callable[[Mapping[str, Any]], None]
log = logging.getLogger("vectorstore")


class Store(Shelves, SearchAcross, Exchange, Keeping, Proving):
    """An open store. Use it as a context manager, from any number of threads, but not in a forked child."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        embedder: Any = OWN,
        kinds: Iterable[type[Record]] = (),
        metric: str | Mapping[str, str] | None = None,
        tokenizer: str | None = None,
        read_only: bool = False,
        create: bool = True,
        auto_publish: bool = True,
        clock: Clock = utc_now,
        timeout: float = 30.0,
        verify: bool = False,
        actor: str | None = None,
        trail: bool = True,
        contracts: bool | None = None,
        telemetry: bool | None = None,
        index: str | Mapping[str, str | None] | None = None,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        demand(OPENING, locals())
        self._mirror = mirror_of(path, read_only, cache)
        root = None if os.fspath(path) == ":memory:" else as_path(path) if self._mirror is None else self._mirror.root
        wanted = {kind.table: kind for kind in (*BUILTIN, *kinds)}
        asked = None if tokenizer is None else check_tokenizer(tokenizer, "open")
        who, given, served = actor_of(actor), OWN if embedder is OWN else as_embedder(embedder), served_by(index)
        self.path = root
        self.read_only = read_only
        self._hooks: dict[str, list[Hook]] = {event: [] for event in EVENTS}
        self.hook_failures: list[tuple[str, Exception]] = []
        copy, folders = (None, None) if self._mirror is None else (self._mirror.catalog, self._mirror.folder)
        self._catalog = Catalog(root, read_only=read_only, timeout=timeout, clock=clock, create=create, at=copy)
        try:
            self._sync = Sync(self._catalog, folders)
            self._sync.watch.contracts = switched_on(contracts)
            if wanted_telemetry(telemetry):
                self._sync.watch.telemetry = Telemetry(":memory:" if root is None else root.name)
            self._sync.watch.commits = self._commits
            self.trail = Trail(self._sync, who, write=trail)
            self.models = Models(self._sync)
            self.maps = Maps(self._sync, self.collection)
            self._maintainer = Maintainer(self._sync, auto_publish=auto_publish and not read_only, upkeep=self.maintain)
            declare(self._sync, wanted, asked)
            self._sync.engines = engines_of(self._sync, served)
            self._embedding = Embedding(self._sync, given)
            metrics = metrics_of(self._sync, metric)
            self._collections: dict[str, Collection[Any]] = {
                name: collection_of(name, self._sync, table, self._embedding, metrics[name], self.collection)
                for name, table in self._sync.tables.items()
            }
            self.workflows = Workflows(self._sync, self.collection, self.trail)
            self.remotes = Remotes(self._sync, feed=auto_publish)
            self._catalog.on_commit = self._committed
            self._eraser = Eraser(self._sync)
            if not read_only:
                tidy(self._sync)
            if verify and (report := self.check()).findings:
                raise StoreError(f"{path}: {report.findings[0]} (and {len(report.findings) - 1} more findings)")
            self.remotes._start()
            self._eraser.resume()  # the last, for it starts a thread
        except BaseException:
            self._catalog.close()
            raise

    # -- kinds -----------------------------------------------------------------------------------------------------

    @property
    def kinds(self) -> list[str]:
        """Names of all kinds in the store, the built-in ones first."""
        return list(self._sync.tables)

    @overload
    def collection(self, kind: type[R]) -> Collection[R]: ...
    @overload
    def collection(self, kind: str) -> Collection[Any]: ...
    def collection(self, kind: type[R] | str) -> Collection[Any]:
        """The records of a kind, by class or table name.

        Raises:
            NotFound: the kind is not registered: vs.open(path, kinds=[...]).
        """
        name = kind if isinstance(kind, str) else kind.table
        try:
            return self._collections[name]
        except KeyError:
            known = ", ".join(self._collections)
            raise NotFound(
                f"no kind {name!r} in this store; the kinds are: {known}; pass kinds=[...] to vs.open"
            ) from None

    __getitem__ = collection

    # -- transactions and hooks ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Self]:
        """Several calls, over any kinds, as one commit: all of them happen, or none.

        Reads and searches of this thread inside see its own changes; other writers wait meanwhile.
        """
        try:
            with self._catalog.write():
                yield self
        finally:
            self.trail.flush()

    def on(self, event: Event, hook: Hook) -> Callable[[], None]:
        """Call a function after each commit, publish, rebuild, fit, persist or workflow; returns how to take it off.

        The hook gets a mapping with what happened, after the commit, in order, in the thread that committed. A hook
        that raises is logged and kept in `hook_failures`; nothing is lost by it.
        """
        self._hooks[event].append(hook)
        return lambda: self._hooks[event].remove(hook)

    def _call(self, event: str, details: Mapping[str, Any]) -> None:
        for hook in list(self._hooks[event]):
            try:
                hook(details)
            except Exception as error:  # a user's code; the commit stands
                self.hook_failures.append((event, error))
                log.exception("a hook on %r failed; the commit stands", event)

    def _committed(self, transaction: Transaction) -> None:
        self.remotes._wake_up()
        for event, details in transaction.notes:
            self._call(event, {"seq": transaction.seq, **details})
            if event == "commit" and (changed := details.get("vectors") or details.get("records")):
                self._maintainer.written(str(details["kind"]), cast(int, changed))

    # -- keeping derived things current ----------------------------------------------------------------------------

    def flush(self) -> int:
        """Move all vectors that wait in the catalog into segments; returns how many."""
        return sum(flush(self._sync, name) for name in self._spaces())

    def publish(self, kind: str | None = None, progress: Progress | None = None) -> None:
        """Bring indexes up to date now, for one kind or all that have enough vectors to need one.

        `progress` is told (percent of all spaces together, 100 times their number).
        """
        names = self._spaces() if kind is None else [kind]
        self._maintainer.publish_all(names, small=kind is not None, progress=progress)

    def rebuild(
        self, kind: str, recipe: IndexRecipe | Auto | str | Path | None = None, progress: Progress | None = None
    ) -> RebuildReport:
        """Build an index by a recipe, measure it, and make it current if it is good enough.

        Args:
            kind: whose vectors.
            recipe: a built-in name ("pq-fastscan", "hnsw32", "exact", ...), a .toml file, None for the default, or
                "auto" (or an `Auto`) to try several and take the fastest that keeps the recall.
            progress: told (efforts measured, efforts to measure).

        Raises:
            RecipeError, RecallTooLow, Superseded: the old index stays.
        """
        collection = self.collection(kind)
        chosen = DEFAULT if recipe is None else as_recipe(recipe)
        report = rebuild(self._sync, collection.name, chosen, progress)
        self._call("rebuild", {"space": kind, "recipe": report.after.recipe, "rows": report.rows})
        return report

    def compact(self, kind: str | None = None, progress: Progress | None = None) -> list[CompactReport]:
        """Drop retired vectors from the disk, merge small segments, give free pages back.

        Args:
            kind: only this one; None for all.
            progress: told (percent of all spaces together, 100 times their number).
        """
        names, reports = [kind] if kind else self._spaces(), []
        for place, name in enumerate(names):
            reports.append(compact(self._sync, name, progress=progress and part(progress, place, len(names))))
            if progress is not None:
                progress(100 * (place + 1), 100 * len(names))
        self._catalog.vacuum()
        self._catalog.checkpoint()
        return [report for report in reports if report is not None]

    # -- looking at it ---------------------------------------------------------------------------------------------

    def _spaces(self) -> list[str]:
        with self._catalog.read() as connection:
            return [space.name for space in rows.all_spaces(connection)]

    def stats(self) -> dict[str, Any]:
        """Counts, sizes and states, by kind; bytes on disk; plain data, fit for JSON."""
        return statistics(self._sync)

    def health(self) -> StoreHealth:
        """Whether the store can be read and written now, and its indexes are current; about a millisecond."""
        return health(self._sync)

    def metrics(self, *, reset: bool = False) -> dict[str, Operation]:
        """Calls, failures and seconds of each operation ("concepts.search", "store.compact") of this open store.

        Args:
            reset: begin again from zero, after this answer.
        """
        return self._sync.watch.metrics.read(reset=reset)

    def _commits(self) -> int | None:
        if self._catalog.in_transaction:
            return None
        with self._catalog.read() as connection:
            return self._catalog.seq(connection)

    def context_info(self, name: str) -> dict[str, Any]:
        """A context's own record and how many live records of each kind are in it.

        Raises:
            NotFound: no such context.
        """
        found = self.contexts.get(name)
        if found is None:
            known = ", ".join(context.id for context in self.contexts.find(limit=20))
            raise NotFound(f"no context {name!r}; the contexts are: {known}")
        counts = {kind: self.collection(kind).count({"context": name}) for kind in self.kinds if kind != Context.table}
        return {"context": found.model_dump(mode="json"), "records": counts}

    # -- closing ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish background work, flush if many vectors wait, close every handle; safe to call twice."""
        self.workflows.close()
        if not self._maintainer.stop():
            return
        self.remotes._stop()
        writes = not self.read_only and not self._catalog.in_transaction and not self._catalog.guard.inherited
        try:
            self._eraser.stop(last=writes)
            if writes:
                self._maintainer.flush_on_close()
                self.trail.flush()
        finally:
            self._catalog.close()
            self._sync.close()
            if self._mirror is not None:
                self._mirror.close()
            if self._leave is not None:
                self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<vectorstore.Store {self.path or ':memory:'}{' read-only' if self.read_only else ''}>"

    def _repr_html_(self) -> str | None:
        """A table of the kinds, for notebooks; None, so that `repr` is shown, once it is closed."""
        try:
            return as_html(self.stats())
        except StoreClosed:
            return None


def open(
    path: str | os.PathLike[str],
    embedder: Any = OWN,
    *,
    kinds: Iterable[type[Record]] = (),
    metric: str | Mapping[str, str] | None = None,
    tokenizer: str | None = None,
    read_only: bool = False,
    create: bool = True,
    auto_publish: bool = True,
    clock: Clock = utc_now,
    timeout: float = 30.0,
    verify: bool = False,
    actor: str | None = None,
    trail: bool = True,
    contracts: bool | None = None,
    telemetry: bool | None = None,
    index: str | Mapping[str, str | None] | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Store:
    """Open the store at a path, made if absent; ":memory:" is a scratch one that leaves no file.

    Args:
        path: a folder of its own; or, to read, the URL of a store's backups, of which the newest is opened: s3://bucket/kb.
        embedder: left out: the one the store was made with, all-MiniLM-L6-v2 for a new store, loaded when a text is
            first embedded. None: vectors are brought by the caller. Or an embedder, a callable, a name ("hash").
        kinds: record classes of your own.
        metric: for spaces that do not exist yet: cosine (default), ip or l2; one for all, or by kind.
        tokenizer: how full text is cut into words, for kinds that do not say: "unicode61" (any language), "porter"
            (English) or "trigram" (substrings). None keeps the store's; another one makes its full text anew, once.
        read_only: write nothing at all; works on media that cannot be written.
        create: False refuses to make a new store.
        auto_publish: build indexes in the background when enough vectors have gathered.
        clock: returns the time now, with a zone; for tests and replays.
        timeout: seconds to wait for another writer.
        verify: check everything before returning.
        actor: who acts, for the trail; None for VECTORSTORE_ACTOR in the environment, else the system's user.
        trail: keep an account of every change and every refused call: `store.trail`.
        contracts: check what verbs demand and promise; None for VECTORSTORE_CONTRACTS in the environment, else yes.
        telemetry: a span and a duration of each call to OpenTelemetry; None for VECTORSTORE_TELEMETRY in the
            environment, else yes in a process that has its SDK loaded.
        index: an engine outside that answers searches: "milvus://host:19530", or a mapping from kinds to these. A kind
            that is not named is served when it has 10,000 vectors. None: FAISS, here. See docs/scale.md.
        cache: a folder for what is fetched from a URL; None for the user's own, ~/.cache/vectorstore.

    Raises:
        NotAStore, NewerFormat, CorruptError, StoreError: the path was left untouched.
        SpaceMismatch: another embedder or metric than the store's.
        SchemaChangedError: a kind's class no longer fits its records.
        LibraryMissing: telemetry is wanted, and OpenTelemetry is not there; or an engine's client is not.

    Cost: a few milliseconds, whatever the size.
    """
    return Store(
        path,
        embedder=embedder,
        kinds=kinds,
        metric=metric,
        tokenizer=tokenizer,
        read_only=read_only,
        create=create,
        auto_publish=auto_publish,
        clock=clock,
        timeout=timeout,
        verify=verify,
        actor=actor,
        trail=trail,
        contracts=contracts,
        telemetry=telemetry,
        index=index,
        cache=cache,
    )


keep(
    (
        Store,
        Collection,
        Remotes,
        Maps,
        Models,
        Snapshots,
        Trail,
        Workflows,
        States,
        StoreState,
        StateFile,
        *REASONERS.values(),
    ),
    VERBS,
    UNCOUNTED,
)
