"""The command line. Exit codes: 0 all done, 1 some trial failed, 2 wrong command, grid or data, 130 interrupted."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.grid.load import GridError, Plan, load_plan

if TYPE_CHECKING:
    from lab.settings import Section

app = typer.Typer(
    name="bench",
    help="Ablations and benchmarks: a YAML grid in; trained trials, tables and figures out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Grids = Annotated[list[Path], typer.Argument(metavar="GRID", help="Grid files.", show_default=False)]
RecordedGrids = Annotated[
    list[Path] | None, typer.Argument(metavar="GRID", help="Grids; default: all that have results.")
]
Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="Folder of all results.")]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="K=V", help="Replace a setting; several values make it a factor.")
]
Only = Annotated[list[str], typer.Option("--only", metavar="K=V", help="Keep only the cells with this level.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")]
DataDir = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the data sets: a torchvision root.")]
Seeds = Annotated[int | None, typer.Option("--seeds", metavar="N", min=1, help="Seeds 0 to N-1.")]


class Refused(Exception):  # noqa: N818  # a message and exit code 2, not an error of ours
    """What was asked for cannot be done; the message says why, where, and what would be allowed."""


class Unrecorded(Exception):  # noqa: N818  # likewise, with exit code 1
    """Something that was computed could not be written."""


def main() -> None:
    """Runs the command; a refusal is its message on standard error and exit code 2."""
    from bench.record.table import RecordError

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        app(prog_name="python -m bench")
    except KeyboardInterrupt:
        sys.exit(130)
    except (Refused, GridError, RecordError) as error:
        messages = error.messages if isinstance(error, GridError) else [str(error)]
        for message in messages:
            print(message, file=sys.stderr)
        sys.exit(2)
    except Unrecorded as error:
        print(error, file=sys.stderr)
        sys.exit(1)


def seconds(option: str, text: str) -> float:
    """``0``, ``90``, ``90s``, ``10m`` or ``2h`` in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match:
        raise Refused(f"{option} must be a time such as 90s, 10m or 2h, got {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


@app.command()
def run(
    grids: Grids,
    overrides: Overrides = [],  # noqa: B006  # typer copies it
    only: Only = [],  # noqa: B006
    seeds: Seeds = None,
    jobs: Annotated[
        int | None,
        typer.Option("-j", "--jobs", metavar="N", min=1, help="Trials at once; default: one a GPU, or one a CPU core."),
    ] = None,
    device: Device = "auto",
    executor: Annotated[str, typer.Option(metavar="NAME", help="local (worker processes), inline or ray.")] = "local",
    results: Results = Path("results"),
    data_dir: DataDir = None,
    timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Longest time of a trial: 90s, 10m, 2h.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run recorded trials anew.")] = False,
    retry: Annotated[bool, typer.Option(help="Run again what is recorded as failed.")] = True,
    attempts: Annotated[
        int, typer.Option("--attempts", metavar="N", min=1, help="Leave alone what has failed so often.")
    ] = 3,
    stale: Annotated[bool, typer.Option("--stale", help="Run anew what other source code finished.")] = False,
    checkpoint: Annotated[str, typer.Option(metavar="TIME", help="Time between two checkpoints of a trial.")] = "10s",
    keep: Annotated[str, typer.Option(metavar="WHAT", help="Checkpoints of ended trials: best, all or none.")] = "best",
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first trial that fails.")] = False,
    trial: Annotated[str | None, typer.Option(metavar="ID", help="Run this trial only.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and train nothing.")] = False,
    price: Annotated[
        bool, typer.Option("--price", help="With --dry-run: one real step of each cell, for time, memory and errors.")
    ] = False,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Start no trial that is not expected to end in it: 30m, 2h.")
    ] = None,
    no_time: Annotated[bool, typer.Option("--no-time", help="Skip the timing of each model afterwards.")] = False,
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Ray cluster: auto on one of its nodes, or HOST:PORT.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="PLACE", help="With ray: checkpoints, in a shared folder or s3://, gs://, ...")
    ] = None,
    cpus_per_trial: Annotated[
        float | None, typer.Option(metavar="N", min=0.01, help="With ray: cores a trial, and its threads; default: 1.")
    ] = None,
    gpus_per_trial: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="With ray: 0.25 puts four trials on a GPU; default: 1.")
    ] = None,
) -> None:
    """Train every trial of the grids that is not recorded yet."""
    from bench.execute import run as runs

    if executor not in runs.EXECUTORS:
        raise Refused(f"--executor must be one of {', '.join(runs.EXECUTORS)}, got {executor!r}")
    cluster = {
        "--address": address,
        "--storage": storage,
        "--cpus-per-trial": cpus_per_trial,
        "--gpus-per-trial": gpus_per_trial,
    }
    if executor != "ray" and (given := [name for name, value in cluster.items() if value is not None]):
        raise Refused(f"{given[0]} goes with --executor ray, got --executor {executor}")
    if executor == "ray" and address is None:
        raise Refused(
            "--executor ray needs --address: auto on a node of a cluster, or HOST:PORT; `ray start --head` starts one"
        )
    if storage is not None and "://" not in storage:
        storage = str(Path(storage).resolve())
    if keep not in ("best", "all", "none"):
        raise Refused(f"--keep must be best, all or none, got {keep!r}")
    limit = None if timeout is None else seconds("--timeout", timeout)
    every = seconds("--checkpoint", checkpoint)
    options = runs.Options(
        results,
        data_dir,
        device,
        jobs,
        executor,
        limit,
        force,
        retry,
        every,
        keep,
        fail_fast,
        trial,
        budget=None if budget is None else seconds("--budget", budget),
        stale=stale,
        attempts=attempts,
        address=address,
        storage=storage,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
    )
    if price and not dry_run:
        raise Refused("--price goes with --dry-run, which shows the plan and its price")
    plans = [load_plan(grid, overrides=overrides, only=only, seeds=seeds) for grid in grids]
    known = {known.trial_id for plan in plans for known in runs.known_trials(plan, options)}
    if trial is not None and trial not in known:
        raise Refused(f"--trial: no trial {trial!r} in {', '.join(str(grid) for grid in grids)}")
    if not dry_run and (to_run := [trial for plan in plans for trial in runs.missing(plan, options)]):
        runs.warm_up(to_run, options)
    console = Console(highlight=False)
    codes = [
        _show_plan(plan, options, price, console) if dry_run else _run_one(plan, grid, options, not no_time, console)
        for plan, grid in zip(plans, grids, strict=True)
    ]
    raise typer.Exit(130 if 130 in codes else max(codes))


