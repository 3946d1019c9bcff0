"""What produces the figures of README.md and the pages in docs/, with the package's own benchmark
(jml_kernels/bench): run from the root of the repository, or all at once by `make bench`.

python -m benchmarks.cpu         measures the suites of suites.py, holds them against goals.py
python -m benchmarks.pages       writes what it found into the pages
python -m benchmarks.regression  measures the ratios of baseline.json; pytest benchmarks compares
pytest benchmarks                that, and single operators
python -m benchmarks.gpu         the kernels for GPUs, and their tests, on a GPU (`make gpu`)
python -m benchmarks.sass        the machine code of the CUDA kernels: counts and predictions for
                                 GPUs, without one
python -m benchmarks.scale       what losses over many ranks promise and cost, without one of them
"""
