"""All grids of a results folder, read again and again, and what each reader has not seen of them yet."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.record.plan_file import GRID, PLAN
from bench.watch import assess
from bench.watch.grid import Grid, View

POLL_SECONDS = 0.5
LEAST_SECONDS = 3.0  # between two judgements of a grid; at least four times what the last one took
BROKEN_SECONDS = 15.0  # until what killed a worker is tried again
MOST_GRIDS = 200
MOST_TASKS = 40  # of one worker process: what it leaks ends with it


class Board:
    """The grids of ``results``, or those named; plans and findings are worked out by ``workers``, one at a time."""

    def __init__(self, results: Path, names: Collection[str] = (), workers: Executor | None = None) -> None:
        self.results, self.names = results.resolve(), list(names)
        self.grids: dict[str, Grid] = {}
        self.left_out = 0
        self._workers = workers
        self._outlined: dict[str, object] = {}  # by grid: the state of its files that was worked out last
        self._judged: dict[str, object] = {}
        self._not_before: dict[str, float] = {}
        self._pending: dict[str, tuple[str, float, Future[Any]]] = {}
        self._readers: Counter[str] = Counter()
        self._changed = asyncio.Condition()
        self._lock = threading.Lock()  # files are read, and views made, in threads

    # --- reading ----------------------------------------------------------------------------------------------------

    async def keep_up(self) -> None:
        """Reads the folder until it is cancelled; tells the readers of each change."""
        while True:
            await asyncio.to_thread(self.refresh)
            async with self._changed:
                self._changed.notify_all()
            await asyncio.sleep(POLL_SECONDS)

    def close(self) -> None:
        """Ends the worker, whatever it is at."""
        if self._workers is not None:
            for child in multiprocessing.active_children():
                child.terminate()
            self._workers.shutdown(cancel_futures=True)

    def refresh(self) -> None:
        """Looks once at all files, and has worked out what changed."""
        with self._lock:
            for name in self._find():
                self.grids.setdefault(name, Grid(self.results / name))
            for name, grid in self.grids.items():
                self._collect(name, grid)
                grid.refresh()
                self._ask(name, grid)

    def _find(self) -> list[str]:
        if self.names:
            return self.names
        found = sorted({path.parent.name for file in (GRID, PLAN) for path in self.results.glob(f"*/{file}")})
        self.left_out = max(0, len(found) - MOST_GRIDS)
        return found[:MOST_GRIDS]

    def _ask(self, name: str, grid: Grid) -> None:
        """Has the plan read where it changed, and findings made where somebody looks and a trial was recorded."""
        if name in self._pending:
            return
        recorded, now = grid.recorded(), time.monotonic()
        moves = grid.problem or (grid.outline is not None and grid.outline.tunes)
        wanted = (grid.stamp(), recorded if moves else None)
        judged = (wanted, recorded)
        looked_at = self._readers[name] and grid.outline is not None and recorded != (0, 0, 0)
        if now < self._not_before.get(name, 0.0):
            return
        if self._outlined.get(name) != wanted:
            self._outlined[name] = wanted
            self._submit("outline", name, grid)
        elif looked_at and self._judged.get(name) != judged:
            self._judged[name] = judged
            self._submit("sections", name, grid)

    def _submit(self, what: str, name: str, grid: Grid) -> None:
        if self._workers is None:
            self._workers = ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), assess.be_humble, max_tasks_per_child=MOST_TASKS
            )
        try:
            task = self._workers.submit(getattr(assess, what), grid.folder)
        except BrokenProcessPool as error:
            task = Future()
            task.set_exception(error)
        self._pending[name] = what, time.monotonic(), task

    def _collect(self, name: str, grid: Grid) -> None:
        """Takes in what a worker has made."""
        what, since, task = self._pending.get(name, ("", 0.0, None))
        if task is None or not task.done():
            return
        del self._pending[name]
        now = time.monotonic()
        self._not_before[name] = now + max(LEAST_SECONDS, 4 * (now - since)) if what == "sections" else now + 1.0
        error = task.exception()
        if isinstance(error, BrokenProcessPool):  # killed, as for want of memory: a new one tries again
            self._workers = None
            self._outlined.pop(name, None)
            self._judged.pop(name, None)
            self._not_before[name] = now + BROKEN_SECONDS
        if what == "outline":
            grid.learn(None if error else task.result(), _said(error))
        else:
            grid.sections = {"problem": "", **task.result()} if error is None else {"problem": _said(error)}
            grid.version += 1

    # --- showing ----------------------------------------------------------------------------------------------------

    def view(self, name: str) -> View:
        """Returns the list of all grids, and all that there is to see of one."""
        now = time.time()
        with self._lock:
            view: View = {"grids": {one: grid.progress(now) for one, grid in sorted(self.grids.items())}}
            view["board"] = {"results": str(self.results), "left out": self.left_out}
            return view | (self.grids[name].view(now) if name in self.grids else {})

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        self._readers[name] += 1
        try:
            yield
        finally:
            self._readers[name] -= 1
            if not self._readers[name]:
                del self._readers[name]

    async def changes(self, name: str, has_ended: Callable[[], bool] = lambda: False) -> AsyncIterator[View]:
        """Yields what of the view of a grid a new reader does not have yet: first all, then what changes.

        A part that is gone is None. Ends with the next look at the files after ``has_ended``.
        """
        sent: View = {}
        with self._reading(name):
            while not has_ended():
                now = await asyncio.to_thread(self.view, name)
                if changed := difference(sent, now):
                    yield changed
                sent = now
                async with self._changed:
                    await self._changed.wait()


def difference(before: View, now: View) -> View:
    """Returns the parts that are not as they were, None for those that are gone."""
    found: View = {}
    for section in before.keys() | now.keys():
        old, new = before.get(section, {}), now.get(section, {})
        parts = {key: part for key, part in new.items() if key not in old or old[key] != part}
        parts |= dict.fromkeys(old.keys() - new.keys())
        if parts:
            found[section] = parts
    return found


def _said(error: BaseException | None) -> str:
    if error is None:
        return ""
    return str(error) if isinstance(error, assess.AssessError) else f"cannot be read: {type(error).__name__}: {error}"
