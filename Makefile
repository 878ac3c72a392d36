# From a bare clone, with Python 3.11 and make only:  make demo  |  make test
# TORCH_INDEX=URL: another index for torch, such as the one with the CPU builds.

PYTHON ?= $(shell for p in python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
TORCH_INDEX ?=
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: demo test check bench docs tutorials install
.DEFAULT_GOAL := demo

demo: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/undertow demo $(DEMO_ARGS)

test: $(STAMP)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile $(TEST_ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	@set -e; for file in $(wildcard benchmarks/*.py); do \
		echo "== $$file"; HF_HUB_OFFLINE=1 $(BIN)/python "$$file"; done

# writes what the tutorials show anew, where it is no longer what is printed
tutorials: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/python tests/docs/tutorials.py

docs: $(STAMP)
	$(BIN)/python -m undertow.cli.reference > docs/reference.md

install: $(STAMP)

$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "undertow needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# torch first and alone: then nothing later can choose another build of it
$(STAMP): pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing into $(VENV): about 3 GB, a few minutes the first time"
	$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch==2.13.0
	$(PIP) -e '.[local,inspect,dev]'
	@npm ci --prefix tests/browser --ignore-scripts --no-audit --no-fund --silent 2>/dev/null || \
		echo "without axe-core: npm is missing or offline, and one test is skipped"
	@touch $@
