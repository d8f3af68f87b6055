"""Where points are simulated: in this process, in processes of this machine, or on a dask cluster.

The seam is `concurrent.futures.Executor` (see `nmsim.sweep.schedule.Workers`): whatever else offers one can serve as well.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nmsim.errors import InputError


@dataclass(frozen=True)
class LocalPool:
    """`jobs` processes of this machine, each started afresh (spawn), so that nothing of this process leaks into them."""

    jobs: int

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """The pool; an exception inside ends its processes at once, whatever they are at."""
        others = set(multiprocessing.active_children())
        pool = ProcessPoolExecutor(self.jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare_worker)
        try:
            yield pool
        except BaseException:
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def capacity(self, _: Executor) -> int:
        """A call a process."""
        return self.jobs


class InProcess(Executor):
    """No other process at all: a call runs when it is submitted. For debuggers, profilers and small sweeps."""

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """Itself."""
        yield self

    def capacity(self, _: Executor) -> int:
        """One."""
        return 1

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """Run the call and return a future that is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(call(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future


class DaskCluster:
    """The workers of a running dask cluster, as many as it has at the moment. They must see the same files."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._client: Any = None

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """A client's executor; InputError where dask is not installed or nobody answers."""
        try:
            import distributed
        except ImportError:
            raise InputError("dask is not installed", path="--dask", fix="pip install 'nmsim[cluster]'") from None
        try:
            make_client: Any = distributed.Client
            self._client = make_client(self.address, set_as_default=False)
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"no dask scheduler answers here ({reason})", path="--dask", value=self.address) from None
        with self._client:
            yield self._client.get_executor(pure=False)

    def capacity(self, _: Executor) -> int:
        """A call a thread of the cluster; it may grow and shrink while the sweep runs."""
        return sum(self._client.nthreads().values())


def _prepare_worker() -> None:
    """A worker leaves Ctrl-C to whoever runs the sweep, and ends when that process is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
