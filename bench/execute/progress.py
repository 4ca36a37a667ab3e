"""Shows how a run goes: live lines in a terminal, elsewhere one plain line per ended trial."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bench.grid.plan import Plan, Trial, run_of
from bench.record.outcome import Outcome
from bench.record.status import Status
from lab.result import Evaluation

STYLES = {Status.OK: "green", Status.DIVERGED: "yellow", Status.INTERRUPTED: "yellow"}


@dataclass
class _Line:
    """The line of one worker: what it is doing."""

    trial: Trial
    since: float
    node: str = ""
    point: Evaluation | None = None


class Progress:
    """Shows the run on ``console``; ``now`` is a clock in seconds."""

    def __init__(self, console: Console, command: Sequence[str], now: Callable[[], float] = time.monotonic) -> None:
        self.console, self._command, self._now = console, command, now
        self._trials: dict[str, Trial] = {}
        self._lines: dict[int, _Line | None] = {}
        self._nodes: dict[str, int] = {}  # trials that ended on each node of a cluster
        self._counts: dict[Status, int] = {}
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=True)

    def begin(self, plan: Plan, trials: Sequence[Trial], num_workers: int, why: str = "", recorded: int = 0) -> None:
        """Starts a batch: prints how many trials run on how many workers, ``why`` on no more, and how many need not."""
        self._trials = {trial.trial_id: trial for trial in trials}
        self._primary, self._selecting = plan.primary.name, plan.selecting
        self._lines = dict.fromkeys(range(num_workers))
        self._start = self._now()
        self.console.print(
            Text.assemble(
                (plan.name, "bold"),
                f": {len(trials)} trial{'s' * (len(trials) != 1)} on {num_workers} worker{'s' * (num_workers > 1)}",
                f": {why}" if why else "",
                f", {recorded} recorded already" if recorded else "",
            ),
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def started(self, worker: int, trial_id: str, node: str = "") -> None:
        self._lines[worker] = _Line(self._trials[trial_id], self._now(), node)
        if node:
            self._nodes.setdefault(node, 0)

    def lost(self, worker: int, why: str) -> None:
        """Reports that a worker is gone; its trial, if it had one, starts again on another."""
        self._lines.pop(worker, None)
        self.complain(why)

    def evaluated(self, worker: int, point: Evaluation) -> None:
        line = self._lines[worker]
        assert line is not None
        line.point = point

    def ended(self, worker: int, outcome: Outcome) -> None:
        line, self._lines[worker] = self._lines[worker], None
        assert line is not None
        if line.node:
            self._nodes[line.node] += 1
        self._counts[outcome.status] = self._counts.get(outcome.status, 0) + 1
        trial = self._trials[outcome.trial_id]
        done, total = sum(self._counts.values()), len(self._trials)
        text = Text(f"{done:>{len(str(total))}}/{total} ")
        text.append(f"{outcome.status:<8} ", style=STYLES.get(outcome.status, "red"))
        text.append(f"{trial.cell.label} seed={trial.seed}" + (f" on {line.node}" if line.node else ""))
        measures = outcome.result.measures if outcome.result is not None else {}
        names = dict.fromkeys((self._primary, self._selecting))
        if all(name in measures for name in names):
            scores = "  ".join(f"{_short(name)} {measures[name]:.4f}" for name in names)
            text.append(f"  {scores}  {measures['total_seconds']:.1f} s")
        self.console.print(text, soft_wrap=True)
        if outcome.error and outcome.status is not Status.INTERRUPTED:
            self.console.print(Text(f"    {outcome.error.splitlines()[0]}", style="dim"), soft_wrap=True)
        if outcome.status not in STYLES:
            repeat = shlex.join([*self._command, "--trial", outcome.trial_id, "--rerun", "all"])
            self.console.print(Text(f"    again, alone: {repeat}", style="dim"), soft_wrap=True)

    def complain(self, message: str) -> None:
        """Prints something that the user should know at once."""
        self.console.print(Text(message, style="yellow"), soft_wrap=True)

    def _render(self) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True, style="dim")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column(no_wrap=True, justify="right")
        for node, done in self._nodes.items():
            table.add_row(Text(node), self._node_state(node), f"{done} done")
        for index, line in self._lines.items() if not self._nodes else ():
            if line is None:
                table.add_row(f"worker {index}", Text("idle", style="dim"), "")
                continue
            table.add_row(f"worker {index}", Text(f"{line.trial.cell.label} seed={line.trial.seed}"), self._state(line))
        return Group(table, self._overall())

    def _node_state(self, node: str) -> Text:
        """Says how many trials run there, and the one that has run longest."""
        lines = [line for line in self._lines.values() if line is not None and line.node == node]
        if not lines:
            return Text("idle", style="dim")
        oldest = min(lines, key=lambda line: line.since)
        name = f"{oldest.trial.cell.label} seed={oldest.trial.seed}"
        return Text(f"{len(lines)} running; longest: {name}, {self._state(oldest)}")

    def _state(self, line: _Line) -> str:
        seconds = f"{self._now() - line.since:.0f} s"
        if line.point is None:
            return f"starting, {seconds}"
        epochs = line.trial.settings.flat().get("train.epochs")
        names = [name for name in (self._selecting, self._primary, *line.point.scores) if name in line.point.scores]
        score = "".join(f"{_short(name)} {line.point.scores[name]:.4f}, " for name in names[:1])
        if run_of([line.trial]) is not None:
            return f"step {line.point.step:,}, {score}{seconds}"
        return f"epoch {line.point.epoch:.3g}/{epochs}, {score}{seconds}"

    def _overall(self) -> Text:
        done, total = sum(self._counts.values()), len(self._trials)
        text = Text(f"{done}/{total} trials", style="bold")
        if done:
            left = (self._now() - self._start) / done * (total - done)
            text.append(f", about {duration(left)} left", style="not bold")
        failures = {status: count for status, count in self._counts.items() if status is not Status.OK}
        for status, count in failures.items():
            text.append(f", {count} {status}", style=STYLES.get(status, "red"))
        return text


def _short(name: str) -> str:
    """Returns ``dev`` for ``dev_accuracy``; another score is named."""
    return name.removesuffix("_accuracy")


def duration(seconds: float) -> str:
    """Returns the seconds in words: ``40 s``, ``3 min``, ``2 h 10 min``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
