"""``python -m bench``."""

import sys

if __name__ == "__main__":  # worker processes import this module under another name
    sys.path.append(sys.path.pop(0))  # the working folder comes last: no file there stands in the way of ours
    try:
        from bench.cli import main

        main()
    except KeyboardInterrupt:  # also while modules are imported
        sys.exit(130)
