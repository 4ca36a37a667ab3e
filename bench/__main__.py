"""``python -m bench``."""

import sys

if __name__ == "__main__":  # worker processes import this module under another name
    try:
        from bench.cli import main

        main()
    except KeyboardInterrupt:  # also while modules are imported
        sys.exit(130)
