"""``python -m bench``."""

import sys

try:
    from bench.cli import main

    main()
except KeyboardInterrupt:  # also while modules are imported
    sys.exit(130)
