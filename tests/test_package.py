"""What an installation holds beside its modules."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SOURCES = ("bench", "lab", "grids", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of a wheel, built from the sources that an sdist holds."""
    pytest.importorskip("setuptools", minversion="77", reason="builds the wheel")
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('made'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (source / "made").glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_has_every_module_and_what_they_read(names: set[str]) -> None:
    files = {path.relative_to(ROOT).as_posix() for room in ("bench", "lab") for path in (ROOT / room).rglob("*.py")}
    files |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "bench/report/templates").iterdir()}
    assert files | {"bench/py.typed", "lab/py.typed"} <= names


def test_the_wheel_has_the_grids_with_their_code_and_schema_and_no_package_of_that_name(names: set[str]) -> None:
    shipped = {path.relative_to(ROOT / "grids").as_posix() for path in (ROOT / "grids").rglob("*.*")}
    assert {f"bench/shipped/{name}" for name in shipped if not name.endswith(".pyc")} <= names
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"bench", "lab"}


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert {"cff-version", "message", "title", "authors", "type"} <= set(citation)


def test_contributing_names_what_there_is() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`make ([\w-]+)`", text)) <= set(phony.split())
    for path in re.findall(r"`((?:tests|results|docs|grids|lab|\.ci)/[\w./]*)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("package", ["filelock", "rich", "yaml"])
def test_a_package_that_lacks_is_one_message(package: str) -> None:
    hidden = f"import runpy, sys; sys.modules[{package!r}] = None; sys.argv[:] = ['bench', 'doctor']"
    run = "runpy.run_module('bench', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", f"{hidden}; {run}"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 2
    assert f"the package {package} is not installed" in done.stderr
    assert len(done.stderr.splitlines()) == 1
