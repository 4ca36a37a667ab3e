"""``import bench``: what the commands do, as functions for notebooks and scripts."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest
import yaml

import bench
from bench.analysis.columns import FILES, TABLES, describe
from bench.cli.options import CommandError

ROOT = Path(__file__).parents[1]
GRID = """
question: Does a wider network do better?
base:
  data: {name: digits, limit: 200}
  model: {name: mlp}
  optimizer: {name: momentum, lr: 0.05}
  train: {epochs: 1}
factors: {model.hidden: [[4], [8]]}
baseline: {model.hidden: [4]}
seeds: 2
"""


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wide.yaml").write_text(GRID)
    return tmp_path / "wide.yaml"


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False)


# --- what is there --------------------------------------------------------------------------------------------------


def test_import_loads_neither_torch_nor_pandas_nor_the_commands(tmp_path: Path) -> None:
    code = "import bench, sys; print([name for name in ('torch', 'pandas', 'numpy', 'typer') if name in sys.modules])"
    assert python(code, tmp_path).stdout == "[]\n"


def test_the_functions_are_listed_and_say_what_they_take() -> None:
    assert {"load_plan", "run", "findings"} <= set(dir(bench))
    for function in (bench.load_plan, bench.run, bench.findings):
        documented = function.__doc__ or ""
        for name in function.__annotations__.keys() - {"return"}:
            assert f"{name}:" in documented, (function, name)


def test_there_is_nothing_else() -> None:
    with pytest.raises(AttributeError, match="no attribute 'plot'"):
        bench.plot  # noqa: B018


# --- a plan, a run, an answer ---------------------------------------------------------------------------------------


SCRIPT = """
import sys
import bench
print("begins")
plan = bench.load_plan("wide.yaml", overrides=["train.label_smoothing=0.1"], seeds=1)
print("plan:", [(trial.seed, trial.lab.train.label_smoothing) for trial in plan.trials])
ran = bench.run(plan, jobs=2, device="cpu", timed=False)
print("ran:", dict(ran.statuses), ran.exit_code)
again = bench.run(plan, jobs=2, device="cpu", timed=False, quiet=True)
print("again:", dict(again.statuses), again.exit_code)
found = bench.findings(plan)
print("found:", found.coverage, len(found.cells), list(found.effects["level"]))
print("still:", __name__, __file__, "torch" in sys.modules)
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a script prints that runs a grid, and has no `if __name__ == "__main__":`."""
    folder = tmp_path_factory.mktemp("script")
    (folder / "wide.yaml").write_text(GRID)
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def said(lines: list[str], start: str) -> str:
    (found,) = [line.removeprefix(start) for line in lines if line.startswith(start)]
    return found


def test_a_plan_takes_options_as_the_command_does(script: list[str]) -> None:
    assert said(script, "plan: ") == "[(0, 0.1), (0, 0.1)]"


def test_a_run_says_and_returns_what_happened(script: list[str]) -> None:
    assert said(script, "wide: 2 ok in ").endswith("recorded in results/wide/trials.csv")
    assert said(script, "ran: ") == "{'ok': 2} 0".replace("'ok'", "<Status.OK: 'ok'>")
    assert said(script, "again: ") == "{} 0"


def test_findings_have_the_answer_and_its_tables(script: list[str]) -> None:
    assert said(script, "found: ") == "2 of 2 trials 2 ['[8]']"


def test_workers_do_not_run_the_script_again_and_its_process_stays_as_it_was(script: list[str]) -> None:
    said(script, "begins")
    name, file, has_torch = said(script, "still: ").split()
    assert (name, Path(file).name, has_torch) == ("__main__", "script.py", "False")


def test_a_module_that_changed_since_it_was_imported_is_read_again(grid: Path) -> None:
    sys.path.insert(0, str(grid.parent))
    try:
        text = GRID.replace("{name: mlp}", "{name: 'nets_here:Net'}")
        grid.write_text(
            text.replace("model.hidden: [[4], [8]]", "model.width: [4, 8]").replace("hidden: [4]", "width: 4")
        )
        source = (
            "from torch import nn\nclass Net(nn.Sequential):\n"
            "    def __init__(self, in_channels, num_classes, size, {}=4):\n"
            "        super().__init__(nn.Flatten(), nn.Linear(in_channels * size * size, num_classes))\n"
        )
        module = grid.with_name("nets_here.py")
        module.write_text(source.format("depth"))
        import nets_here

        with pytest.raises(bench.Refusal, match=r"model\.width: no such setting"):
            bench.load_plan(grid)
        module.write_text(source.format("width") + "# longer than before\n")
        assert len(bench.load_plan(grid).trials) == 4
        assert sys.modules["nets_here"] is nets_here
    finally:
        sys.path.remove(str(grid.parent))
        sys.modules.pop("nets_here", None)


def test_a_thread_runs_a_grid_too() -> None:
    """As some notebooks have it, and servers: signals stay the main thread's."""
    from bench.execute.run import stopping

    def stop() -> None:
        with stopping(None, print) as asked:  # type: ignore[arg-type]  # no signal comes
            found.append(asked)

    found: list[list[int]] = []
    thread = threading.Thread(target=stop)
    thread.start()
    thread.join()
    assert found == [[]]


# --- refusals -------------------------------------------------------------------------------------------------------


