"""All trials by joblib: ``joblib_trials.py RECORD NUM_PROCESSES``."""

from __future__ import annotations

import sys
from pathlib import Path

from joblib import Parallel, delayed

from grids import train, trials

if __name__ == "__main__":
    Parallel(n_jobs=int(sys.argv[2]))(delayed(train)(trial, Path(sys.argv[1])) for trial in trials())
