# Two commands set everything up on a machine with Python 3.11: `make demo` and `make test`.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test gates lint types layers clean

demo: .venv/ready
	$(BIN)/convclinic demo

test: .venv/ready-dev
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadscope

gates: lint types layers test

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready-dev
	$(BIN)/pyright

layers: .venv/ready-dev
	$(BIN)/lint-imports

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,peers]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
