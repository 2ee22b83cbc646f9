# Every target creates .venv and installs what it needs by itself.
#   make demo                     measure, predict, search, train, run privately; in demo/
#   make check                    format, lint, types, and every test without parties or links
#   make test                     the same, and the tests that start parties and measure links
#   make venv PYTHON=/path/to/python3.11

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?=
EXTRAS ?= dev,mpcvit
PYTEST_ARGS ?=

# What measures a link needs the machine for itself; all other tests share its processors.
# A file's tests stay together, as they share parties, and the longest files come first.
# Parties wait for a network and for each other: one more at once than processors.
BY_FILE := --dist loadfile --no-loadscope-reorder
WITHOUT_PARTIES := -n auto $(BY_FILE) -m "not spu and not link"
WITH_PARTIES := -n $$(($$(nproc) + 1)) $(BY_FILE) -m "spu and not link and not docs"
WITH_LINKS := -m link tests/mpcprof/engine tests/benchmarks/test_scripts.py

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DOCS_INSTALLED := $(VENV)/.installed-docs
PAGES := build/pages

# Fits = it runs, has the right version, and can make environments. Of .venv itself pip
# is asked for too, which a `make venv` that was stopped may not have come to.
FITS := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 11))

# Sets $$python. Asks each candidate to run: a version manager's shim may be on the
# PATH and refuse, with a good interpreter of the same name behind it.
define FIND_PYTHON
python=; \
if [ -n "$(PYTHON)" ]; then candidates="$$(type -P "$(PYTHON)" || true)"; \
else candidates="$$(type -aP python3.11 python3.10 python3 python || true)"; \
	for dir in "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[10].*; do \
		candidates+=$$'\n'"$$dir/bin/python"; done; \
fi; \
while IFS= read -r candidate; do \
	if [ -x "$$candidate" ] && "$$candidate" -c "$(FITS)" >/dev/null 2>&1; then \
		python="$$candidate"; break; fi; \
done <<< "$$candidates"; \
if [ -z "$$python" ]; then \
	echo "make: no usable Python 3.11 or 3.10 $(if $(PYTHON),at PYTHON=$(PYTHON),found)." \
		"Install one (with its venv module) and name it: make venv PYTHON=/path/to/python3.11" >&2; \
	exit 1; \
fi
endef

# Sets $$pins to the constraints file of the Python in $$python.
define FIND_PINS
pins="$$("$$python" -c 'import sys; v = sys.version_info; \
	print("constraints-3.10.txt" if v[:2] == (3, 10) else "constraints.txt")')"
endef

# Turns pip's report into pins; local build tags such as +cpu are left out.
define PRINT_PINS
import json, platform, sys
items = json.load(open(sys.argv[1]))["install"]
pins = {i["metadata"]["name"]: i["metadata"]["version"].split("+")[0]
        for i in items if "dir_info" not in i["download_info"]}
print("# Exact versions for Python %s.%s, all transitive ones too. Made by"
      % platform.python_version_tuple()[:2])
print("#     make constraints PYTHON=python%s.%s" % platform.python_version_tuple()[:2])
for name in sorted(pins, key=str.lower):
    print(f"{name}=={pins[name]}")
endef
export PRINT_PINS

.PHONY: help venv demo check test docs docs-test test-without-parties lint lint-format lint-ruff lint-mypy \
	lint-spelling lint-pyproject format coverage constraints wheel clean

help:
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

venv: $(INSTALLED) ## create .venv with exact versions

$(INSTALLED): setup.py pyproject.toml constraints.txt constraints-3.10.txt
	@python="$(BIN)/python"; \
	if [ -n "$(PYTHON)" ] || ! "$$python" -c "import pip; $(FITS)" >/dev/null 2>&1; then \
		$(FIND_PYTHON); \
		echo "make: new $(VENV) with $$("$$python" --version) ($$python)"; \
		"$$python" -m venv --clear $(VENV); \
		python="$(BIN)/python"; \
	fi; \
	$(FIND_PINS); \
	echo "make: installing the versions of $$pins into $(VENV), a minute or two"; \
	"$$python" -m pip install --quiet --constraint "$$pins" pip setuptools; \
	"$$python" -m pip install --quiet --constraint "$$pins" --no-build-isolation \
		--editable '.[$(EXTRAS)]'; \
	touch $@

