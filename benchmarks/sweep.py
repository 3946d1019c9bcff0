"""The fused Jaccard metric loss on the CPU in other dtypes, layouts, numbers of classes and
dimensions, against naive JML and the floor.

    python -m benchmarks.sweep --help
"""

from .session import run

if __name__ == "__main__":
    run(
        "sweep",
        "Ratios of times, measured in turns: the fused loss against naive JML and the floor.",
        default_allocator="warm",
        rounds=9,
    )
