"""``python -m bench``, and the installed script ``bench``."""

import gc
import sys


def main() -> None:
    """Runs the command; an installation that lacks a package is one message, and exit code 2."""
    try:
        gc.disable()  # what an import makes stays: to look for garbage among it takes a tenth of the time
        try:
            from bench.cli import main as command
        except ModuleNotFoundError as error:
            how = f"{sys.executable} -m pip install brings it, with ablation-bench or by its name"
            name = (error.name or "").partition(".")[0]
            print(f"the package {name} is not installed: {how}", file=sys.stderr)
            sys.exit(2)
        gc.enable()
        command()
    except KeyboardInterrupt:  # also while modules are imported
        sys.exit(130)


if __name__ == "__main__":  # worker processes import this module under another name
    sys.path.append(sys.path.pop(0))  # the working folder comes last: no file there stands in the way of ours
    main()
