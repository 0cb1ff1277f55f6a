# Tandem: `make demo` shows the main job, `make test` proves it. Both install what they need.
PYTHON ?= python3
# What is installed: exact versions. A lock of supply/locks has the hash of each file, too.
LOCK ?= requirements.lock
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test check bench screenshots soak replay image wheels clean lock judges sbom licenses vulnerabilities audit wheel-twice

# Compiled modules are kept, whatever the environment says: the tests start hundreds of processes,
# and each would compile half a second of modules again.
unexport PYTHONDONTWRITEBYTECODE

install: $(STAMP)

$(STAMP): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Tandem needs Python 3.11 or newer: make install PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing pinned packages into $(VENV) (about two minutes, 3 GB) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(LOCK)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q appliance benchmarks dashboard dicom models supply
	@touch $@

# One synthetic case from the scanner's folder to the archive; SEED and SCORE choose another one,
# ASSAY=er or ASSAY=pr with POSITIVE percent of the tumor nuclei one of another assay.
SEED ?= 26
SCORE ?= 2+
ASSAY ?= her2
POSITIVE ?= 70
demo: install
	@$(BIN)/python benchmarks/demo.py --seed $(SEED) --assay $(ASSAY) \
		$(if $(filter her2,$(ASSAY)),--score $(SCORE),--positive $(POSITIVE))

# More files at a time than cores: tests of daemons and servers wait more than they work. Files are
# begun in the order of tests/conftest.py, the longest first. Threads of the networks that wait for
# each other sleep: by default they spin, and took up to seven eighths of the time of such tests.
test: export OMP_WAIT_POLICY := passive
test: install judges
	@scratch=$$(sh tests/scratch.sh); trap 'rm -rf "$$scratch"' EXIT; trap 'exit 1' INT TERM; \
		PYTEST_DEBUG_TEMPROOT=$$scratch $(BIN)/python -m pytest -n 5 --dist loadfile \
		--no-loadscope-reorder --durations 25

# Ruff, strict types, the arrows of the architecture, dead code, sizes of rooms and functions.
check: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/vulture
	@$(BIN)/python -m pytest -q -n 0 tests/test_rooms.py

bench: install
	@$(BIN)/python benchmarks/steps.py
	@$(BIN)/tandem bench --read tumor
	@$(BIN)/tandem bench --read stain

# What the image is made from (Dockerfile): wheels of Tandem and of all that it needs, and pip's own.
# With the pins of requirements.lock, and the build of torch that pip is set up for.
wheels: install
	@rm -rf build/wheels && mkdir -p build/wheels
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w build/wheels .
	@$(BIN)/python -m pip wheel --quiet -c requirements.lock -w build/wheels pip \
		"$$(ls build/wheels/tandem_her2-*.whl)[cluster]"
	@cd build/wheels && { apt-get -qq download libturbojpeg0 || \
		echo "no libturbojpeg0: NDPI and Philips are compressed again"; }

# Pictures of every page of the dashboard for docs/dashboard.md and README, of synthetic cases.
screenshots: install judges
	@TANDEM_SCREENSHOTS=docs/images $(BIN)/python -m pytest tests/acceptance/test_screenshots.py

# Faults without end: rounds of benchmarks/chaos.py until FAULTS are done (hours; it goes on where it
# was ended), SITES of them at the same time. As root, for its small disk. A round is a line of LOG.
FAULTS ?= 10000
SITES ?= 1
LOG ?= docs/soak.jsonl
soak: install
	@$(BIN)/python -m benchmarks.soak --faults $(FAULTS) --sites $(SITES) --log $(LOG) --seed $(if $(filter file,$(origin SEED)),1,$(SEED))

# README's commands for a server, in a root of its own, as root: all is installed anew (minutes).
replay: install
	@TANDEM_REPLAY=1 $(BIN)/python -m pytest -s tests/acceptance/test_readme.py

# The judges that tests ask: a PACS, validators, a browser, a slide viewer. By apt and npm where
# that is allowed.
judges:
	@sh tests/install-judges.sh

# The image, built by buildah on mmdebstrap's root, and a case in it (minutes, as root; make wheels).
image: wheels
	@TANDEM_IMAGE=1 $(BIN)/python -m pytest -s tests/test_image.py

# What Tandem is made of: bill of materials (CycloneDX), licenses, known vulnerabilities
# (DATABASE names a dated copy of OSV's records for PyPI; without it, it says that it could not).
sbom: install
	@$(BIN)/python -m supply.sbom build/sbom.cdx.json
	@echo build/sbom.cdx.json

licenses: install
	@$(BIN)/python -m supply.licenses docs/licenses.md

vulnerabilities: install
	@$(BIN)/python -m supply.vulnerabilities $(DATABASE)

# Code that looks dangerous, in an environment of its own: bandit's rules and those of
# supply/semgrep.yml, which need no network. A high finding fails.
AUDITED := appliance dashboard dicom models supply
audit: build/audit/.installed
	@build/audit/bin/bandit --quiet --recursive --severity-level high $(AUDITED)
	@build/audit/bin/semgrep scan --config supply/semgrep.yml --severity ERROR --error --quiet \
		--metrics off --disable-version-check --no-git-ignore $(AUDITED)
	@echo "no high finding"

build/audit/.installed: supply/audit.txt
	@$(PYTHON) -m venv build/audit
	@build/audit/bin/python -m pip install --quiet --disable-pip-version-check -r supply/audit.txt
	@touch $@

# The wheel of the last commit, built twice, each in a folder of its own: equal bytes.
wheel-twice: install
	@sh supply/wheel-twice.sh $(BIN)/python

lock: install
	@{ echo "# Exact pins of everything; every install uses this file. Written by: make lock"; \
	   $(BIN)/python -m pip freeze --all --exclude-editable | grep -v "^pip==" | sed 's/^torch==2.13.0.*/torch==2.13.0/'; \
	 } > requirements.lock
	@$(BIN)/python -m supply.hashed

clean:
	rm -rf $(VENV) build *.egg-info demo-case tests/viewer/js .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
