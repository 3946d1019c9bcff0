"""The fused Jaccard metric loss on the CPU, forward and backward, against naive JML (eager and
under torch.compile), torch's cross-entropy, a soft Dice that saves memory, and the floor: the
bytes that cannot be avoided, at this machine's speed of copying.

    python -m benchmarks.cpu --help

Ratios only, of times measured in turns in one process. Run nothing beside it.
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
    """Ratios of times, measured in turns: the fused loss against others and the floor."""
    session(
        "cpu",
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
