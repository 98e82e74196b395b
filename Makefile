VENV   := .venv
PYTHON := $(VENV)/bin/python
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-heavy lint fuzz bench docs miniatures plan reproduce-paper reproduce-pocket clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

setup: $(STAMP)  ## build .venv with CPU or CUDA torch as the machine has (about a minute; done once)

$(STAMP): pyproject.toml scripts/setup.sh scripts/tested-versions.txt
	@sh scripts/setup.sh $(VENV)
	@touch $@

demo: setup  ## MiniLM on movie reviews with KaSA, LoRA and a linear probe: table and page in minutes
	@$(PYTHON) run.py -m experiment=demo method=probe,lora,kasa
	@$(PYTHON) -m kasa_corda.report runs --out report
	@echo "page: report/report.html"
	@echo "next: $(PYTHON) run.py -m method=kasa,lora,full task=reviews seed=0,1,2"

test: setup  ## everything CI runs
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -n auto

test-heavy: setup  ## the tests marked heavy: minutes long, or in need of a GPU
	@$(PYTHON) -m pytest -q -m heavy

lint: setup  ## ruff and mypy
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy

FUZZ ?= --minutes 15

fuzz: setup  ## malformed input of every kind for 15 minutes: table in docs/reliability.md (FUZZ="--minutes 5 --seed 1")
	@OMP_NUM_THREADS=1 $(PYTHON) scripts/fuzz.py $(FUZZ) --write

BENCH := overhead startup compose_1000 kasa_aux_loss kasa_step corda_prepare
GPU   := $(shell nvidia-smi >/dev/null 2>&1 && echo yes)

bench: setup  ## rerun the benchmarks this machine can, print one table, write docs/performance.md (leave it alone meanwhile)
	@set -e; for name in $(BENCH); do $(PYTHON) benchmarks/$$name.py; done
ifeq ($(GPU),yes)
	@$(PYTHON) benchmarks/kasa_init.py
	@$(PYTHON) benchmarks/corda_stream.py
	@$(PYTHON) benchmarks/method_step.py --model smollm2
	@$(PYTHON) benchmarks/method_step.py --model 7b
else
	@$(PYTHON) benchmarks/kasa_init.py --model minilm
	@$(PYTHON) benchmarks/kasa_init.py --model smollm2
endif
	@$(PYTHON) benchmarks/table.py --write

docs: setup  ## regenerate docs/config.md and docs/wrong_commands.md
	@$(PYTHON) scripts/config_docs.py
	@$(PYTHON) scripts/wrong_commands.py

miniatures: setup  ## a generated miniature of every task family with KaSA, LoRA and the untrained model (18 minutes on 2 cores)
	@$(PYTHON) run.py suite=miniatures
	@$(PYTHON) -m kasa_corda.report runs --reference base

SUITE ?= pocket
ARGS  ?=

plan: setup  ## runs, GPU-hours, disk, downloads and memory of a suite before it runs (SUITE=pocket ARGS="data_dir=FOLDER")
	@$(PYTHON) scripts/plan.py suite=$(SUITE) $(ARGS)

reproduce-paper: setup  ## every table of both papers: plan, question (CONFIRM=yes answers it), runs, report with verdicts
	@$(PYTHON) scripts/plan.py suite=paper $(ARGS) --confirm
	@code=0; $(PYTHON) run.py suite=paper $(ARGS) || code=$$?; \
	$(PYTHON) -m kasa_corda.report.paper runs --form paper --out runs/report && exit $$code

reproduce-pocket: setup  ## the same claims with MiniLM and SmolLM2: plan, question (CONFIRM=yes), runs, report
	@$(PYTHON) scripts/plan.py suite=pocket $(ARGS) --confirm
	@code=0; $(PYTHON) run.py suite=pocket $(ARGS) || code=$$?; \
	$(PYTHON) -m kasa_corda.report.paper runs --form pocket --out runs/report && exit $$code

clean:  ## remove .venv and caches, never runs/
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