def _run_one(plan: Plan, grid: Path, options: Any, timed: bool, console: Console) -> int:
    from bench.execute import run as runs
    from bench.execute.price import Look, look_at_models
    from bench.execute.progress import Progress, duration
    from bench.record.records import Records
    from bench.record.staleness import find_stale

    look = Look([])
    if runs.missing(plan, options):
        try:
            look = look_at_models(plan, options.driver_device, options.data_dir, options.timeout)
        except ValueError as error:
            raise Refused(str(error)) from error
    warnings = [*plan.warnings, *look.warnings]
    if options.executor == "ray" and options.storage is None:
        warnings.append("without --storage a trial that is cut off starts anew, and no weights are kept")
    for warning in warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)
    command = [_python(), "-m", "bench", "run", str(grid), *_given_again()]
    folder = options.results / plan.name
    torn = _torn(folder)
    try:
        summary = runs.run(plan, options, Progress(console, command), look.macs)
    except ValueError as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Unrecorded(f"{options.results / plan.name}: cannot be written: {error}") from error
    for name, _ in sorted(_torn(folder).items() - torn.items()):
        console.print(f"{folder}: a line that was half written is set aside in {name}", soft_wrap=True)
    if summary.unwritten is not None:
        raise Unrecorded(f"{folder}: some results could not be written: {summary.unwritten}; run it again to get them")
    if summary.elsewhere:
        console.print(f"{plan.name}: {summary.elsewhere} trials are left to another process, which is running them")
    if summary.left:
        console.print(f"{plan.name}: {summary.left} trials not started: they would not have ended in the budget")
    if not (summary.elsewhere or summary.left or summary.statuses or summary.interrupted):
        console.print(
            f"{plan.name}: nothing to train, all {len(plan.trials)} trials are recorded in {folder}", soft_wrap=True
        )
    if summary.statuses:
        counts = ", ".join(f"{count} {status}" for status, count in sorted(summary.statuses.items()))
        where = folder / "trials.csv"
        console.print(f"{plan.name}: {counts} in {duration(summary.seconds)}; recorded in {where}", soft_wrap=True)
    if summary.given_up:
        times, left = max(summary.given_up), len(summary.given_up)
        console.print(
            f"{plan.name}: {left} trial{'s' * (left > 1)} failed {times} times and {'are' if left > 1 else 'is'} left; "
            f"--attempts {times + 1} or --force tries again",
            soft_wrap=True,
        )
    if not (options.stale or options.force) and (stale := find_stale(plan, Records(folder, plan.selecting))).changed:
        console.print(Text(f"{plan.name}: {stale}; run again with --stale"), soft_wrap=True)
    timed = timed and options.executor != "ray"  # the driver's machine is not what the trials ran on
    if timed and options.trial is None and not summary.left and not summary.interrupted and not summary.exit_code:
        _time_plan(plan, folder, options.device, options.data_dir, False, console)
    if not summary.interrupted:
        console.print(Text(f"The answer: python -m bench report {shlex.quote(str(grid))}"), soft_wrap=True)
    return summary.exit_code


