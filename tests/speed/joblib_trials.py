"""All trials by joblib: ``joblib_trials.py RECORD NUM_PROCESSES``."""

from __future__ import annotations

import sys
from pathlib import Path

from drivers import train, trials
from joblib import Parallel, delayed

if __name__ == "__main__":
    Parallel(n_jobs=int(sys.argv[2]))(delayed(train)(trial, Path(sys.argv[1])) for trial in trials())
