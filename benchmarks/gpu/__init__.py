"""Tests and benchmark on a GPU: `make gpu`, or `python -m benchmarks.gpu --help`.

__main__.py says what is done and in which order; it starts processes and writes the results down.
tests.py runs the tests; worker.py measures, case by case, with the package's own benchmark, and
figures.py says which kernels are ahead; profile.py asks Nsight Compute.
"""
