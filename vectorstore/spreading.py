"""Work spread over workers: the one door to `joblib.Parallel`.

    with joblib.parallel_config(backend="dask"):
        store.workflows.process(work.id)

Whoever opened such a context in this thread says by it where work is done; without one nothing is spread, and joblib
is not even imported. Data goes and comes by digests in a place that the workers see, too (`vectorstore.tasks`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from vectorstore.errors import EmbedderError, VectorstoreError, WorkersLost

T = TypeVar("T")
PER_WORKER = 16
"""So many tasks of each worker are handed out at once: waiting for the last of them costs a thirtieth."""


def workers() -> int:
    """How many tasks are done at once in the `joblib.parallel_config` that this thread is in; 1 without one.

    Raises:
        WorkersLost: there are none, or their scheduler does not answer.
    """
    joblib = sys.modules.get("joblib")  # who has opened a context has imported it
    if joblib is None:
        return 1
    try:
        return int(joblib.effective_n_jobs(None))
    except Exception as error:
        raise _lost(error) from error


def spread(task: Callable[..., T], arguments: Sequence[tuple[Any, ...]]) -> Generator[T, None, None]:
    """The results of a task for each of the arguments, in order, as they come.

    Raises:
        VectorstoreError: what the task itself raised.
        WorkersLost: workers, or their scheduler, are gone; a worker's task is first tried on the others.
    """
    import joblib

    parallel = joblib.Parallel(n_jobs=None, return_as="generator", pre_dispatch="all", batch_size=1)
    try:
        for result in parallel(joblib.delayed(task)(*each) for each in arguments):
            if isinstance(result, BaseException):  # how a cancelled task comes back from Dask
                raise _lost(result)
            yield result
    except VectorstoreError:
        raise
    except Exception as error:
        raise _lost(error) from error


def sendable(embedder: object) -> None:
    """An embedder can be sent to workers; functions of a script go with their code.

    Raises:
        EmbedderError: it cannot be had elsewhere.
    """
    try:
        import cloudpickle  # joblib's own requirement from 1.6 on
    except ImportError:
        from joblib.externals import cloudpickle
    try:
        cloudpickle.dumps(embedder)
    except Exception as error:  # whatever its parts raise when they are asked
        raise EmbedderError(
            f"the embedder {embedder!r} cannot be sent to workers ({error}); give a SentenceEmbedder, or a function "
            "that holds no locks or files, or leave joblib.parallel_config"
        ) from error


def _lost(error: BaseException) -> WorkersLost:
    said = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return WorkersLost(f"the workers cannot be reached, or died ({said}); what had landed stays; process it again")
