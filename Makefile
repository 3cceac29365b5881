# `make book` and `make test` need only Python (3.11 or newer), pip, make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WEB := web/node_modules/.package-lock.json
PLAYGROUND := _build/playground/mnist.onnx
COVERED := _build/coverage/coverage.json
WORKERS ?= 2
PORT ?= 8000
PARTS ?= overhead unet startup quality

.PHONY: book serve pdf test test-web test-gpu soak repeat same-html fuzz bench alterations mutants refresh lint unit notebooks diffusers clean

book: $(STAMP) $(WEB) $(PLAYGROUND)  ## build the pages from the committed outputs, and print where they are
	rm -rf _build/html  # what an earlier build left would stay, and change what pages ask for
	$(BIN)/jupyter-book build --all -W -n --keep-going --quiet .
	@echo "The book: $(CURDIR)/_build/html/index.html"

serve: $(STAMP) $(WEB) $(PLAYGROUND)  ## build, show the pages in the browser, build again on every change; another port: PORT=8001
	$(BIN)/python tools/serve.py --port $(PORT)

pdf: book  ## the whole book as one PDF, printed by Chromium; fails where a link is dead or something is too wide
	$(BIN)/python tools/pdf.py

test: lint book unit notebooks  ## all that CI checks but the pages in a browser (test-web)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

unit: $(STAMP)  ## the tests; fails, too, where they leave too much of the library out
	mkdir -p $(dir $(COVERED))
	rm -f $(dir $(COVERED))*
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -n $(WORKERS) tests
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage json --quiet -o $(COVERED)
	$(BIN)/python tools/covered.py $(COVERED)

notebooks: $(STAMP)  ## execute every chapter and compare its outputs with the committed ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --nbval --nbval-current-env \
		--nbval-cell-timeout 120 -W default -p no:cacheprovider chapters

alterations: $(STAMP)  ## alter outputs and formulas of every chapter: the run of the notebooks must notice each
	WORKERS=$(WORKERS) $(BIN)/python tools/alterations.py

test-web: book  ## every page in Chromium; where there is none, it says how to install it
	PYTHON="$(CURDIR)/$(BIN)/python" $(BIN)/node web/test/run.mjs

# PyTorch lets NVIDIA's libraries round the factors of float32 convolutions to 10 bits (TF32), unless they are told not to.
test-gpu: export NVIDIA_TF32_OVERRIDE := 0
test-gpu: $(STAMP)  ## the tests and the chapters on a CUDA GPU; fails where there is none
	$(BIN)/python -m pytest -n $(WORKERS) --require-cuda tests
	$(MAKE) notebooks

soak: $(STAMP)  ## kill training and measuring a few hundred times, compare with runs that were not: results/soak.json, 10 minutes
	OMP_NUM_THREADS=1 $(BIN)/python tools/soak.py

repeat: $(STAMP)  ## what is equal bit for bit on every run, with 1 or 2 threads, in other batches: results/repeat.json, minutes
	$(BIN)/python tools/repeat.py

same-html: $(STAMP) $(WEB) $(PLAYGROUND)  ## build the book twice, in two folders, and compare all files
	$(BIN)/python tools/same_html.py

fuzz: $(STAMP)  ## ten thousand damaged files and command lines, a few minutes; writes results/fuzz.json
	OMP_NUM_THREADS=1 $(BIN)/python tools/fuzz.py

refresh: $(STAMP)  ## execute every chapter in place, seal it with the fingerprint of the code, write the ledger
	OMP_NUM_THREADS=1 $(BIN)/python tools/notebooks.py refresh
	$(BIN)/python tools/ledger.py

diffusers: $(STAMP)  ## what the comparison with diffusers needs; `make test` then runs it
	$(BIN)/python -m pip install --quiet --constraint requirements.txt --requirement requirements-diffusers.txt

bench: diffusers  ## the book beside its peers, into results/; on a quiet machine; some of it: PARTS="overhead startup"
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-bench.txt
	for part in $(PARTS); do OMP_NUM_THREADS=1 $(BIN)/python benchmarks/$$part.py || exit 1; done

mutants: $(STAMP)  ## mutation tests of the modules that carry a formula: results/mutants.json, within about half an hour
	$(BIN)/python -m pip install --quiet --constraint requirements.txt --requirement requirements-mutants.txt
	OMP_NUM_THREADS=1 $(BIN)/python tools/mutants.py --workers $(WORKERS)

$(STAMP): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(WEB): web/package.json web/package-lock.json $(STAMP)
	cd web && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --silent
	@touch $@

$(PLAYGROUND): $(STAMP) ddim_lib/onnx_export.py ddim_lib/unet.py ddim_lib/weights/mnist.safetensors
	$(BIN)/python -m ddim_lib export-onnx mnist --bits 11 --out $@

clean:
	rm -rf _build
