# Every target sets itself up: a machine needs Python 3.11 or later, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test conformance check soak format docs replies bench clean

demo: $(STAMP)
	$(BIN)/rotoscope demo --out demo-out

test: $(STAMP)
	$(BIN)/python -m pytest

conformance: $(STAMP)
	$(BIN)/python tests/conformance/run.py
	$(BIN)/python tests/conformance/inspector.py

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m rotoscope.docs --check
	$(BIN)/python -m rotoscope.front.record --check

format: $(STAMP)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(STAMP)
	$(BIN)/python -m rotoscope.docs

soak: $(STAMP)
	ROTOSCOPE_SOAK_KILLS=500 HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest tests/kills tests/jobs/test_laws.py \
		-k "again_and_again or laws" --hypothesis-show-statistics --durations=3

replies: $(STAMP)
	$(BIN)/python -m rotoscope.front.record

bench: $(STAMP)
	$(BIN)/python bench/cold_start.py
	$(BIN)/python bench/overhead.py
	$(BIN)/python bench/box_mask.py
	$(BIN)/python bench/film.py
	$(BIN)/python bench/memory.py
	$(BIN)/python bench/many_masks.py
	$(BIN)/python bench/lag.py
	$(BIN)/python bench/engine.py
	$(BIN)/python bench/contention.py
	$(BIN)/python bench/waiting.py
	$(BIN)/python bench/many.py
	$(BIN)/python bench/growth.py

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("rotoscope needs Python 3.11 or later" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo-out build dist
