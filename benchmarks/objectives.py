"""Whole objectives on the CPU, forward and backward, against naive code (eager and under
torch.compile) and the floor: cross-entropy + JML (eq. 14), and distillation (eq. 15 to 17).

    python -m benchmarks.objectives --help
"""

from __future__ import annotations

import typer

from .session import Allocator, Compile, Json, Markdown, Only, Quick, Rounds, Threads, session


def main(
    allocator: Allocator = "both",
    rounds: Rounds = 11,
    threads: Threads = 2,
    only: Only = [],  # noqa: B006, typer copies it
    json: Json = None,
    markdown: Markdown = False,
    quick: Quick = False,
    compile: Compile = True,
) -> None:
    """Ratios of times, measured in turns: fused objectives against naive code and the floor."""
    session(
        "objectives",
        allocator=allocator,
        rounds=rounds,
        threads=threads,
        only=only,
        json_file=json,
        print_markdown=markdown,
        quick=quick,
        with_compile=compile,
    )


if __name__ == "__main__":
    typer.run(main)
