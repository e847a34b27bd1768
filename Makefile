# The project's commands. They need Python 3.11 to 3.14 and make, and install the rest in .venv.

PYTHON ?= python3

# Every command runs in .venv, whether the shell has activated it or not.
export VIRTUAL_ENV := $(CURDIR)/.venv
export PATH := $(VIRTUAL_ENV)/bin:$(PATH)

# Where the home cannot be written, uv has its cache in .venv.
ifneq ($(shell d="$${XDG_CACHE_HOME:-$$HOME/.cache}/uv"; mkdir -p "$$d" 2>&1 && test -w "$$d" || echo no),)
export UV_CACHE_DIR ?= $(VIRTUAL_ENV)/uv-cache
endif

# What was typed reaches the shell as it is, in a variable of its own: make expands nothing in it,
# and the shell runs nothing of it.
override A := $(value A)
override B := $(value B)
override NAME := $(value NAME)
override REVS := $(value REVS)
export A B NAME REVS

.PHONY: help repro recipe compare report test test-all lint bench same-bits arm64 other-pythons lock

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

repro: .venv/installed  ## run the pipeline, or the part of it that changed
	@python -m fairtrial mend > /dev/null
	dvc repro
	@echo 'Next, in each new terminal: source .venv/bin/activate. Then: docs/tour.md'

recipe: .venv/installed  ## run recipes/NAME as an experiment: make recipe NAME=csc321
	@case "$$NAME" in "" | */*) false;; *) test -f "recipes/$$NAME";; esac || { echo "make recipe NAME=... needs one of:" $$(ls recipes) >&2; exit 2; }
	sed -n 's/^\([a-z]\)/-S \1/p' recipes/default "recipes/$$NAME" | xargs dvc exp run --force --name "$$NAME"
	@# Of other data there is no comparison, and it says so.
	python -m fairtrial compare -- HEAD "$$NAME" || test $$? = 2

compare: .venv/installed  ## compare two revisions: make compare A=HEAD~1 B=HEAD
	python -m fairtrial compare -- "$${A:-HEAD~1}" "$${B:-HEAD}"

report: .venv/installed  ## show runs on a page, report.html: make report REVS="HEAD~1 HEAD"
	python -m fairtrial report -- $$REVS

test: lint  ## check the code and run the tests that are not slow by nature (five minutes)
	python -m pytest -n auto --dist worksteal -m "not slow"

test-all: lint  ## check the code and run all tests
	python -m pytest -n auto --dist worksteal

lint: .venv/dev  ## check the style, the format and the types
	ruff check
	ruff format --check
	mypy

bench: .venv/dev  ## measure how long we take beside others (half an hour)
	uv pip install --system-certs --quiet --compile-bytecode --group bench --constraint requirements-dev.txt
	python benchmarks/bench.py

same-bits: .venv/dev  ## reproduce the committed results on emulated CPUs (needs qemu-user)
	python -m tests.same_bits.emulated_cpus

arm64: .venv/installed  ## let same-bits emulate 64-bit ARM too (Debian 12, as root)
	tests/same_bits/arm64_root.sh

other-pythons:  ## reproduce and test with Python 3.13 and 3.14 (needs root and debootstrap)
	tests/same_bits/other_pythons.sh

COMPILE := uv pip compile --system-certs --quiet --universal --generate-hashes --python-version 3.11 \
	--custom-compile-command 'make lock'

lock: .venv/installed  ## write the locked requirements anew from pyproject.toml
	$(COMPILE) --group dev pyproject.toml --output-file requirements-dev.txt
	$(COMPILE) --group sweep --group export --constraint requirements-dev.txt pyproject.toml --output-file requirements.txt
	$(COMPILE) --group build --constraint requirements.txt --output-file requirements-build.txt
	$(COMPILE) --group uv --output-file requirements-uv.txt

# Nothing is installed that does not have the hash written in a file of ours. One package has no
# wheel and is built here, by tools that are locked too; of the others only wheels are taken, so
# that none of their code runs during the installation.
# The system's certificates are those by which git came here, behind a company's proxy too.
# Byte-compiled, or torch takes twice as long to import where Python may not write its cache.
SYNC := uv pip sync --system-certs --compile-bytecode --require-hashes --only-binary :all: \
	--no-binary antlr4-python3-runtime --build-constraints requirements-build.txt

.venv/installed: requirements.txt requirements-build.txt requirements-uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 repro")'
	$(PYTHON) -m venv .venv
	python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
		--requirement requirements-uv.txt
	$(SYNC) requirements.txt
	python -m tools setup
	@touch $@

# What checks the code: a browser's driver, linters, oracles. Who only runs it does without.
.venv/dev: .venv/installed requirements-dev.txt
	$(SYNC) requirements-dev.txt
	@touch $@
