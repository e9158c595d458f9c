# README's two commands are `make demo` and `make test`; both set up .venv first and re-use it afterwards.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
SPHINX := $(VENV)/.installed-docs
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal --durations=50

.PHONY: setup demo test test-all lint types bench docs clean
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fewstep needs Python 3.11 or newer; run: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	@echo "[setup] installing the pinned packages of constraints.txt into $(VENV) (about a minute, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
	@echo "[setup] done"

$(SPHINX): $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/python -m fewstep.cli.demo --out demo

test: $(STAMP)
	@$(PYTEST) -m "not slow"

test-all: $(SPHINX)
	@$(PYTEST)

lint: $(STAMP)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(STAMP)
	@$(BIN)/basedpyright

bench: $(STAMP)
	@echo "[bench] measuring this machine, some minutes (stop other programs first); what is recorded: $(BIN)/python -m benchmarks"
	@for what in envs act train update; do $(BIN)/python -m fewstep bench $$what || exit 1; done

docs: $(SPHINX)
	@$(BIN)/sphinx-build -W --keep-going -q docs site && echo "[docs] open site/index.html"

clean:
	rm -rf $(VENV) demo site
