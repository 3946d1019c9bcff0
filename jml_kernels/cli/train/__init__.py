"""`jml-kernels train`: a small real training run, with naive and fused losses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from ...extras import MissingPackageError
from .demo import run_demo
from .land_cover import load
from .training import Settings

FULL_STEPS = 300
QUICK_STEPS = 30


def train(
    quick: Annotated[
        bool,
        typer.Option("--quick", help=f"Train {QUICK_STEPS} steps a run: under a minute in all."),
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Folder for picture.png and results.json.", file_okay=False)
    ] = Path("jml-demo"),
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the initial weights and of the crops.")
    ] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of PyTorch.", show_default="its own choice")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=3, help="Steps of each run; overrides --quick.", show_default=str(FULL_STEPS)
        ),
    ] = None,
) -> None:
    """Train a small U-Net on land cover seen from space, on the CPU.

    Real images with real labels, hard and soft: NASA Blue Marble with MODIS land cover. Five
    runs with the same seed, initial weights, batches and steps: cross-entropy; the same with
    JML, naive and fused, which must train alike; with boundary label smoothing; and on soft
    labels. Ends with tables, a picture and a JSON file. Takes about five minutes on two cores.

    Exit status 1: a package is missing, the folder cannot be written, or naive and fused loss
    do not agree.
    """
    console = Console()
    if threads is not None:
        torch.set_num_threads(threads)
    if steps is None:
        steps = QUICK_STEPS if quick else FULL_STEPS
    try:
        with console.status("Reading the maps"):
            data = load()
        agreement = run_demo(data, Settings(steps=steps, seed=seed), out, console)
    except (MissingPackageError, OSError) as error:
        Console(stderr=True).print(f"Error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    if not agreement.holds:
        raise typer.Exit(1)
