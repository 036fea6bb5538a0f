# `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SWEEP ?= sweeps/aesthetic.yaml
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help install run quickstart gate test test-slow test-gpu benchmark benchmark-gpu benchmark-overhead benchmark-scale gpu gpu-wheels lint types format schema memory-table settings-page emoji-figures clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

install: $(STAMP) ## create the environment (.venv) and install everything, pinned by constraints.txt

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[deepspeed,dev,peers,search]'
	@touch $@

run: $(STAMP) ## install, then run the aesthetic sweep and write its report (SWEEP=... for another)
	$(BIN)/bench run $(SWEEP)

quickstart: $(STAMP) ## base and alignprop, one seed, under 90 seconds
	$(BIN)/bench run sweeps/quickstart.yaml

gate: $(STAMP) ## run the gate's sweep afresh and hold it against its baseline, about a minute
	rm -rf build/gate
	$(BIN)/bench run sweeps/gate.yaml --executor inline --out build/gate
	$(BIN)/bench check build/gate --baseline sweeps/baselines/gate.json

test: $(STAMP) ## unit and integration tests, two files at a time
	$(BIN)/python -m pytest -m 'not slow and not gpu' -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(STAMP) ## the slow tier, two files at a time, and what measures seconds alone
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile --ignore tests/performance
	$(BIN)/python -m pytest -m slow tests/performance

test-gpu: $(STAMP) ## tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

gpu: $(STAMP) ## what a GPU makes of it: tests, curves, speed, memory, to build/gpu (twelve minutes; ARGS='--size tiny' tries it on the CPU)
	$(BIN)/python -m tests.performance.on_gpu $(ARGS)

gpu-wheels: $(STAMP) ## fetch to build/wheels what `make gpu` needs on a machine with torch, Python 3.12 and no network
	$(BIN)/python -m pip download --quiet --no-deps --only-binary :all: --python-version 3.12 -c constraints.txt \
	  -r tests/performance/gpu-wheels.txt -d build/wheels

benchmark: $(STAMP) ## one update of ours beside TRL's (ARGS=... for another shape), and sampling beside diffusers'
	$(BIN)/python -m tests.performance.against_trl $(ARGS)
	$(BIN)/python -m tests.performance.against_diffusers

benchmark-gpu: $(STAMP) ## the same on a CUDA device
	$(BIN)/python -m tests.performance.against_trl --device cuda $(ARGS)

benchmark-overhead: $(STAMP) ## what Ray costs a trial of a minute, and two at once (half an hour; ARGS='--pairs 1 --queries 64' to try)
	$(BIN)/python -m tests.performance.overhead $(ARGS)

benchmark-scale: $(STAMP) ## planner, store, driver and report against the number of trials (ARGS='--sizes 100 --ray 4' to try)
	$(BIN)/python -m tests.performance.scale $(ARGS)

lint: $(STAMP) ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy
	$(BIN)/mypy

format: $(STAMP) ## rewrite the sources as ruff formats them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: $(STAMP) ## rewrite the JSON Schema that editors complete sweeps from
	$(BIN)/python -m bench.sweep.schema > sweeps/schema.json

memory-table: $(STAMP) ## print the table of docs/memory.md: what a worker holds, by architecture
	$(BIN)/python -m bench.plan.memory.table

settings-page: $(STAMP) ## rewrite docs/settings.md: what is published of every setting
	PYTHONPATH=. $(BIN)/python docs/settings.py

BUILD := build/emoji
emoji-figures: $(STAMP) ## measure the embedded checkpoint, its judge and the aesthetic reward again (needs the emoji font)
	$(BIN)/python -m models.emoji.scenes --count 24000 --seed 500000 --out $(BUILD)/classifier-scenes.npz
	$(BIN)/python -m models.emoji.scenes --count 2000 --seed 500001 --out $(BUILD)/classifier-heldout.npz
	$(BIN)/python -m models.emoji.sample --reconstruct $(BUILD)/classifier-heldout.npz --out $(BUILD)/reconstructions.npz
	$(BIN)/python -m models.emoji.sample --seed 1 --images 1000 --steps 20 --guidance 2 --out $(BUILD)/fresh-guided20.npz
	$(BIN)/python -m models.emoji.sample --seed 1 --images 1000 --steps 10 --out $(BUILD)/fresh-10.npz
	$(BIN)/python -m models.emoji.sample --seed 1 --images 1000 --steps 5 --eta 1 --out $(BUILD)/fresh-noisy5.npz
	$(BIN)/python -m rewards.emoji.measure $(BUILD)/fresh-guided20.npz $(BUILD)/fresh-10.npz $(BUILD)/fresh-noisy5.npz \
	  $(BUILD)/classifier-heldout.npz $(BUILD)/reconstructions.npz --renderings $(BUILD)/classifier-scenes.npz \
	  --json $(BUILD)/figures.json
	$(BIN)/python -m models.emoji.scenes --trained-only --count 12000 --seed 600000 --out $(BUILD)/aesthetic-scenes.npz
	$(BIN)/python -m models.emoji.sample --trained-only --images 600 --steps 10 --seed 600001 --out $(BUILD)/aesthetic-samples.npz
	$(BIN)/python -m rewards.emoji.measure --aesthetic $(BUILD)/aesthetic-scenes.npz $(BUILD)/aesthetic-samples.npz

clean: ## remove the environment, caches and build files (never runs/)
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
