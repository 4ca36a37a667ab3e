"""What Tab offers: through the scripts that are installed, as bash, zsh and fish call them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bench.cli import completion, main

GRID = """
    question: Does it matter?
    base:
      optimizer: {name: sgd, lr: 0.1}
    factors:
      model.residual: [true, false]
      model.width: {small: 4, large: 16}
    seeds: 2
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grids/deep/er").mkdir(parents=True)
    for name in ("grids/one.yaml", "grids/deep/er/two.yaml", ".hidden.yaml"):
        Path(name).write_text(textwrap.dedent(GRID))
    Path("grids/other.yaml").write_text("steps: [1, 2]\n")
    Path("results/one").mkdir(parents=True)
    Path("results/one/grid.yaml").write_text(textwrap.dedent(GRID))
    Path("results/one/trials.csv").write_text("trial_id,grid\n0123456789ab,one\nabcdef012345,one\n")


def offered(*words: str, shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a shell gets for the words, of which the last is being typed."""
    if shell == "bash":  # its words, cut at each `=`
        cut = [part for word in words for part in word.replace("=", "\n=\n").strip("\n").split("\n")]
        monkeypatch.setenv("COMP_WORDS", "\n".join(("bench", *cut)))
        monkeypatch.setenv("COMP_CWORD", str(len(cut)))
    else:
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", " ".join(("bench", *words)))
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    monkeypatch.setenv(completion.VARIABLE, f"complete_{shell}")
    monkeypatch.setattr(sys, "argv", ["bench"])
    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().out.splitlines()
    return [line.partition("\t")[0] for line in lines if line]


@pytest.mark.parametrize("shell", ["bash", "fish"])
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["rep"], ["report"]),
        (["run", "gri"], ["grids/one.yaml", "grids/deep/er/two.yaml"]),
        (["run", "grids/deep/"], ["grids/deep/er/two.yaml"]),
        (["run", "grids/one.yaml", "--only", "model.res"], ["model.residual=true", "model.residual=false"]),
        (["run", "grids/one.yaml", "--set", "opt"], ["optimizer.name=sgd", "optimizer.lr=0.1"]),
        (["report", "grids/one.yaml", "--only", "model.w"], ["model.width=small", "model.width=large"]),
        (["run", "grids/one.yaml", "--rerun", "s"], ["stale"]),
        (["run", "--trial", "01"], ["0123456789ab"]),
        (["show", ""], ["abcdef012345", "0123456789ab"]),
        (["list", "resnet3"], ["resnet34"]),
        (["new", "--from", "residual"], ["residual_vs_plain"]),
        (["run", "--executor", "in"], ["inline"]),
        (["report", "--format", "m"], ["markdown"]),
    ],
    ids=lambda words: " ".join(words),
)
def test_commands_grids_factors_levels_and_names_are_completed(
    words: list[str],
    found: list[str],
    shell: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sorted(offered(*words, shell=shell, monkeypatch=monkeypatch, capsys=capsys)) == sorted(found)


@pytest.mark.parametrize(
    ("word", "bash", "fish"),
    [
        ("model.width=", ["small", "large"], ["model.width=small", "model.width=large"]),
        ("model.width=s", ["small"], ["model.width=small"]),
        ("model.width=small,", ["small,large"], ["model.width=small,large"]),
    ],
)
def test_bash_gets_what_follows_the_equals_sign_that_it_cuts_at(
    word: str,
    bash: list[str],
    fish: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for shell, found in (("bash", bash), ("fish", fish)):
        got = offered("run", "grids/one.yaml", "--only", word, shell=shell, monkeypatch=monkeypatch, capsys=capsys)
        assert sorted(got) == sorted(found)


def test_the_script_for_bash_completes_a_level(tmp_path: Path) -> None:
    """In a bash of its own, by the function that the installed script makes."""
    if (bash := shutil.which("bash")) is None:
        pytest.skip("bash is not installed")
    command = tmp_path / "bin" / "bench"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m bench "$@"\n')
    command.chmod(0o755)
    typed = textwrap.dedent(
        """
        source <(bench --show-completion bash)
        COMP_WORDS=(bench run grids/one.yaml --only model.residual = t); COMP_CWORD=6
        _bench_completion bench
        echo "${COMPREPLY[@]}"
        """
    )
    path = os.pathsep.join((str(command.parent), os.environ["PATH"]))
    root = str(Path(__file__).parents[1])
    env = os.environ | {"PATH": path, "PYTHONPATH": root}
    done = subprocess.run([bash, "-c", typed], capture_output=True, text=True, env=env, check=True)
    assert done.stdout == "true\n"


def test_a_grid_with_faults_offers_nothing_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("torn.yaml").write_text("question: [\n")
    assert offered("run", "torn.yaml", "--only", "m", shell="fish", monkeypatch=monkeypatch, capsys=capsys) == []
