# `make book` builds the site, `make test` proves it. Nothing but Python 3.11–3.13 and make is needed.

.DEFAULT_GOAL := help
.PHONY: help book serve lab test coverage test-site test-colab test-lowest test-lm-eval gpu-test check tidy refresh record reference compare bench bench-table address release hooks links card pdf clean distclean env

VENV ?= .venv
PORT ?= 8000
BIN := $(VENV)/bin
RUN = PYTHONPATH=lib $(BIN)/python -m publishing

help:
	@echo "make book                               run every chapter, build the site, say where it is"
	@echo "make book CHAPTER=2-concepts/attention  run this chapter alone (the others as they were)"
	@echo "make book SCALE=full                    the large runs, for one GPU (SCALE=quick for the small ones)"
	@echo "make serve                              show the site under a local address (PORT=$(PORT))"
	@echo "make lab                                open the chapters in JupyterLab"
	@echo "make test [ALL=1] [FRESH=1]             style, contract, tests, chapters: what changed, all tests, no records"
	@echo "make coverage                           how much of the library the tests run; at least 90 % of its lines"
	@echo "make test-colab                         notebooks in an environment like Colab's (CHAPTER=all: every one wholly)"
	@echo "make test-lowest                        the library with the lowest versions it says it works with"
	@echo "make test-lm-eval                       EleutherAI's evaluation harness on the server and the library"
	@echo "make gpu-test                           what is marked for a GPU; without one, a rehearsal on a pretended GPU"
	@echo "make test-site [CHAPTER=...]            the built site in a headless Chromium (after make book), or one page of it"
	@echo "make check                              the contract of the notebooks alone"
	@echo "make tidy                               bring notebooks and code into their normal form"
	@echo "make refresh CHAPTER=...                run a chapter and renew its checked outputs"
	@echo "make record CHAPTER=... [SET='steps=9000']  run a chapter at length, keep what it records (SET or full scale)"
	@echo "make reference [CHAPTER=...]            record what chapters print, and its range over seeds (five runs each)"
	@echo "make compare [CHAPTER=...]              your run beside the recorded numbers (after make book)"
	@echo "make bench                              speed and quality beside the peers, kept and shown in the README (hours)"
	@echo "make address URL=... [BRANCH=...]       move the book to another repository"
	@echo "make release VERSION=0.2.0              commit and tag a release, its wheel tried in an empty environment; pushes nothing"
	@echo "make hooks                              have git check style, spelling and notebooks at every commit"
	@echo "make links                              links of the built site and of the repository's own pages"
	@echo "make pdf [CHAPTER=...]                  print the built site, or one page of it (needs a Chromium)"
	@echo "make card                               draw the picture that others show of a link to the book (needs a Chromium)"
	@echo "make clean                              remove what was built (distclean: the environment too)"
	@echo "PYTHON=python3.12 chooses the Python of a new environment."

# The first Python that runs and fits; a name that exists is not enough, version managers leave empty ones.
env:
	@for p in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
	  if "$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then \
	    exec "$$p" lib/publishing/environment.py "$(VENV)"; \
	  fi; \
	done; \
	echo "error: $(if $(PYTHON),$(PYTHON) is not,there is no) Python 3.11, 3.12 or 3.13: install one, or name it with PYTHON=." >&2; \
	exit 1

book: env
	@$(RUN) build $(if $(CHAPTER),--chapter "$(CHAPTER)") $(if $(SCALE),--scale "$(SCALE)")

serve: env
	@$(RUN) serve --port $(PORT)

lab: env
	@PYTHONPATH=lib $(BIN)/jupyter lab chapters

# FRESH=1 takes no record of a chapter and compares what it finds with what it computes.
test: env
	@$(if $(FRESH),LLMBOOK_FRESH=1) $(RUN) test $(if $(ALL),--all)

# What .coveragerc says counts: the processes that tests start are seen as well, so it takes longer than the tests alone.
coverage: env
	@$(BIN)/python -m pytest -n 2 --dist loadgroup -p no:cacheprovider --ignore=tests/site tests \
	  --cov --cov-report=term:skip-covered --cov-fail-under=90

# The browser's driver is large and only this needs it, so it is not in requirements.txt.
test-site: env
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/site/requirements.txt
	@$(BIN)/python -m pytest -rs -n 2 --dist loadgroup -p no:cacheprovider $(if $(CHAPTER),-k "$(CHAPTER)") tests/site

# Each in an environment of its own under _build/environments, kept for the next time.
test-colab: env
	@COLAB_CHAPTERS="$(CHAPTER)" $(BIN)/python -m pytest -p no:cacheprovider -rs tests/colab

test-lowest: env
	@$(BIN)/python -m pytest -p no:cacheprovider -rs tests/lowest

test-lm-eval: env
	@$(BIN)/python -m pytest -p no:cacheprovider -rs tests/lm_eval

gpu-test: env
	@$(RUN) gpu-test

check: env
	@$(RUN) check

tidy: env
	@$(RUN) tidy $(CHAPTER)
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .
	@$(RUN) tidy $(CHAPTER)

refresh: env
	@$(RUN) refresh $(CHAPTER)

record: env
	@$(RUN) record "$(CHAPTER)" $(SET)

reference: env
	@$(RUN) reference $(CHAPTER) $(if $(SCALE),--scale "$(SCALE)") $(if $(RUNS),--runs "$(RUNS)")

compare: env
	@$(RUN) compare $(if $(CHAPTER),--chapter "$(CHAPTER)")

bench: env
	@$(BIN)/python -m benchmarks $(or $(ARGS),all --keep)

bench-table: env
	@$(BIN)/python -m benchmarks table

address: env
	@$(RUN) address "$(URL)" $(if $(BRANCH),--branch "$(BRANCH)")

release: env
	@$(RUN) release "$(VERSION)"

hooks: env
	@$(BIN)/pre-commit install

# What lies within the book first; then, with a network, the rest of the world.
links: env
	@$(BIN)/python -m pytest -p no:cacheprovider -rs tests/test_links.py tests/site/test_links.py
	@$(RUN) links

# The browser's driver is the one of the tests of the site.
pdf: env
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/site/requirements.txt
	@$(RUN) pdf $(if $(CHAPTER),--chapter "$(CHAPTER)")

card:
	@$${CHROME:-chromium} --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1200,630 \
	  --screenshot="$(CURDIR)/web/card.png" "file://$(CURDIR)/web/card.svg"

clean:
	rm -rf _build

distclean: clean
	rm -rf $(VENV) .bench-venv
