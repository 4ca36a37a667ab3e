"""Ships ``grids/`` in the package, as ``bench/shipped``, for ``bench new --from``; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithGrids(build_py):
    """Copies the grids and the code beside them; an editable installation reads them where they are."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "bench" / "shipped"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree("grids", target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))


setup(cmdclass={"build_py": BuildWithGrids})
