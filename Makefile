# Everything a developer or CI runs. `make help` lists it.
# Another interpreter: make demo test PYTHON=python3.13 VENV=.venv-3.13 EXTRA=test
PYTHON ?= python3
VENV ?= .venv
EXTRA ?= dev
# Which tests `make test` runs.
TESTS ?= not slow
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# What installs; another one (`uv pip install`, the lowest versions) can be given.
INSTALL ?= $(BIN)/python -m pip install --quiet
WHEEL_PYTHON ?= $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help setup demo test-fast test test-all coverage lint docs screenshots audit check fix dist constraints fuzz torture bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv --upgrade-deps $(VENV)
	$(INSTALL) --editable '.[$(EXTRA)]'
	touch $@

setup: $(STAMP) ## Make the virtual environment (.venv) and install into it

demo: $(STAMP) ## Annotate sample_data/ with the embedded model and show the result
	$(BIN)/motivnet annotate sample_data --model expression-net --out demo.parquet --overwrite
	@$(BIN)/python -c "from motivnet_cli import read_faces; \
	import polars; polars.Config(tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True, tbl_width_chars=120); \
	print(read_faces('demo.parquet').select('input', 'face', 'emotion', 'confidence', 'x1', 'y1', 'x2', 'y2'))"

test-fast: $(STAMP) ## Run the quick tests: no process, server or run, and no long series
	$(BIN)/python -m pytest -n auto --dist loadgroup -m 'not slow and not thorough' --quick -r fE

test: $(STAMP) ## Run the tests but for the slow ones
	$(BIN)/python -m pytest -n auto --dist loadgroup -m '$(TESTS)'

test-all: $(STAMP) ## Run every test
	$(BIN)/python -m pytest -n auto --dist loadgroup

coverage: $(STAMP) ## Run the tests but for the slow ones, and show which lines no process ran; the floor is in pyproject.toml
	rm -rf .coverage
	$(BIN)/coverage run -m pytest -q -n auto --dist loadgroup -m 'not slow'
	$(BIN)/coverage report

lint: $(STAMP) ## Format, lint, types, import contract, generated docs, workflows
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cog --check docs/*.md benchmarks/README.md
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.citation-file-format CITATION.cff
	$(BIN)/zizmor --quiet --offline --strict-collection .github

docs: $(STAMP) ## Build the documentation site into site/; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

screenshots: $(STAMP) ## Make the pictures of the documents again, from sample_data/ (needs Chromium)
	$(BIN)/python docs/screenshots.py

audit: $(STAMP) ## Ask a public database for known flaws of the versions in constraints.txt (needs the network)
	.ci/audit $(BIN)/uv

check: lint test ## What must pass before every commit: lint and test

fix: $(STAMP) ## Format, mend what ruff can mend, make the generated docs again
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/cog -r docs/*.md benchmarks/README.md

dist: $(STAMP) ## Build sdist and wheel into dist/, and run the wheel in an environment that holds nothing else
	rm -rf dist
	$(BIN)/uv build --quiet --python $(BIN)/python
	$(BIN)/twine check --strict dist/*
	.ci/run-wheel $(BIN)/uv $(WHEEL_PYTHON)

constraints: $(STAMP) ## Write constraints.txt from what is installed in .venv
	$(BIN)/python -m pip freeze --exclude-editable > $(VENV)/installed.txt
	{ grep '^#' constraints.txt; \
	  $(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --python $(BIN)/python \
	    --all-extras --constraint $(VENV)/installed.txt pyproject.toml; } > $(VENV)/constraints.txt
	mv $(VENV)/constraints.txt constraints.txt

fuzz: $(STAMP) ## Damage 50,000 files and answers, and judge what becomes of them (about an hour)
	$(BIN)/python -m tests.fuzz --record

torture: $(STAMP) ## Disturb runs in every way, hold them against undisturbed ones, and record the counts (two hours at most)
	$(BIN)/python -m tests.torture --record

bench: $(STAMP) ## Run the benchmarks and record their rows (about five hours)
	$(BIN)/python benchmarks/startup.py --record
	$(BIN)/python benchmarks/people.py .people
	$(BIN)/python benchmarks/detectors.py --people .people --record
	$(BIN)/python benchmarks/landmarks.py --people .people --record
	$(BIN)/python benchmarks/conditions.py --people .people --record
	$(BIN)/python benchmarks/overhead.py --record
	$(BIN)/python benchmarks/memory.py --record
	$(BIN)/python benchmarks/against_fer.py --record
	$(BIN)/python benchmarks/full_size.py --record
	$(BIN)/python benchmarks/convert.py --record
	$(BIN)/python benchmarks/video.py --record
	$(BIN)/python benchmarks/export.py --record
	$(BIN)/python benchmarks/summaries.py --record
	$(BIN)/python benchmarks/export_onnx.py --record
	$(BIN)/python benchmarks/feed.py --record
	$(BIN)/python benchmarks/profiles.py --record
	$(BIN)/python benchmarks/jpegs.py --record
	$(BIN)/python benchmarks/concealed.py --record
	$(BIN)/python benchmarks/full_network.py --record
	$(BIN)/python benchmarks/precisions.py --record
	$(BIN)/python benchmarks/cold_start.py --record
	$(BIN)/python benchmarks/training_step.py --record
	$(BIN)/python benchmarks/heads.py --record
	$(BIN)/python benchmarks/pipelines.py --record
	$(BIN)/python benchmarks/planning.py --record
	$(BIN)/python benchmarks/scaling.py --record
	$(BIN)/python benchmarks/ray_driver.py --record
	$(BIN)/python benchmarks/ranges.py --record
	$(BIN)/python benchmarks/array_start.py --record
	$(BIN)/python benchmarks/ten_million.py --record
	$(BIN)/python benchmarks/long_run.py --record

clean: ## Remove the virtual environment and what tools leave behind
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage dist build
