# `make test` and `make demo` are all a newcomer needs: both work on a machine with only
# Python 3.11 or newer, make and the package registries. Everything lives in .venv, or in .venv-3.12 if that is
# the version of an asked-for PYTHON.

SHELL := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# make test PYTHON=python3.12 POSTGRES=18 PYTEST_ARGS="-k fence"; make demo BACKEND=postgres; make bench ONLY=drain
PYTHON ?=
# The major version of the server that tests use; otherwise what is here.
POSTGRES ?=
PYTEST_ARGS ?=
# Test processes at once: most tests wait for other processes, so more than there are CPUs.
JOBS ?= 3
BACKEND ?= sqlite
# Benchmarks are of both unless somebody says otherwise.
BENCH_BACKEND = $(if $(filter file,$(origin BACKEND)),all,$(BACKEND))
ONLY ?=

VENV := .venv$(if $(PYTHON),-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DISTRIBUTIONS := . $(sort $(wildcard plugins/taskito_*))
TYPED_EXTRAS := conftest.py tools benchmarks examples/stdlib_report

# A benchmark of several backends starts its own server; the demo is given one.
DEMO_SERVER_postgres := $(RUN) -m tools.private_postgres

ifneq ($(POSTGRES),)
export TASKITO_TEST_POSTGRES_VERSION := $(POSTGRES)
endif

.PHONY: help demo test lint types faults bench build docs clean install

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1|/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

demo: $(STAMP)  ## measure the standard library with a worker; BACKEND=postgres for a private Postgres
	@$(DEMO_SERVER_$(BACKEND)) $(RUN) examples/stdlib_report/demo.py --backend $(BACKEND)

test: lint types  ## lint, types and every test except the long fault runs
	@$(RUN) -m tools.pgbouncer
	$(RUN) -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

lint: $(STAMP)  ## ruff, formatting, and who may import whom
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports

types: $(STAMP)  ## mypy --strict
	$(RUN) -m mypy
	$(RUN) -m mypy $(TYPED_EXTRAS)

faults: $(STAMP)  ## the long fault runs: minutes of kills, outages and restarts
	@$(RUN) -m tools.pgbouncer
	$(RUN) -m pytest -m faults $(PYTEST_ARGS)

bench: $(STAMP)  ## measure against the bare store; JSON on stdout; BACKEND=sqlite, ONLY=name,name
	@$(RUN) -m benchmarks --backend $(BENCH_BACKEND) --only "$(ONLY)"

docs: $(STAMP)  ## the documentation as a site, in site/
	@$(RUN) -m tools.site build/pages
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --quiet
	@echo "site/index.html"

build: $(STAMP)  ## wheels and source distributions of every distribution, in dist/
	@for directory in $(DISTRIBUTIONS); do $(RUN) -m build --outdir dist "$$directory" || exit 1; done

install: $(STAMP)  ## only create .venv and install into it

clean:  ## remove every .venv and everything generated
	rm -rf .venv .venv-3.* dist build site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): $(addsuffix /pyproject.toml,$(DISTRIBUTIONS)) tools/make_venv.sh
	@PYTHON="$(PYTHON)" sh tools/make_venv.sh $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check $(addprefix --editable ,$(DISTRIBUTIONS)) --group dev
	@touch $@
