"""Whole objectives on the CPU, forward and backward, against naive code (eager and under
torch.compile) and the floor: cross-entropy + JML (eq. 14), and distillation (eq. 15 to 17).

    python -m benchmarks.objectives --help
"""

from .session import run

if __name__ == "__main__":
    run(
        "objectives",
        "Ratios of times, measured in turns: fused objectives against naive code and the floor.",
    )
