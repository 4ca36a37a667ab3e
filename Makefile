# `make check` is what CI runs.
PYTHON := $(if $(wildcard .venv/bin/python),.venv/bin/python,python)

.PHONY: check lint types test speed-tests torture

check: lint types test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest

speed-tests:
	$(PYTHON) -m pytest tests/speed

torture:
	$(PYTHON) tests/torture.py --kills 200
	$(PYTHON) tests/torture.py --kills 60 --drivers 2
