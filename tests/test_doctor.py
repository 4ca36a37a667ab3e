"""What the doctor finds: from this machine, and from ones that lack something."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from packaging.requirements import Requirement
from typer.testing import CliRunner

from bench.cli import app
from bench.execute import health
from bench.execute.health import Check, State
from bench.record import extras
from lab.data.published import PUBLISHED

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def states(found: list[Check]) -> dict[str, State]:
    return {check.name: check.state for check in found}


def test_a_machine_that_can_run_the_main_job_is_told_so_and_nothing_is_left_behind() -> None:
    done = CliRunner().invoke(app, ["doctor", "--device", "cpu"], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == "the main job can run here"
    for words in ("Python", "device cpu", "cores", "digits, breast_cancer, wine, diabetes", "hold between processes"):
        assert words in done.output
    assert not list(Path().iterdir())


def test_one_thing_wrong_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "main_job", lambda *_: iter(()))
    monkeypatch.setattr(health, "folders", lambda _: iter([Check("results", State.WRONG, "cannot be written")]))
    done = CliRunner().invoke(app, ["doctor", "--device", "cpu"])
    assert done.exit_code == 1
    assert "the main job cannot run here" in done.output


def test_a_device_that_is_not_there_is_wrong() -> None:
    found = list(health.machine("cuda:99"))
    assert states(found)["device"] is State.WRONG
    assert "this machine has" in found[-1].told


def test_a_package_that_lacks_or_is_too_old_is_wrong_and_told_how_to_get(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = ["numpy>=1.26", "absent-package>=2", "pandas>=9999", "ray>=2; extra == 'ray'"]
    monkeypatch.setattr(health.metadata, "requires", lambda _: declared)
    found = {check.name: check for check in health.versions()}
    assert found["absent-package"].told == "not installed: pip install 'absent-package>=2'"
    assert found["pandas"].state is State.WRONG
    assert found["packages"].told.startswith("numpy ")
    assert "ray" not in found


def test_data_sets_are_looked_for_where_torchvision_and_debian_keep_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.data.published.DEBIAN_FASHION_MNIST", tmp_path / "absent")
    for place in ("MNIST/raw/train-images-idx3-ubyte", "cifar-10-batches-py/data_batch_1"):
        (tmp_path / "root" / place).parent.mkdir(parents=True)
        (tmp_path / "root" / place).touch()
    bundled, here, absent = health.data_sets(tmp_path / "root")
    assert (bundled.state, bundled.name) == (State.HERE, "digits, breast_cancer, wine, diabetes")
    assert (here.state, here.name) == (State.HERE, "mnist, cifar10")
    assert (absent.state, absent.name) == (State.MISSING, "fashion_mnist, kmnist, emnist, cifar100, svhn")
    assert "--data-dir" in absent.told
    assert set(health.PLACES) < set(PUBLISHED)


def test_extras_are_those_that_the_package_declares() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert health.PURPOSES.keys() == extras.EXTRAS.keys()
    for extra, modules in extras.EXTRAS.items():
        assert list(modules.values()) == [Requirement(one).name for one in declared[extra]]


def test_an_extra_that_lacks_is_told_how_to_get(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras.metadata, "requires", lambda _: ["alembic>=1.13,<2; extra == 'mlflow'"])
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name == "alembic" else name)
    found = {check.name: check for check in health.extras()}
    assert found["ray"].state is State.HERE
    assert found["mlflow"].told == "export to MLflow: pip install 'alembic<2,>=1.13'"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o500)
    (check,) = health.folders(tmp_path / "shut" / "results")
    assert (check.state, "--results names another folder" in check.told) == (State.WRONG, True)


def test_a_results_folder_that_is_a_file_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "results").touch()
    (check,) = health.folders(tmp_path / "results")
    assert check.state is State.WRONG


@pytest.mark.parametrize(
    ("acquire", "told"),
    [
        (lambda self, *a, **k: None, "a second process took a lock that was held"),
        (lambda self, *a, **k: (_ for _ in ()).throw(OSError(95, "not supported")), "there are none"),
    ],
)
def test_locks_that_do_not_hold_are_wrong(
    acquire: Callable[..., None], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileLock, "acquire", acquire)
    found = {check.name: check for check in health.folders(tmp_path)}
    assert (found["locks"].state, told in found["locks"].told) == (State.WRONG, True)
