# `make demo` and `make test` set up everything on first use; every target shares the step `env`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := work_dirs/demo
DEMO_CONFIG := configs/fan_demo_tap_adl_streets.py

.PHONY: env demo docs test test-matrix torture evidence gpu lint clean
.DEFAULT_GOAL := test

env: $(INSTALLED)

$(INSTALLED): setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[mm,dev]'
	touch $@

# trains a small FAN with TAP and ADL on generated street scenes, tests it, and measures its
# robustness; interrupted and repeated, it goes on where it was
demo: env
	$(BIN)/python tools/train.py $(DEMO_CONFIG) --work-dir $(DEMO) --resume
	$(BIN)/python tools/test.py $(DEMO_CONFIG) $(DEMO) --work-dir $(DEMO) \
		--show-dir $(DEMO)/pictures
	$(BIN)/python tools/test.py $(DEMO_CONFIG) $(DEMO) --work-dir $(DEMO) \
		--benchmark cityscapes-c --cfg-options test_dataloader.dataset.num_samples=20

# the site in docs/_build/html; a warning is an error, and so is a link within it that leads nowhere
docs: env
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python tests/matrix/links.py

test: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile

# the suite with both OpenMMLab families and torch 2.1 to the newest, in environments made by pip;
# `make test-matrix ENVIRONMENTS=torch-2.1` runs one
test-matrix:
	$(PYTHON) tests/matrix/run.py $(ENVIRONMENTS)

# kills, full disks and stop requests by the hundred; see docs/reliability.md
torture: env
	OMP_NUM_THREADS=1 $(BIN)/python tests/torture/campaign.py

# several seeds of small models on CIFAR-10 (data/cifar10) within BUDGET minutes
BUDGET ?= 120
evidence: env
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/evidence.py --budget $(BUDGET) --jobs 2 \
		--variants plain 'TAP & ADL' AFAT

# all that a GPU has to show; see docs/gpu.md, and tools/gpu_day.sh for a machine without a network
gpu: env
	$(BIN)/python benchmarks/gpu_day.py
	$(BIN)/python benchmarks/gpu_day.py --report

lint: env
	$(BIN)/ruff check .

clean:
	rm -rf build dist *.egg-info