def test_a_refusal_is_an_exception_with_the_message_of_the_command(grid: Path) -> None:
    grid.write_text(GRID.replace("epochs: 1", "epoch: 1"))
    with pytest.raises(bench.Refusal) as refused:
        bench.load_plan("wide.yaml")
    done = python(
        "import sys; sys.argv = ['bench', 'run', 'wide.yaml']; from bench.cli import main; main()", grid.parent
    )
    assert (f"{refused.value}\n", done.returncode) == (done.stderr, 2)
    assert refused.value._render_traceback_() == [f"bench.Refusal: {refused.value}"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"executor": "cloud"}, r"--executor must be one of local, inline, ray, got 'cloud'"),
        ({"jobs": 0}, r"jobs must be at least 1, got 0"),
        ({"address": "auto"}, r"address: no such option of the executor local; allowed: none"),
        ({"device": "tpu"}, r"tpu"),
    ],
)
def test_options_that_cannot_be_are_refused(grid: Path, given: dict[str, object], message: str) -> None:
    with pytest.raises(bench.Refusal, match=message):
        bench.run(grid, **given)  # type: ignore[arg-type]


def test_a_grid_that_is_no_file_and_a_function_of_a_cell_are_refused_in_words(tmp_path: Path) -> None:
    grid = {"question": "?", "run": {"function": "__main__:run"}, "metrics": {"rmse": {"better": "lower"}}, "seeds": 1}
    for command in (bench.run, bench.load_plan, bench.findings):
        with pytest.raises(bench.Refusal, match=r"a grid is the path of its file, .* got dict; a mapping is written"):
            command(grid)  # type: ignore[operator]
    (tmp_path / "cell.yaml").write_text(yaml.safe_dump(grid | {"factors": {"width": [1, 2]}}))
    with pytest.raises(
        bench.Refusal, match=r"run.function: must be a function of a module's file: what a script or a n"
    ):
        bench.run(tmp_path / "cell.yaml", results=tmp_path)


def test_what_is_not_recorded_has_no_findings(grid: Path) -> None:
    with pytest.raises(bench.Refusal, match=r"results/wide: no trials.csv here"):
        bench.findings(grid)


def test_a_stop_is_recorded_and_then_raised(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.cli import python as functions
    from bench.execute.run import Summary

    monkeypatch.setattr(functions, "run_one", lambda *given: Summary(interrupted=True))
    with pytest.raises(KeyboardInterrupt, match="resumes it"):
        bench.run(grid)


def test_other_errors_stay_what_they_are(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.cli import python as functions

    def refuse(*given: object) -> None:
        raise CommandError("not here")

    monkeypatch.setattr(functions, "run_one", refuse)
    with pytest.raises(bench.Refusal, match="not here") as refused:
        bench.run(grid)
    assert refused.value.__suppress_context__


# --- what a notebook shows ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference() -> bench.Findings:
    return bench.findings(ROOT / "results" / "reference" / "residual_vs_plain")


def test_findings_show_themselves(reference: bench.Findings) -> None:
    html = reference._repr_html_()
    assert reference.plan.question in html
    assert html.count('class="ruling supported"') == (reference.hypotheses["ruling"] == "supported").sum()
    assert html.count("<svg") == reference.effects["difference"].notna().sum()
    assert "http" not in html


def test_text_of_a_grid_is_escaped(reference: bench.Findings) -> None:
    from dataclasses import replace

    plan = replace(reference.plan, question="Is <b>2 > 1</b>?")
    assert "Is &lt;b&gt;2 &gt; 1&lt;/b&gt;?" in replace(reference, plan=plan)._repr_html_()


def test_a_drawing_places_every_end_on_one_scale_with_zero() -> None:
    from bench.report.notebook import WIDTH, drawings

    nan = float("nan")
    table = pd.DataFrame(
        [[-1.0, 1.0, 3.0], [nan, nan, nan], [nan, 2.0, nan]],
        columns=["difference_low", "difference", "difference_high"],
    )
    first, missing, single = drawings(table)
    assert first == {"low": 6.0, "middle": WIDTH / 2, "high": WIDTH - 6.0, "zero": 6 + (WIDTH - 12) / 4}
    assert missing is None
    assert single is not None
    assert single["low"] == single["middle"] == single["high"] == 6 + (WIDTH - 12) * 0.75


def test_every_column_of_every_table_is_described(reference: bench.Findings) -> None:
    own = {"a measure that the trial reported"}
    tables = [name for name, value in vars(reference).items() if isinstance(value, pd.DataFrame)]
    assert {*tables, "levels"} <= TABLES.keys()
    for table in (*tables, "levels"):
        meanings = reference.columns(table)
        assert not own & set(meanings["holds"]), meanings[meanings["holds"].isin(own)]
    with pytest.raises(ValueError, match="table must be levels or one of effects"):
        reference.columns("effect")


def test_every_column_of_the_record_is_described() -> None:
    folder = ROOT / "results" / "reference" / "residual_vs_plain"
    for file in ("trials.csv", "curves.csv", "correct.csv", "sources.csv", "data.csv"):
        for column in pd.read_csv(folder / file, nrows=1).columns:
            assert describe(FILES[file], column) != "a measure that the trial reported", (file, column)


def test_own_measures_and_intervals_are_told_by_their_names() -> None:
    assert describe("cells", "test_rmse_low") == "lower end of the 95 % interval of `test_rmse`"
    assert describe("trials", "test_macro_f1") == "mean F1 of the classes on test, read once, at the selected epoch"
    assert describe("trials", "model.width") == "the setting of that path"
    assert describe("trials", "bleu") == "a measure that the trial reported"
