# Each target makes its own environment, .venv or .venv-oldest, when there is none.
PYTHON ?= python3
OUT ?= runs/demo
BIN := .venv/bin
OLDEST := .venv-oldest/bin
# One process a core; the tests of a file share what they prepare.
IN_PARALLEL := --numprocesses auto --dist loadfile

.PHONY: help demo test test-oldest fuzz lint docs bench gpu clean python-is-new-enough

help:
	@echo "make demo, test, test-oldest, fuzz, lint, docs, bench, gpu or clean: README.md and CONTRIBUTING.md say more"

demo: .venv/installed
	$(BIN)/botvision demo --out $(OUT)

test: .venv/installed
	$(BIN)/pytest $(IN_PARALLEL)

# The same tests with the oldest version that pyproject.toml allows of every package that it names.
test-oldest: .venv-oldest/installed
	$(OLDEST)/pytest $(IN_PARALLEL)

# Random mutations of the files that people bring, 2,000 of each kind; the ordinary suite tries fewer.
fuzz: .venv/installed
	$(BIN)/pytest tests/fuzz --hypothesis-profile fuzz

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in build/docs; a warning is an error.
docs: .venv/installed
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs build/docs

bench: .venv/installed
	$(BIN)/botvision bench attention --out runs/bench

# Tests, block sizes, timings and a short training on an NVIDIA card, into docs/results/gpu-<card>.
gpu: .venv/installed
	$(BIN)/python .ci/measure_gpu.py

# The markers are written last, so that an interrupted installation starts again.
.venv/installed: pyproject.toml | python-is-new-enough
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

.venv-oldest/installed: pyproject.toml .ci/oldest.py | python-is-new-enough
	$(PYTHON) -m venv .venv-oldest
	$(OLDEST)/python -m pip install --quiet --upgrade pip
	$(PYTHON) .ci/oldest.py > .venv-oldest/constraints.txt
	$(OLDEST)/python -m pip install --quiet --constraint .venv-oldest/constraints.txt --editable '.[dev]'
	touch $@

python-is-new-enough:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "botvision needs Python 3.11 or newer; make PYTHON=python3.12 ... chooses another one" >&2; exit 2; }

clean:
	rm -rf .venv .venv-oldest .mypy_cache .pytest_cache .ruff_cache .hypothesis
