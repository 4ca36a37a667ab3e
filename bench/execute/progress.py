"""Shows how a run goes: live in a terminal, where only failures scroll; elsewhere a line per ended trial."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bench.execute.screen import STYLES, Screen, duration, short
from bench.execute.tally import Tally, WorkerTally
from bench.grid.plan import Plan, Trial
from bench.record.outcome import Outcome
from bench.record.status import Status
from lab.result import Evaluation

__all__ = ["Progress", "duration"]
Rows = Callable[[], Iterable[Mapping[str, str]]]


class Progress:
    """Shows the run on ``console``; ``now`` is a clock in seconds. Where ``quiet``, shows failures alone."""

    def __init__(
        self,
        console: Console,
        command: Sequence[str],
        now: Callable[[], float] = time.monotonic,
        *,
        quiet: bool = False,
    ) -> None:
        self.console, self._command, self._quiet = console, command, quiet
        self._tally = Tally(now)
        self.screen = Screen(self._tally)
        self._is_live = console.is_terminal and not quiet
        self._live = Live(self.screen, console=console, refresh_per_second=4, vertical_overflow="crop")

    def begin(
        self,
        plan: Plan,
        trials: Sequence[Trial],
        num_workers: int,
        why: str = "",
        recorded: int = 0,
        rows: Rows = tuple,
    ) -> None:
        """Starts a batch: prints how many trials run on how many workers, ``why`` on no more, and how many need not.

        ``rows`` reads what is recorded, for a live table.
        """
        self._primary, self._selecting = plan.primary.name, plan.selecting
        self._tally.begin(plan, trials, num_workers, rows() if self._is_live else ())
        if self._quiet:
            return
        self.console.print(
            Text.assemble(
                (plan.name, "bold"),
                f": {len(trials)} trial{'s' * (len(trials) != 1)} on {num_workers} worker{'s' * (num_workers > 1)}",
                f": {why}" if why else "",
                f", {recorded} recorded already" if recorded else "",
            ),
        )

    def __enter__(self) -> Self:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.screen.is_over = True
        self._live.stop()

    def started(self, worker: int, trial_id: str, node: str = "") -> None:
        self._tally.started(worker, trial_id, node)

    def lost(self, worker: int, why: str) -> None:
        """Reports that a worker is gone; its trial, if it had one, starts again on another."""
        self._tally.lost(worker)
        self.complain(why)

    def evaluated(self, worker: int, point: Evaluation) -> None:
        self._tally.evaluated(worker, point)

    def ended(self, worker: int, outcome: Outcome) -> None:
        line = self._tally.finished(worker, outcome)
        if outcome.status.is_failed or not (self._is_live or self._quiet):
            self._print(line, outcome)

    def complain(self, message: str) -> None:
        """Prints something that the user should know at once."""
        self.console.print(Text(message, style="yellow"), soft_wrap=True)

    def _print(self, line: WorkerTally, outcome: Outcome) -> None:
        trial, total = line.trial, len(self._tally.trials)
        text = Text(f"{self._tally.ended:>{len(str(total))}}/{total} ")
        text.append(f"{outcome.status:<8} ", style=STYLES.get(outcome.status, "red"))
        text.append(f"{trial.cell.label} seed={trial.seed}" + (f" on {line.node}" if line.node else ""))
        measures = outcome.result.measures if outcome.result is not None else {}
        names = dict.fromkeys((self._primary, self._selecting))
        if all(name in measures for name in names):
            scores = "  ".join(f"{short(name)} {measures[name]:.4f}" for name in names)
            text.append(f"  {scores}  {measures['total_seconds']:.1f} s")
        self.console.print(text, soft_wrap=True)
        if outcome.error and outcome.status is not Status.INTERRUPTED:
            self.console.print(Text(f"    {outcome.error.splitlines()[0]}", style="dim"), soft_wrap=True)
        if outcome.status.is_failed:
            repeat = shlex.join([*self._command, "--trial", outcome.trial_id, "--rerun", "all"])
            self.console.print(Text(f"    to repeat it alone: {repeat}", style="dim"), soft_wrap=True)
