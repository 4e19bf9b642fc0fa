# Commands: `make demo`, `make ui`, `make server`, `make test`, `make docs`, `make bench`, `make soak`
# and `make faults`. All make .venv first and need Python 3.11-3.13.
PYTHON ?= python3
BIN := .venv/bin
export MLFLOW_DISABLE_TELEMETRY := true
# Each of hundreds of processes would compile the project anew.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(CURDIR)/$(BIN):$(PATH)

# The tracking store, whole or not at all: `mlflow run` would make it bit by bit.
STORE := python -c 'import mlflow; from pipeline.tracking.schema import make_ready; make_ready(mlflow.get_tracking_uri())'

.PHONY: demo ui server test test-ui docs bench soak faults lint format clean

demo: .venv/installed
	@$(STORE)
	mlflow run . --env-manager local

# On the store in use, for this machine alone.
ui: .venv/installed
	python -m pipeline ui

# For a team: docs/server.md. Its password comes from MLFLOW_AUTH_ADMIN_PASSWORD.
server: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[server]'
	python -m pipeline server

# Three processes with a thread each, on two cores: many tests wait for processes of their own. The long
# files come first (tests/conftest.py).
test: .venv/installed-dev
	OMP_NUM_THREADS=1 python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# MLflow's pages in a browser, Debian's Chromium or Chrome. With PICTURES=docs/images it makes the
# pictures of the README anew.
test-ui: .venv/installed-dev
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[ui]'
	OMP_NUM_THREADS=1 python -m pytest tests/ui

# The site, in docs/_build/html; a warning is an error.
docs: .venv/installed-dev
	python -m sphinx -W --keep-going -q -b html docs docs/_build/html

# What runs on any machine, one after another, in the order of docs/performance.md.
bench: .venv/installed-dev
	for name in training ranking baselines preparation scale tracking serving recommend; do \
		python -m benchmarks.$$name || exit 1; echo; done

# Kills commands at random moments and audits what is left: docs/reliability.md.
soak: .venv/installed-dev
	OMP_NUM_THREADS=1 python -m tests.soak --kills 100

# Meets every fault of a server, a disk, a user or a clock: a table. Mounts need root.
faults: .venv/installed-dev
	OMP_NUM_THREADS=1 python -m tests.faults

lint: .venv/installed-dev
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-logo

format: .venv/installed-dev
	ruff check --fix .
	ruff format .

clean:
	rm -rf .venv dist docs/_build docs/reference *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else f"Python 3.11-3.13 is needed, $(PYTHON) is {sys.version.split()[0]}: make demo PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
