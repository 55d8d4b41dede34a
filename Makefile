# Everything lives in .venv: nothing has to be installed first but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN ?= runs/demo
CHROMIUM ?= /usr/bin/chromium
PIP_FLAGS ?=
# Where it is set, every process compiles all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test collected fuzz coverage test-exhaustive parity check lint types imports \
	test-browser chromium dashboard bench bench-gpu bench-quick bench-probes bench-toys estimates \
	length-generalisation shipped dashboard-times bench-harvest billion-tokens bench-parallel faults \
	clean ported public-names dist dist-check fresh docs docs-serve architecture anatomy \
	analyses-pages mutation

demo: $(STAMP)  ## attribute a prediction of the shipped induction model to its heads
	$(BIN)/interp demo --out $(RUN)

TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not browser"

test: $(STAMP)  ## the tests
	$(TESTS)

collected: $(STAMP)  ## import all tests and run none: what is compiled now need not be by each worker
	@mkdir -p build
	$(BIN)/python -m pytest --collect-only --quiet -m "not browser" > build/collected.txt

coverage: $(STAMP)  ## the same with coverage: a third more time
	$(TESTS) --cov --cov-report=term:skip-covered --cov-report=xml:build/coverage.xml

test-exhaustive: $(STAMP)  ## the same with every combination where `make test` takes a covering choice
	INTERP_EXHAUSTIVE=1 $(TESTS)

parity: $(STAMP)  ## docs/measured/parity.md, anew: every family beside Hugging Face
	rm -rf build/parity
	PARITY_OUT=build/parity OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q \
		tests/interp/pretrained
	$(BIN)/python -m tests.interp.pretrained.figures build/parity docs/measured/parity.md

fuzz: $(STAMP)  ## 12,000 damaged files of every kind that interp reads; SEED=0
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --inputs 12000 --seed $(or $(SEED),0)

MUTMUT := build/mutmut

MUTATION := PYTHONPATH=$(MUTMUT) OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutation

mutation: $(STAMP)  ## docs/measured/mutation.md: small faults planted, which the tests must find; an hour
	test -d $(MUTMUT) || $(BIN)/python -m pip install --quiet --no-deps --target $(MUTMUT) \
		mutmut==3.8.1 libcst==1.9.0
	rm -f build/mutation.*
	$(MUTATION)
	$(MUTATION) --again --longest 60 --docs docs/measured/mutation.md

check: lint types imports  ## what CI checks besides the tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)  ## the floors: dashboards -> analyses -> interp
	$(BIN)/lint-imports

test-browser: $(STAMP) chromium  ## the dashboard in a real, headless Chromium
	$(BIN)/python -m pytest -n 2 --dist worksteal -m browser tests/dashboards/test_browser.py \
		tests/interp/display/test_attention_browser.py

chromium:  ## Debian's Chromium, where there is none
	@test -x $(CHROMIUM) || (apt-get update && apt-get install -y chromium)

dashboard: $(STAMP)  ## the dashboard, on localhost
	$(BIN)/interp dashboard --runs runs

bench: $(STAMP)  ## docs/measured/benchmarks.md, its CPU part: interp beside other packages; about 12 minutes
	$(BIN)/python -m benchmarks --device cpu --docs docs/measured/benchmarks.md

bench-gpu: $(STAMP)  ## its GPU part, on CUDA
	$(BIN)/python -m benchmarks --device cuda --docs docs/measured/benchmarks.md

bench-quick: $(STAMP)  ## whether all of it still works: small shapes, a call or two each, no docs
	$(BIN)/python -m benchmarks --device cpu --quick

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) --quiet --disable-pip-version-check \
		-c constraints.txt -e ".[all,dev]"
	touch $(STAMP)

estimates: $(STAMP)  ## docs/measured/estimates.md: estimates of patching beside patching; STORIES=DIR: stories260K
	$(BIN)/python -m benchmarks.estimates $(STORIES) > docs/measured/estimates.md.new
	mv docs/measured/estimates.md.new docs/measured/estimates.md

length-generalisation: $(STAMP)  ## docs/measured/length-generalisation.md; STORIES=DIR TEXT=FILE: stories260K on a text
	$(BIN)/python -m benchmarks.length_generalisation $(STORIES) $(TEXT) \
		> docs/measured/length-generalisation.md.new
	mv docs/measured/length-generalisation.md.new docs/measured/length-generalisation.md

bench-probes: $(STAMP)  ## docs/measured/probes.md: probes of all sites beside scikit-learn
	$(BIN)/python -m benchmarks.probes > docs/measured/probes.md.new
	mv docs/measured/probes.md.new docs/measured/probes.md

