# `make check` before every commit (under 10 minutes on two cores); CI also runs `make check-all` with every extra.
PYTHON := $(if $(wildcard .venv/bin/python),.venv/bin/python,python)

.PHONY: docs reference studies check check-all lint types test cluster-tests place-tests speed-tests speed-check speed-baseline speed torture

check: lint types test

# What takes longer: a Ray cluster whose nodes come and go, limits of the kernel, Slurm, and runs that are killed.
check-all: check cluster-tests place-tests docs
	$(PYTHON) tests/torture.py --kills 10
	$(PYTHON) tests/torture_rows.py --kills 10 --trials 500

# The site, in site/: its reference, gallery and notebook are made from the code and from recorded results; a broken link or
# anchor fails. Needs the extra docs.
docs:
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet

cluster-tests:
	$(PYTHON) -m pytest tests/test_ray.py tests/test_ray_own.py -m cluster

place-tests:
	$(PYTHON) -m pytest -m places

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest -n 2 --dist loadfile

speed-tests:
	$(PYTHON) -m pytest tests/speed

# Against tests/speed/baseline.json, by ratio to a canary; speed-baseline writes that file.
speed-check speed-baseline:
	mkdir -p .benchmarks
	$(PYTHON) -m pytest tests/speed -q --benchmark-columns=min,median,rounds --benchmark-json .benchmarks/speed.json
	$(PYTHON) tests/speed/compare.py .benchmarks/speed.json $(if $(filter speed-baseline,$@),--save)

# The same training by us and by others (needs the extra peers), and what the harness itself costs. About 12 minutes on
# two cores with nothing else running.
speed:
	$(PYTHON) tests/speed/peers.py
	$(PYTHON) tests/speed/costs.py

torture:
	$(PYTHON) tests/torture.py --kills 200
	$(PYTHON) tests/torture.py --kills 60 --drivers 2
	$(PYTHON) tests/torture_rows.py --kills 200
	ANY_CODE=3000 $(PYTHON) -m pytest tests/test_any_code.py -q

# Reruns the reference results where the laboratory changed, and updates the README's claims from them; 20 minutes on two cores.
reference:
	$(PYTHON) -m bench.studies.reference

# What docs/statistics.md says of the answers: 22 minutes of one core beside other work, shared among as many processes as there are.
studies:
	$(PYTHON) -m bench.studies.validity --repetitions 4000
