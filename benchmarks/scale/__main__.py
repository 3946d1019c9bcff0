"""Counts, compares and predicts what a loss over many ranks costs and promises, in one process and
without a GPU: `python -m benchmarks.scale`. Nothing is timed. Takes some minutes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.cpu import RESULTS as CPU_RESULTS
from benchmarks.cpu import in_four_digits

from . import agreement, latency, local_losses, published, shares, traffic
from .ranks import simulated_group

RESULTS = CPU_RESULTS.with_name("scale.json")


def main(
    ranks: Annotated[int, typer.Option(min=2, help="Whose sums are added.")] = 64,
    file: Annotated[Path, typer.Option("--json", help="Where it is written.")] = RESULTS,
) -> None:
    """Write what is found, for docs/scale.md."""
    torch.set_num_threads(1)  # so that the figures do not depend on the number of cores
    typer.echo(f"sums of {ranks} ranks, in many orders")
    with simulated_group(ranks) as group:
        agreements = agreement.every_agreement(group)
    typer.echo("means of local losses")
    means = local_losses.every_row()
    typer.echo("bytes")
    with simulated_group(max(latency.RANKS)) as group:
        rows = traffic.every_row(group)
    handed = {classes: bytes_of_a_step(rows, classes) for classes in traffic.CLASSES}
    content = {
        "ranks": ranks,
        "bound": agreement.bound(ranks),
        "agreement": agreements,
        "local losses": means,
        "traffic": rows,
        "latency": {
            str(size): {str(r): latency.step_time(of_step, r) for r in latency.RANKS}
            for size, of_step in handed.items()
        },
        "held out": latency.held_out(),
        "shares": shares.every_row(handed),
        "sources": published.sources(),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(in_four_digits(content), indent=1) + "\n")
    typer.echo(f"written: {file}")


def bytes_of_a_step(rows: list[dict], classes: int) -> list[int]:
    """Of each all-reduce of the usual loss, cross-entropy with JML of the whole batch, where
    gradients are averaged."""
    (row,) = (
        row
        for row in rows
        if (row["objective"], row["aggregation"]) == (traffic.WITH_CE.name, "dataset")
    )
    of = row["bytes"][str(classes)]
    return of["forward"] + of["backward, averaged"]


if __name__ == "__main__":
    typer.run(main)