def _torn(folder: Path) -> dict[str, int]:
    """The files of lines that were set aside, with their sizes."""
    return {path.name: path.stat().st_size for path in folder.glob("*.csv.torn")}


def _given_again() -> list[str]:
    """The options of this call that shape the trials, for a command that repeats one."""
    words, kept = sys.argv[1:], []
    for index, word in enumerate(words):
        name = word.split("=", 1)[0]
        if name in ("--set", "--only", "--seeds", "--results", "--data-dir", "--device", "--timeout"):
            kept += words[index : index + 2] if word == name else [word]
    return kept


def _python() -> str:
    """What to type for the Python that runs this."""
    return "python" if shutil.which("python") == sys.executable else sys.executable


def _show_plan(plan: Plan, options: Any, price: bool, console: Console) -> int:
    from bench.cli.planning import show_plan
    from bench.execute import run as runs
    from bench.execute.price import price_plan
    from bench.record.records import Records
    from bench.record.staleness import find_stale

    try:
        prices = price_plan(plan, options.device, options.jobs, options.data_dir) if price else None
    except (ValueError, OSError) as error:
        raise Refused(f"{plan.name}: cannot be priced: {error}") from error
    stale = find_stale(plan, Records(options.results / plan.name, plan.selecting))
    return show_plan(plan, runs.missing(plan, options), console, prices, stale)