clean:  ## all that make created, but not saved runs
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .coverage

bench-toys: $(STAMP)  ## docs/measured/toys.md: toys beside a loop over models, and the table of D*; about 15 minutes
	$(BIN)/python -m benchmarks.toys throughput reference > docs/measured/toys.md.new
	mv docs/measured/toys.md.new docs/measured/toys.md

shipped: $(STAMP)  ## the results that ship with the page of superposition, trained anew; about 10 minutes
	$(BIN)/python -m analyses.superposition.shipped

dashboard-times: $(STAMP) chromium  ## docs/measured/dashboard-times.md and its pictures; STORIES=DIR: stories260K
	$(BIN)/python -m benchmarks.dashboard $(if $(STORIES),--stories $(STORIES)) \
		--pictures docs/images/dashboard > docs/measured/dashboard-times.md.new
	mv docs/measured/dashboard-times.md.new docs/measured/dashboard-times.md

bench-harvest: $(STAMP)  ## docs/measured/harvest-times.md; STORIES=DIR TEXT=FILE: stories260K and a text; 10 minutes
	$(BIN)/python -m benchmarks.harvest $(STORIES) $(TEXT) --tokens 150000 --rounds 2 > docs/measured/harvest-times.md.new
	mv docs/measured/harvest-times.md.new docs/measured/harvest-times.md

billion-tokens: $(STAMP)  ## docs/measured/billion-tokens.md: what a 7B model would cost, from rates measured here
	$(BIN)/python -m benchmarks.scale > docs/measured/billion-tokens.md.new
	mv docs/measured/billion-tokens.md.new docs/measured/billion-tokens.md

bench-parallel: $(STAMP)  ## docs/measured/parallel.md: a model shared by 1 and 2 processes; STORIES=DIR: stories260K
	$(BIN)/python -m benchmarks.tensor_parallel $(STORIES) > docs/measured/parallel.md.new
	mv docs/measured/parallel.md.new docs/measured/parallel.md

faults: $(STAMP)  ## docs/measured/faults.md: a harvest killed, its disk filled, its files damaged
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.interp.harvest.faults --kills 24 > docs/measured/faults.md.new
	mv docs/measured/faults.md.new docs/measured/faults.md

public-names: $(STAMP)  ## docs/api/public-names.txt, anew: what others may rely on
	$(BIN)/python -m docs.generate.public_names docs/api/public-names.txt

dist: $(STAMP)  ## dist/: a wheel and an sdist
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

dist-check: dist  ## whether they hold what they must, and work outside the checkout: 5 minutes
	$(BIN)/python -m tests.packaging.dist_check dist

fresh:  ## docs/measured/fresh-machine.md: clone, demo and tests from a bare Python, timed
	$(PYTHON) -m tests.packaging.fresh_machine --docs docs/measured/fresh-machine.md

OLD_LENS := build/transformer-lens-3.9

ported: $(STAMP)  ## the scripts of docs/ported beside transformer-lens 3.9.0, in a venv of its own; renews their numbers
	test -x $(OLD_LENS)/bin/python || $(BIN)/python -m venv $(OLD_LENS)
	grep -v '^transformer-lens' constraints.txt > $(OLD_LENS)/constraints.txt
	$(OLD_LENS)/bin/python -m pip install --quiet -c $(OLD_LENS)/constraints.txt transformer-lens==3.9.0
	OMP_NUM_THREADS=1 $(BIN)/python -m docs.ported.compare --other $(OLD_LENS)/bin/python
	$(BIN)/python -m docs.ported.names

DOCS_STAMP := $(VENV)/.docs
# Never --quiet: then warnings would not count as errors.
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs

docs: $(DOCS_STAMP)  ## build/site: the documentation as pages, warnings are errors
	$(SITE) build --strict

docs-serve: $(DOCS_STAMP)  ## the same on 127.0.0.1:8000, anew whenever a page changes
	$(SITE) serve

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install $(PIP_FLAGS) --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $(DOCS_STAMP)

anatomy: $(STAMP)  ## docs/anatomy.md, anew: its pictures, and what its blocks print
	OMP_NUM_THREADS=1 $(BIN)/python -m docs.generate.anatomy

analyses-pages: $(STAMP)  ## docs/analyses: figures, checks and parameters of every analysis's page, anew
	OMP_NUM_THREADS=1 $(BIN)/python -m docs.generate.analyses

architecture: $(STAMP)  ## the pictures and tables of docs/architecture.md, anew from the code
	$(BIN)/python -m docs.generate.architecture
