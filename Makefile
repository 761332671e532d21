# Every target sets itself up: a machine needs Python 3.11 or later, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Processes of the tests; 0 runs them in one.
WORKERS ?= 2

# What a change is tried with. It touches every layer, with one whole call of every tool, in about a minute on two
# processors beside `make test`. Left out are processes that are started, killed or stopped (kills, faults, cli, bench,
# workers, sessions over stdio, replicas, deployment), npm (conformance), sign-in to results (clients), the sandbox's
# engines, the viewer in a browser, what decodes or encodes many films, and long simulations and stories of many calls.
# In the files that stay, a test that is slow by itself has `slow` as its marker.
SLOW := kills replicas deployment faults conformance clients cli bench sandbox workers \
	test_sandbox_process.py test_site.py test_documented_commands.py test_new_user.py \
	$(addprefix protocol/fast_start/test_,session.py unread.py backpressure.py) \
	$(addprefix providers/,http/test_proxies.py http/test_bounds.py http/test_uploads_to_the_sandbox.py \
	test_add_a_provider.py test_gateways.py test_pacer.py) \
	$(addprefix models/test_,surprises.py drafted_manifests.py) \
	$(addprefix media/test_,videos.py video_limits.py picture_files.py pictures.py mask_reader.py thumbnails.py object_vault.py) \
	$(addprefix jobs/test_,laws.py crash_points.py fetching.py joining.py lists.py reconcile.py results.py review.py \
	stopping.py video_jobs.py segment_video.py provider_replies.py film_edits.py edit_proof.py object_store.py webhooks.py object_jobs.py machine.py \
	credits.py charges.py published_prices.py tracing.py) \
	$(addprefix store/test_,retention.py indexes.py money.py principals.py sqlite.py spending_laws.py leases.py) \
	server/viewer $(addprefix server/http/test_,drain.py upload_routes.py upload_page.py replicas.py sessions.py) \
	$(addprefix server/sign_in/test_,people_attacks.py principals_over_http.py key_pages.py own_keys.py) \
	$(addprefix server/test_,arrival.py bad_input.py checking.py consent.py errors.py fitting.py \
	half_characters.py hints.py job_tasks.py ladder.py lines.py principals.py process_per_call.py processes.py \
	requests.py review.py stdio.py subscriptions.py redelivery.py tools.py video_tools.py view_media.py webhook_route.py \
	result_snapshots.py models_of_today.py edits_by_words.py segment_video.py task_questions.py)
QUICK := -m "not slow and not postgresql" $(SLOW:%=--ignore=tests/%) tests

.PHONY: demo weights test quick coverage each-python conformance check soak format docs site replies manifests mcpb viewer bench clean

demo: $(STAMP)
	$(BIN)/rotoscope demo --out demo-out

# What makes the sandbox's masks good, once; the demo brings them too. Tests that need them skip without.
weights: $(STAMP)
	$(BIN)/rotoscope sandbox weights

# Files stay whole, because a file's tests may share what is slow to start; tests/conftest.py puts the longest first.
# With COVERED=1 the branches that are reached are counted, and it fails below the floor in pyproject.toml.
test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
		$(if $(COVERED),--cov --cov-report=term:skip-covered)

coverage:
	$(MAKE) --no-print-directory test COVERED=1

quick: $(STAMP)
	HYPOTHESIS_PROFILE=quick $(BIN)/python -m pytest -q -x -n $(WORKERS) $(QUICK)

# The quick tests on every other Python of this machine that the package may be installed on, side by side; the newest
# first, and at most so many.
MOST_PYTHONS ?= 9
each-python:
	@running=; left=$(MOST_PYTHONS); \
	for minor in 16 15 14 13 12 11; do \
		test $$left -gt 0 || break; \
		for found in python3.$$minor $$HOME/.pyenv/versions/3.$$minor.*/bin/python3; do \
			$$found -c "import sys; sys.exit(sys.version_info[:2] != (3, $$minor))" 2>/dev/null || continue; \
			$(PYTHON) -c "import sys; sys.exit(sys.version_info[:2] == (3, $$minor))" || continue; \
			echo "Python 3.$$minor: $$found"; \
			$(MAKE) --no-print-directory quick PYTHON=$$found VENV=.venv-3.$$minor WORKERS=0 & running="$$running $$!"; \
			left=$$((left - 1)); \
			break; \
		done; \
	done; \
	for one in $$running; do wait $$one || exit 1; done