@app.command()
def report(
    grids: RecordedGrids = None,
    results: Annotated[
        list[Path],
        typer.Option(
            metavar="DIR", help="Folder of all results; given again, a grid's results in each of them are pooled."
        ),
    ] = [Path("results")],  # noqa: B006
    form: Annotated[
        str, typer.Option("--format", metavar="NAME", help="table, or csv, json, markdown, latex on standard output.")
    ] = "table",
    paper: Annotated[
        bool, typer.Option("--paper", help="Figures as wide as one and two columns of a paper too, in report/paper/.")
    ] = False,
    show_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Show the answer: tables here; page, figures, LaTeX, Markdown and CSV in results/<grid>/report/.

    Of several grids there is an overview too, in results/report/. Results of one grid in several folders, as from two
    machines, are pooled where settings agree, in results/report/<grid>/ of the first folder; speeds stay apart.
    """
    from bench.analysis.findings import gather
    from bench.record.pool import PoolError
    from bench.report.output import print_report, write_paper, write_report
    from bench.report.overview import overview, print_overview, write_overview
    from bench.report.paper import FORMATS

    if form not in ("table", *FORMATS):
        raise Refused(f"--format must be one of table, {', '.join(FORMATS)}, got {form!r}")
    try:
        all_findings = [gather(first, others=others) for first, *others in _recorded(grids or [], results)]
    except PoolError as error:
        raise Refused(str(error)) from error
    if form != "table":
        sys.stdout.write(FORMATS[form](all_findings))
    for findings in all_findings if paper else []:
        write_paper(findings)
    if form != "table" and not show_page:
        return
    console = Console(highlight=False)
    for findings in all_findings:
        if form == "table":
            print_report(console, findings)
        try:
            page = write_report(findings) / "index.html"
        except OSError as error:
            raise Unrecorded(f"{findings.target}: cannot be written: {error}") from error
        if form == "table":
            where = f"page, figures, LaTeX, Markdown and CSV: {findings.target}\n"
            console.print(Text(where), soft_wrap=True)
    if len(all_findings) > 1:
        rows = overview(all_findings, results[0] / "report")
        page = write_overview(rows, results[0] / "report")
        if form == "table":
            print_overview(console, rows)
            console.print(Text(f"\noverview: {page}"), soft_wrap=True)
    if show_page:
        typer.launch(str(page))


def _recorded(grids: list[Path], results: list[Path]) -> list[list[Path]]:
    """The folders that hold results of each grid; all grids that have any where none is named."""
    names = [load_plan(grid).name for grid in grids]
    names = names or sorted({path.parent.name for folder in results for path in folder.glob("*/grid.yaml")})
    where = ", ".join(map(str, results))
    if not names:
        raise Refused(f"{where}: no results here; python -m bench run GRID makes some")
    found = [[folder / name for folder in results if (folder / name / "trials.csv").exists()] for name in names]
    for name, folders in zip(names, found, strict=True):
        if not folders:
            missing = ", ".join(str(folder / name) for folder in results)
            raise Refused(f"{missing}: no trials.csv here; python -m bench run GRID makes it")
    return found


@app.command()
def export(
    to: Annotated[
        tuple[str, Path],
        typer.Option(
            metavar="TOOL FOLDER", help="tensorboard or mlflow, and the folder for the runs.", show_default=False
        ),
    ],
    grids: RecordedGrids = None,
    results: Results = Path("results"),
) -> None:
    """Write the recorded trials and curves where TensorBoard or MLflow shows them, a run each."""
    from bench.record import export as exporting

    tool, target = to
    if tool not in exporting.TOOLS:
        raise Refused(f"--to must be {' or '.join(exporting.TOOLS)}, and a folder, got {tool!r}")
    try:
        count = exporting.export([folder for (folder,) in _recorded(grids or [], [results])], tool, target)
    except exporting.ExportError as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Unrecorded(f"{target}: cannot be written: {error}") from error
    print(f"{count} runs in {target}: {exporting.LOOK[tool].format(target)}")


@app.command()
def time(
    grids: Grids,
    overrides: Overrides = [],  # noqa: B006
    only: Only = [],  # noqa: B006
    device: Device = "auto",
    results: Results = Path("results"),
    data_dir: DataDir = None,
    force: Annotated[bool, typer.Option("--force", help="Time anew what is recorded.")] = False,
) -> None:
    """Time every distinct model, batch size and precision alone on the device, into timings.csv."""
    plans = [load_plan(grid, overrides=overrides, only=only) for grid in grids]
    console = Console(highlight=False)
    for plan in plans:
        _time_plan(plan, results / plan.name, device, data_dir, force, console)
        console.print(f"{plan.name}: timed; recorded in {results / plan.name / 'timings.csv'}", soft_wrap=True)


def _time_plan(plan: Plan, folder: Path, device: str, data_dir: Path | None, force: bool, console: Console) -> None:
    from bench.execute.timing import time_models, untimed

    wanted = untimed(plan, folder, force=force)
    if not wanted:
        return
    console.print(f"{plan.name}: timing {len(wanted)} models, each alone on the device")
    try:
        rows = time_models(wanted, folder, device=device, data_dir=data_dir)
    except (ValueError, OSError) as error:
        raise Refused(f"{plan.name}: cannot be timed: {error}") from error
    unreliable = sum(not row["reliable"] for row in rows)
    if unreliable:
        console.print(f"[yellow]warning:[/] {unreliable} of them not reliable: the machine's speed drifted meanwhile")


@app.command()
def verify(
    grid: Annotated[Path, typer.Argument(metavar="GRID", help="Grid file.", show_default=False)],
    sample: Annotated[int, typer.Option(metavar="N", min=1, help="How many trials to run again.")] = 5,
    seed: Annotated[int, typer.Option(metavar="N", help="Which ones: the seed of the draw.")] = 0,
    device: Device = "auto",
    results: Results = Path("results"),
    data_dir: DataDir = None,
) -> None:
    """Run a sample of recorded trials again and compare: bit for bit here, within the seeds' spread elsewhere."""
    from bench.execute import verify as verification

    plan = load_plan(grid)
    try:
        folder = results / plan.name
        checks = verification.verify(plan, folder, sample=sample, seed=seed, device=device, data_dir=data_dir)
    except (ValueError, OSError) as error:
        raise Refused(str(error)) from error
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("trial", "cell", "seed", "recorded", "again", "rule", ""):
        table.add_column(name)
    for check in checks:
        again = "failed" if check.again is None else f"{check.again:.4f}"
        told = Text("agrees", style="green") if check.agrees else Text("differs", style="red")
        trial = check.trial
        words = (trial.trial_id, trial.cell.label, str(trial.seed), f"{check.recorded:.4f}", again, check.rule)
        table.add_row(*words, told)
    Console(highlight=False).print(table)
    raise typer.Exit(0 if all(check.agrees for check in checks) else 1)


@app.command()
def schema() -> None:
    """JSON Schema of a grid file, for completion and checking in an editor."""
    import json

    from bench.grid.schema import grid_schema

    print(json.dumps(grid_schema(), indent=2))


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The grid's name: the file is NAME.yaml.")],
) -> None:
    """Write a short commented grid that runs, to start from."""
    from bench.grid.schema import starter_grid

    path = Path(name).with_suffix(".yaml")
    if path.exists():
        raise Refused(f"{path}: is there already; name another")
    if not path.parent.is_dir():
        raise Refused(f"{path}: no such folder: {path.parent}")
    path.write_text(starter_grid(path.stem), encoding="utf-8")
    print(f"{path}: written; python -m bench run {path} --dry-run shows its plan")


