"""Loaded once by the server process that workers are forked from: they start with torch imported.

A SIGTERM to the whole group is the driver's to handle; it must not take the server, and the workers with it.
"""

import importlib
import signal

for name in ("torch._dynamo", "lab.trial", "bench.worker"):  # the first: the first optimizer of a process imports it
    importlib.import_module(name)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
