"""The fused Jaccard metric loss on the CPU in other dtypes, layouts, numbers of classes and
dimensions, against naive JML and the floor.

    python -m benchmarks.sweep --help
"""

from __future__ import annotations

import typer

from .session import Allocator, Json, Markdown, Only, Quick, Rounds, Threads, session


def main(
    allocator: Allocator = "warm",
    rounds: Rounds = 9,
    threads: Threads = 2,
    only: Only = [],  # noqa: B006, typer copies it
    json: Json = None,
    markdown: Markdown = False,
    quick: Quick = False,
) -> None:
    """Ratios of times, measured in turns: the fused loss against naive JML and the floor."""
    session(
        "sweep",
        allocator=allocator,
        rounds=rounds,
        threads=threads,
        only=only,
        json_file=json,
        print_markdown=markdown,
        quick=quick,
    )


if __name__ == "__main__":
    typer.run(main)
