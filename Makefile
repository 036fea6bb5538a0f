# `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SWEEP ?= sweeps/aesthetic.yaml
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help install run quickstart test test-slow test-gpu lint types format schema clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

install: $(STAMP) ## create the environment (.venv) and install everything, pinned by constraints.txt

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

run: $(STAMP) ## install, then run the aesthetic sweep and write its report (SWEEP=... for another)
	$(BIN)/bench run $(SWEEP)

quickstart: $(STAMP) ## base and alignprop, one seed, under 90 seconds
	$(BIN)/bench run sweeps/quickstart.yaml

test: $(STAMP) ## unit and integration tests
	$(BIN)/python -m pytest -m 'not slow and not gpu'

test-slow: $(STAMP) ## the slow tier
	$(BIN)/python -m pytest -m slow

test-gpu: $(STAMP) ## tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

lint: $(STAMP) ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy
	$(BIN)/mypy

format: $(STAMP) ## rewrite the sources as ruff formats them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: $(STAMP) ## rewrite the JSON Schema that editors complete sweeps from
	$(BIN)/python -m bench.sweep > sweeps/schema.json

clean: ## remove the environment, caches and build files (never runs/)
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
