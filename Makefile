# What people type. Every target first makes or refreshes .venv when requirements.lock or pyproject.toml changed.

PYTHON ?= $(shell for p in python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
STAMP := $(VENV)/.installed
ASSIGNMENT ?= week1-quantization
PYTEST ?= pytest -n 2 --dist loadfile
# nbgrader starts `alembic` by name, so the venv's programs have to be on PATH.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYTHONUTF8 := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup lab demo test build check doctor lock format

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv with every version of requirements.lock
	@echo "ready: $(VENV)"

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 here. Install python3.11 (and python3.11-venv on Debian or Ubuntu),"; \
		echo "or say where it is: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Making .venv failed. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "installing requirements.lock into $(VENV); the first time this takes several minutes"
	@$(VENV)/bin/python -m pip install -qq --requirement requirements.lock
	@$(VENV)/bin/python -m pip install -qq --no-deps --editable .
	@touch $(STAMP)

lab: $(STAMP)  ## open JupyterLab on your copy of the lessons, in my-work/ (ASSIGNMENT=week1-quantization)
	@coursekit start $(ASSIGNMENT)
	@cd my-work/$(ASSIGNMENT) && jupyter lab

demo: $(STAMP)  ## grade a class of made-up submissions and write its report
	@python -m autograde demo

test: $(STAMP)  ## run all tests, the lessons included
	OMP_NUM_THREADS=1 $(PYTEST) tests

build: $(STAMP)  ## make solutions/ and notebooks/ from lessons/
	@python -m autograde build

check: $(STAMP)  ## lint, format, types, spelling, and whether the notebooks are in step
	ruff check .
	ruff format --check .
	mypy
	codespell
	python -m autograde build --check

format: $(STAMP)  ## format and mend what ruff can
	ruff check --fix .
	ruff format .

doctor: $(STAMP)  ## say what this machine has and lacks
	@coursekit doctor

lock: $(STAMP)  ## write requirements.lock from what is installed
	@python tools/lock.py
