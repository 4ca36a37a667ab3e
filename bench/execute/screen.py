"""The live part of a terminal while trials run: a table of cells, a line per worker, a bar with the time left.

It is as high and wide as the terminal allows; what there is no room for is counted.
"""

from __future__ import annotations

from itertools import islice

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bench.execute.tally import CellTally, Tally, WorkerTally, shown_value
from bench.grid.plan import run_of
from bench.record.status import Status

STYLES = {Status.OK: "green", Status.DIVERGED: "yellow", Status.INTERRUPTED: "yellow"}
MOST_CELLS, MOST_WORKERS = 20, 8  # lines
FRAME = 4  # lines beside those: the heading, what is not shown, the bar, and one that scrolls
LONGEST_BAR, NARROW, FEWEST = 40, 70, 8  # columns: of the bar, of a narrow terminal, and of a cell's label at least


class Screen:
    """Draws the tally as it stands; once the run ``is_over``, the cells alone, which stay."""

    def __init__(self, tally: Tally) -> None:
        self.is_over = False
        self._tally = tally

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        tally, (width, height) = self._tally, console.size
        if not tally.trials:
            return
        room = max(0, height - FRAME)
        num_workers = 0 if self.is_over else min(len(tally.nodes) or len(tally.workers), MOST_WORKERS, (room + 1) // 2)
        yield from self._cells(min(MOST_CELLS, room - num_workers), width)
        if not self.is_over:
            yield from self._workers(num_workers, width)
            yield self._bar(width)

    # --- cells ---

    def _cells(self, room: int, width: int) -> RenderResult:
        """Shows so many cells as there is room for, those that something happened to last, in the plan's order."""
        tally = self._tally
        cells, labels = list(tally.cells.values()), list(tally.recent)
        if room < 1 or not any(cell.label for cell in cells):
            return
        kept = set(labels[-room:])
        rows = [self._row(cell) for cell in islice((cell for cell in cells if cell.label in kept), room)]
        headings = ("cell", "n", self._heading(short_of_room=width < NARROW), "failed")
        taken = sum(2 + max(map(cell_len, map(str, column))) for column in list(zip(headings, *rows, strict=True))[1:])
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column(headings[0], no_wrap=True, overflow="ellipsis", max_width=max(FEWEST, width - taken))
        for heading in headings[1:]:
            table.add_column(heading, justify="left" if heading == "failed" else "right", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        yield table
        if left := [cell for cell in cells if cell.label not in kept]:
            done = sum(not cell.left for cell in left)
            yield Text(f"and {len(left)} more cells: {done} done, {len(left) - done} to come", style="dim")

    def _row(self, cell: CellTally) -> tuple[Text, str, str, Text]:
        value = shown_value(cell, self._tally.metric, best=self._tally.shows_best)
        return Text(cell.label), f"{cell.count + cell.lost.total()}/{cell.planned}", value, _lost(cell)

    def _heading(self, *, short_of_room: bool) -> str:
        metric, what = self._tally.metric, "best" if self._tally.shows_best else "mean"
        unit = f", {metric.unit}" if metric.unit else ""
        return f"{what}{unit}" if short_of_room else f"{what} {metric.name.replace('_', ' ')}{unit}"

    # --- workers ---

    def _workers(self, room: int, width: int) -> RenderResult:
        tally = self._tally
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True, style="dim")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column(no_wrap=True, justify="right")
        name = "{}" if width < NARROW else "worker {}"
        nodes, workers = list(tally.nodes.items()), list(tally.workers.items())
        for node, done in nodes[:room]:
            table.add_row(Text(node), self._node_state(node), f"{done} done")
        busy = [(index, line) for index, line in workers if line is not None]
        shown = busy[:room] if len(workers) > room else workers
        for index, line in shown if not nodes else ():
            if line is None:
                table.add_row(name.format(index), Text("idle", style="dim"), "")
                continue
            table.add_row(
                name.format(index), Text(f"{line.trial.cell.label} seed={line.trial.seed}"), self._state(line)
            )
        if table.row_count:
            yield table

    def _node_state(self, node: str) -> Text:
        """Says how many trials run there, and the one that has run longest."""
        lines = [line for line in list(self._tally.workers.values()) if line is not None and line.node == node]
        if not lines:
            return Text("idle", style="dim")
        oldest = min(lines, key=lambda line: line.since)
        name = f"{oldest.trial.cell.label} seed={oldest.trial.seed}"
        return Text(f"{len(lines)} running; longest: {name}, {self._state(oldest)}")

    def _state(self, line: WorkerTally) -> str:
        seconds, tally = duration(self._tally.now() - line.since), self._tally
        if line.point is None:
            return f"starting, {seconds}"
        scores = line.point.scores
        names = [name for name in (tally.selecting, tally.metric.name, *scores) if name in scores]
        score = "".join(f"{short(name)} {scores[name]:.4f}, " for name in names[:1])
        if run_of([line.trial]) is not None:
            return f"step {line.point.step:,}, {score}{seconds}"
        return f"epoch {line.point.epoch:.3g}/{line.epochs}, {score}{seconds}"

    # --- the bar ---

    def _bar(self, width: int) -> Table:
        tally = self._tally
        total, left = len(tally.trials), tally.seconds_left()
        text = Text(f"{tally.ended}/{total} trials", style="bold")
        if left is not None and tally.ended < total:
            text.append(f", about {duration(left)} left", style="not bold")
        for status, count in list(tally.counts.items()):
            if status is not Status.OK:
                text.append(f", {count} {_word(status)}", style=STYLES.get(status, "red"))
        room = min(LONGEST_BAR, width - text.cell_len - 1)
        bar = [ProgressBar(total=total, completed=tally.share(), width=room)] if room > 0 else []
        table = Table.grid(padding=(0, 1))
        for _ in range(len(bar) + 1):
            table.add_column(no_wrap=True, overflow="ellipsis")
        table.add_row(*bar, text)
        return table


def _lost(cell: CellTally) -> Text:
    """Returns ``2 diverged, 1 error``."""
    text = Text()
    for status, count in list(cell.lost.items()):
        text.append(f"{', ' if text else ''}{count} {_word(status)}", style=STYLES.get(status, "red"))
    return text


def _word(status: Status) -> str:
    return str(status).replace("_", " ")


def short(name: str) -> str:
    """Returns ``dev`` for ``dev_accuracy``; another score is named."""
    return name.removesuffix("_accuracy")


def duration(seconds: float) -> str:
    """Returns the seconds in words: ``40 s``, ``3 min``, ``2 h 10 min``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