demo: $(INSTALLED) ## sweep real SPU, predict and measure a model, find one, run it beside a softmax ViT; in demo/
	@mkdir -p demo
	$(BIN)/python -m mpcprof doctor
	$(BIN)/python -m mpcprof sweep --protocol semi2k --preset quick --output demo/semi2k.parquet
	$(BIN)/python -m mpcprof table show demo/semi2k.parquet
	$(BIN)/python -m mpcprof plot demo/semi2k.parquet latency -o demo/latency.png
	$(BIN)/python -m mpcprof predict demo/semi2k.parquet --model digits --attention relu_softmax --heads batched
	$(BIN)/python -m mpcprof verify demo/semi2k.parquet --cases 4 --limit 2s --repeats 2 --tolerance 50% \
		--architecture digits:relu_softmax:batched --report demo/predicted-against-measured.md
	$(BIN)/python -m mpcvit search --space free --cost-table demo/semi2k.parquet --budget 0.5s \
		--finalists 6 --epochs 12 --jobs 2 --output demo/search --fresh
	$(BIN)/python -m mpcvit derive demo/search -o demo/found.json
	$(BIN)/python -m mpcvit train demo/found.json --mlp-norm --gradual-norm 0.25 --gradual-activation 0.25 \
		--epochs 15 --output demo/trained/found --fresh
	$(BIN)/python -m mpcvit train softmax --heads batched --epochs 15 --output demo/trained/softmax --fresh
	for network in softmax found; do \
		$(BIN)/python -m mpcvit tune demo/trained/$$network/model.safetensors --cost-table demo/semi2k.parquet; \
	done
	$(BIN)/python -m mpcvit infer demo/trained/found/model.safetensors digits:17 \
		--plan demo/trained/found/plan.json --profile demo/semi2k.parquet
	$(BIN)/python -m mpcvit pareto "softmax ViT=demo/trained/softmax" found=demo/trained/found \
		--plan plan.json --cost-table demo/semi2k.parquet --measured -o demo/pareto.png

check: $(INSTALLED) ## format, lint, types, and every test without parties or links: the daily loop
	@$(MAKE) --jobs 2 lint test-without-parties PYTEST_ARGS="--hypothesis-profile daily $(PYTEST_ARGS)"

test: $(INSTALLED) ## all of check with more examples, and the tests that start parties and measure links
	@$(MAKE) --jobs 2 lint test-without-parties
	$(BIN)/python -m pytest $(WITH_PARTIES) $(PYTEST_ARGS)
	$(BIN)/python -m pytest $(WITH_LINKS) $(PYTEST_ARGS)

test-without-parties: $(INSTALLED)
	$(BIN)/python -m pytest $(WITHOUT_PARTIES) $(PYTEST_ARGS)

lint: lint-format lint-ruff lint-mypy lint-spelling lint-pyproject ## all that pre-commit runs

lint-format: $(INSTALLED)
	$(BIN)/python -m ruff format --check .

lint-ruff: $(INSTALLED)
	$(BIN)/python -m ruff check .

lint-mypy: $(INSTALLED)
	$(BIN)/python -m mypy

lint-spelling: $(INSTALLED)
	$(BIN)/python -m codespell_lib

lint-pyproject: export VALIDATE_PYPROJECT_NO_NETWORK := 1
lint-pyproject: $(INSTALLED)
	$(BIN)/python -m validate_pyproject pyproject.toml

format: $(INSTALLED) ## rewrite the code as ruff wants it
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

docs: $(DOCS_INSTALLED) ## the documentation as a site, every link checked; in build/site
	rm -rf $(PAGES) build/site
	mkdir -p $(PAGES)
	cp -r README.md CHANGELOG.md LICENSE docs profiles examples $(PAGES)
	$(BIN)/python docs/reference/commands.py > $(PAGES)/docs/reference/commands.md
	$(BIN)/zensical build --clean --strict 2>&1 | tee build/docs.log
	@! grep -E "griffe:|[Ww]arning" build/docs.log

docs-test: $(INSTALLED) ## every command of README and docs, by real parties; an hour
	$(BIN)/python -m pytest -m docs tests/docs $(PYTEST_ARGS)

$(DOCS_INSTALLED): $(INSTALLED)
	@python="$(BIN)/python"; $(FIND_PINS); \
	"$$python" -m pip install --quiet --constraint "$$pins" --no-build-isolation \
		--editable '.[$(EXTRAS),docs]'; \
	touch $@

coverage: $(INSTALLED) ## the test suite with branch coverage
	$(BIN)/python -m pytest --cov --cov-report=term-missing $(PYTEST_ARGS)

constraints: ## resolve the newest versions that fit (torch stays pinned)
	@$(FIND_PYTHON); \
	$(FIND_PINS); \
	work="$$(mktemp -d)"; \
	trap 'rm -rf "$$work"' EXIT; \
	"$$python" -m venv "$$work/venv"; \
	"$$work/venv/bin/python" -m pip install --quiet --dry-run --ignore-installed \
		--report "$$work/report.json" '.[dev,mpcvit,docs]' torch==2.13.0 pip setuptools; \
	"$$python" -c "$$PRINT_PINS" "$$work/report.json" > "$$work/pins"; \
	cp "$$work/pins" "$$pins"; \
	echo "make: wrote $$pins"

wheel: $(INSTALLED) ## the wheel, with the profiles in it; in dist/
	$(BIN)/python -m build

clean: ## remove .venv, demo/ and caches; profiles/ stays
	rm -rf $(VENV) demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .coverage .coverage.* htmlcov
	find $(wildcard mpcprof mpcvit tests benchmarks) -name __pycache__ -type d -prune -exec rm -rf {} +
