"""The benchmark: what a loss costs, and what others cost beside it.

    cases -> competitors -> measure (check, weigh, time) -> figures -> report, plots

`jml-kernels bench` is its command line (cli/bench.py). Cases are measured by a process of its own
(worker.py), since the allocator of the C library reads its settings when a process starts.
"""
