# Two commands do everything on a fresh machine: `make demo` and `make test`. Each sets itself up.
PYTHON ?= python3
SEEDS ?= 300
DEEPER ?= 3
VENV := .venv
DEMO := .venv-demo
SRC := killswitch tests

.PHONY: demo test check format clean sim explore mutants

demo: $(DEMO)/.ready
	@$(DEMO)/bin/killswitch demo $(DEMO_ARGS)

test: $(VENV)/.ready $(DEMO)/.ready
	SEEDS=$(SEEDS) $(VENV)/bin/python -m pytest -n 4 --dist worksteal -q $(TESTS)

check: $(VENV)/.ready
	$(VENV)/bin/ruff check $(SRC)
	$(VENV)/bin/ruff format --check $(SRC)
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest -q -p no:cacheprovider tests/test_house.py

# A long run of the simulation: `make sim SEEDS=10000`.
sim: $(VENV)/.ready
	SEEDS=$(SEEDS) $(VENV)/bin/python -m pytest -n 2 -q -s tests/sim

# Every interleaving of a small world, so many steps deeper than `make test` goes.
explore: $(VENV)/.ready
	EXPLORE_DEPTH=$(DEEPER) $(VENV)/bin/python -m pytest -n 0 -q -s tests/sim/test_explorer.py

# Bugs that are planted in scratch copies, one by one, and who finds each. Exit 1 where one survives.
mutants: $(VENV)/.ready
	$(VENV)/bin/python -m tests.mutants $(MUTANTS)

format: $(VENV)/.ready
	$(VENV)/bin/ruff check --fix $(SRC)
	$(VENV)/bin/ruff format $(SRC)

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# The demo's embedded broker pins an older websockets, so the demo lives in an environment of its own.
$(DEMO)/.ready: requirements/demo.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/demo.txt
	$(DEMO)/bin/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

clean:
	rm -rf $(VENV) $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis
