"""The fused Jaccard metric loss on the CPU, forward and backward, against naive JML (eager and
under torch.compile), torch's cross-entropy, a soft Dice that saves memory, and the floor: the
bytes that cannot be avoided, at this machine's speed of copying.

    python -m benchmarks.cpu --help

Ratios only, of times measured in turns in one process. Run nothing beside it.
"""

from .session import run

if __name__ == "__main__":
    run(
        "cpu",
        "Ratios of times, measured in turns: the fused loss against others and the floor.",
    )