conformance: $(STAMP)
	$(BIN)/python tests/conformance/run.py
	$(BIN)/python tests/conformance/inspector.py --all
	$(BIN)/python tests/conformance/inspector_web.py
	$(BIN)/python tests/conformance/clients.py --all
	$(BIN)/python tests/conformance/snippets.py
	$(BIN)/python tests/conformance/hosts.py

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m rotoscope.cli.docs --check
	$(BIN)/python -m rotoscope.cli.generate_replies --check
	$(BIN)/python -m rotoscope.cli.host_files --check

format: $(STAMP)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(STAMP)
	$(BIN)/python -m rotoscope.cli.docs

# The documents as a site, in build/site.
site: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict -f manifests/site/mkdocs.yml

# What `make test` takes a part of, in full: long runs of kills and laws, and on PostgreSQL every fault and every step.
soak: $(STAMP)
	ROTOSCOPE_SOAK_KILLS=500 ROTOSCOPE_SOAK_REPLICA_JOBS=200 HYPOTHESIS_PROFILE=soak \
		$(BIN)/python -m pytest tests/kills tests/replicas tests/jobs/test_laws.py \
		-k "again_and_again or a_chain_survives or laws or every_second or restarted" --hypothesis-show-statistics --durations=3
	ROTOSCOPE_SOAK_KILLS=500 $(BIN)/python -m pytest tests/bench tests/cli/test_signals.py tests/store/test_money.py
	ROTOSCOPE_SOAK_INSTALL=1 $(BIN)/python -m pytest tests/test_new_user.py
	ROTOSCOPE_SOAK_KILLS=500 $(BIN)/python -m pytest tests/faults tests/kills -m postgresql \
		-k "not again_and_again and not a_chain_survives"

replies: $(STAMP)
	$(BIN)/python -m rotoscope.cli.generate_replies

# What registries and hosts read, from pyproject.toml, the contracts and the table of the environment.
manifests: $(STAMP)
	$(BIN)/python -m rotoscope.cli.host_files

# One file that Claude Desktop installs by a double click, packed by the official tool, which comes through npm.
MCPB ?= $(or $(TMPDIR),/tmp)/rotoscope.mcpb
mcpb: manifests
	npx --yes @anthropic-ai/mcpb@2.1.2 pack manifests/mcpb "$(MCPB)"

# The page of the viewer, from its source; only a change of it needs Node.
VIEWER := src/rotoscope/server/viewer
viewer:
	mkdir -p .node/viewer
	cp $(VIEWER)/source/package.json $(VIEWER)/source/.npmrc .node/viewer/
	npm install --silent --prefix .node/viewer
	.node/viewer/node_modules/.bin/tsc --noEmit -p $(VIEWER)/source
	node $(VIEWER)/source/build.mjs $(VIEWER)/viewer.html .node/viewer

bench: $(STAMP)
	$(BIN)/python bench/cold_start.py
	$(BIN)/python bench/overhead.py
	$(BIN)/python bench/box_mask.py
	$(BIN)/python bench/edit_proof.py
	$(BIN)/python bench/film.py
	$(BIN)/python bench/tracking.py
	$(BIN)/python bench/track_video.py
	$(BIN)/python bench/memory.py
	$(BIN)/python bench/long_clip.py
	$(BIN)/python bench/many_masks.py
	$(BIN)/python bench/hostile.py
	$(BIN)/python bench/photo.py
	$(BIN)/python bench/lag.py
	$(BIN)/python bench/webhooks.py
	$(BIN)/python bench/engine.py
	$(BIN)/python bench/chain.py
	$(BIN)/python bench/contention.py
	$(BIN)/python bench/waiting.py
	$(BIN)/python bench/many.py
	$(BIN)/python bench/growth.py
	$(BIN)/python bench/models_add.py
	$(BIN)/python bench/serve.py

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("rotoscope needs Python 3.11 or later" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .venv-3.* demo-out build dist