@app.command(name="list")
def list_parts(
    parts: Annotated[list[str] | None, typer.Argument(metavar="PART", help="Only these, or import paths.")] = None,
) -> None:
    """Models, data sets, optimizers and schedules, with their settings and defaults."""
    from lab.parts import section_of, settings_type
    from lab.settings import NOUNS, PARTS, SECTIONS, TrainSettings, did_you_mean

    console = Console(highlight=False)
    if not parts:
        for section, known in PARTS.items():
            console.print(Text(f"{section}", style="bold"))
            _list_settings(console, "(all)", SECTIONS[section], skip=set())
            for name, kind in known.items():
                _list_settings(console, name, kind, skip=set(SECTIONS[section].model_fields))
        console.print(Text("train", style="bold"))
        _list_settings(console, "(all)", TrainSettings, skip=set())
        return
    for part in parts:
        found = [(section, known[part]) for section, known in PARTS.items() if part in known]
        if ":" in part:
            try:
                section = section_of(part)
                found = [(section, settings_type(section, part))]
            except ValueError as error:
                raise Refused(str(error)) from error
        if not found:
            names = [name for known in PARTS.values() for name in known]
            raise Refused(f"{part!r}: no such part{did_you_mean(part, names)}; there are {', '.join(names)}")
        for section, kind in found:
            console.print(Text(NOUNS[section], style="bold"))
            _list_settings(console, part, kind, skip=set())


