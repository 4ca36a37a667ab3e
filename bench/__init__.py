"""The driver: grids in, trained trials, records, statistics and a report out."""

import os
import sys

# An editable installation may be found by a hook alone, after all of `sys.path`: a `lab.py` of the working folder,
# which comes last on that path, would stand in the way of ours here and in every process that inherits the path.
if (_root := __path__[0].removesuffix(f"{os.sep}bench")) not in sys.path:
    sys.path.append(_root)
