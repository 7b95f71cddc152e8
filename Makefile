# Everything a fresh machine needs: `make demo` and `make test` set up .venv,
# `make test-all` the rest of what can be tested, for which chromium is needed.
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
DEMO := results/demo

.PHONY: demo docs test test-all test-oldest test-newest lint clean

$(VENV)/installed: setup.py
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	    sys.exit(0 if (3, 10) <= v <= (3, 14) else \
	    "Python 3.10 to 3.14 is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[test,dev]"
	touch $@

# Generated corpora, a few epochs from random weights: a demonstration.
demo: $(VENV)/installed
	$(BIN)/python -m qlung_plugin.synthetic.icbhi $(DEMO)/ICBHI
	$(BIN)/python -m qlung_plugin.synthetic.sprsound $(DEMO)/SPRSound
	$(BIN)/python train.py hparams/qlung.yaml --data_folder $(DEMO)/ICBHI \
	    --output_folder $(DEMO)/qlung/1234 --cache_folder $(DEMO)/cache \
	    --pretrained_weights none --number_of_epochs 20 --batch_size 8 \
	    --backbone "{batch_norm_momentum: 0.1}" \
	    --fix_length "{duration: 3.0}"
	$(BIN)/python recipes/SPRSound/cross_dataset/evaluate.py \
	    recipes/SPRSound/cross_dataset/hparams/cross_dataset.yaml \
	    --data_folder $(DEMO)/SPRSound --run_folder $(DEMO)/qlung/1234 \
	    --partition inter --output_folder $(DEMO)/qlung/1234/sprsound \
	    --cache_folder $(DEMO)/cache
	$(BIN)/python recipes/run_experiments.py --collect $(DEMO)/qlung \
	    --output $(DEMO)
	@cat $(DEMO)/results.md
	@echo "Generated data: no score on them is a result."
	@echo "Results: $(DEMO)/results.md; of the run: report.txt, metrics.json,"
	@echo "         predictions.csv in $(DEMO)/qlung/1234, and in sprsound/ there"
	@echo "Figures: $(DEMO)/qlung/1234/figures"
	@echo "Log:     $(DEMO)/qlung/1234/log.txt"

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@

# The site, its tutorials run: a warning is an error.
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open results/site/index.html; to search it, too, serve it:"
	@echo "    $(BIN)/python -m http.server --directory results/site"

$(VENV)/installed-all: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable \
	    ".[test,dev,benchmarks,browser,demo,docs,onnx,ray]"
	touch $@

# The recipes' files, of few but long tests, are begun first: at the end, no
# process is left with one of them.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile \
    --no-loadscope-reorder

test: $(VENV)/installed
	$(PYTEST) -m "not browser and not slow"

# A browser, ONNX, two processes, hours of audio: all that takes longer, too.
# With SPEECHBRAIN=/path/to/its/checkout also its own checks of tools/upstream.py.
test-all: $(VENV)/installed-all
	$(PYTEST)

# The tests of `make test` with the oldest and the newest releases that setup.py
# allows for $(PYTHON), each in an environment of its own: see CONTRIBUTING.md.
test-oldest: RESOLUTION = lowest-direct
test-newest: RESOLUTION = highest
test-oldest test-newest: VENV = .venv-$*
test-oldest test-newest: test-%:
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(VENV) --upgrade \
	    --resolution $(RESOLUTION) --editable ".[test]"
	$(PYTEST) -m "not browser and not slow"

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/yamllint .
	$(BIN)/codespell
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest $(DEMO)