def _list_settings(console: Console, name: str, kind: type[Section], skip: set[str]) -> None:
    from lab.settings import describe_field

    doc = (kind.__doc__ or "").strip().splitlines()
    console.print(Text.assemble("  ", (name, "cyan"), f"  {doc[0]}" if doc and name != "(all)" else ""))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for setting, field in kind.model_fields.items():
        if setting not in skip:
            default = "required" if field.is_required() else f"[{_yaml(field.default)}]"
            table.add_row("     ", setting, Text(default), Text(describe_field(field)), field.description or "")
    if table.row_count:
        console.print(table)


def _yaml(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@app.command()
def show(
    trial_id: Annotated[str, typer.Argument(metavar="TRIAL_ID", help="The id, or how it begins.")],
    results: Results = Path("results"),
) -> None:
    """One trial: settings, curve, environment, error, and the command that repeats it."""
    from bench.record.records import Records
    from bench.record.status import Status

    found = [
        (folder.parent, row)
        for folder in sorted(results.glob("*/trials.csv"))
        for row in Records(folder.parent).trials.rows()
        if row["trial_id"].startswith(trial_id)
    ]
    ids = sorted({row["trial_id"] for _, row in found})
    if len(ids) != 1:
        what = f"is the beginning of {', '.join(ids)}" if ids else "no such trial"
        raise Refused(f"{trial_id!r}: {what} in {results}")
    folder, row = found[-1]
    console = Console(highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in row.items():
        if value:
            table.add_row(Text(name, style="bold"), Text(value))
    console.print(table)
    _show_stale(console, folder, ids[0])
    _show_curve(console, [point for point in Records(folder).curves.rows() if point["trial_id"] == ids[0]])
    log = folder / "logs" / f"{ids[0]}.log"
    if Status(row["status"]).is_failed and log.exists():
        console.print(Text(f"\n{log}", style="bold"))
        console.print(Text(log.read_text(encoding="utf-8", errors="replace")))
    again = [_python(), "-m", "bench", "run", str(folder / "grid.yaml"), "--results", str(results)]
    console.print(Text(f"\nagain: {shlex.join([*again, '--trial', ids[0], '--force'])}"), soft_wrap=True)


def _show_stale(console: Console, folder: Path, trial_id: str) -> None:
    """Whether the trial was made by other source code; nothing where its grid cannot be read here."""
    from bench.record.records import Records
    from bench.record.staleness import find_stale

    try:
        plan = load_plan(folder / "grid.yaml")
        changed = find_stale(plan, Records(folder, plan.selecting)).changed
    except GridError:
        return
    if trial_id in changed:
        what = ", ".join(changed[trial_id]) or "what changed since is not recorded"
        console.print(Text(f"stale: made by other source code than what is here now: {what}", style="yellow"))


def _show_curve(console: Console, points: list[dict[str, str]]) -> None:
    known = [name for name in (points[0] if points else []) if name not in ("trial_id", "epoch", "step")]
    names = ["epoch", "step", *(name for name in known if all(point[name] for point in points))]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        table.add_column(name, justify="right")
    last = max((i for i, point in enumerate(points) if point["step"] == "0"), default=0)
    for point in points[last:]:
        table.add_row(*(f"{float(point[name]):.5g}" for name in names))
    if table.row_count:
        console.print(table)
