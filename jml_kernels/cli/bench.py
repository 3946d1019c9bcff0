"""`jml-kernels bench` measures what the losses cost here, beside the usual code and other
libraries."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..backend import NAMES, choose
from ..bench import plots, report
from ..bench.allocators import SETTINGS
from ..bench.cases import LABELS, LAYOUTS, OBJECTIVES, PRESETS, BenchmarkCase
from ..bench.competitors import COMPILED, EAGER, is_import_path, named
from ..bench.growth import AXES, BATCH, CLASSES
from ..bench.session import Results, run
from ..bench.worker import Settings, WorkerError
from ..checks import LOGITS_DTYPES
from ..extras import MissingPackageError
from ..option_checks import check_choice
from . import output

DTYPES = tuple(str(dtype).removeprefix("torch.") for dtype in LOGITS_DTYPES)
#: Other words for dtypes and layouts.
ALIASES = {
    "fp16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
    "fp32": "float32",
    "float": "float32",
    "fp64": "float64",
    "double": "float64",
    "nchw": "contiguous",
    "nhwc": "channels_last",
}
ROUNDS, QUICK_ROUNDS = 11, 2
#: The longest side, and the most images, with --quick.
QUICK_SIDE, QUICK_IMAGES = 24, 2


def bench(
    shape: Annotated[
        list[str], typer.Option(help="Shapes at full size: N,C or N,C,L or N,C,H,W or N,C,D,H,W.")
    ] = [],  # noqa: B006, typer copies it
    preset: Annotated[
        list[str],
        typer.Option(
            help=f"Shapes as on a data set: {', '.join(PRESETS)}.", show_default="cityscapes"
        ),
    ] = [],  # noqa: B006
    dtype: Annotated[list[str], typer.Option(help=f"{', '.join(DTYPES)}.")] = ["float32"],  # noqa: B006
    layout: Annotated[list[str], typer.Option(help=f"{', '.join(LAYOUTS)}.")] = ["contiguous"],  # noqa: B006
    objective: Annotated[
        list[str],
        typer.Option(
            help="jml: JML against labels; bls: the same with boundary smoothing; soft: JML "
            "against probabilities; ce+jml: with cross-entropy (eq. 14); kd: labels and a teacher "
            "(eq. 17); lovasz: the Lovász-Softmax loss (appendix A); metrics: scores of a batch, "
            "which have no backward."
        ),
    ] = ["jml"],  # noqa: B006
    against: Annotated[
        list[str],
        typer.Option(
            help="What to compare with: eager, compile (naive code), cross-entropy, soft-dice, a "
            "backend, BACKEND-in-place, the name of a peer, peers for all of them, or "
            "module:function for a loss of your own, for which modules are looked for in the "
            "current folder too."
        ),
    ] = [EAGER, COMPILED],  # noqa: B006
    backend: Annotated[
        str,
        typer.Option(help=f"The backend that others are compared with: auto, {', '.join(NAMES)}."),
    ] = "auto",
    device: Annotated[
        str | None,
        typer.Option(
            help="Where to measure: cpu or cuda.", show_default="cuda where there is a GPU"
        ),
    ] = None,
    labels: Annotated[
        str,
        typer.Option(help="How labels are drawn: regions, as on an image; random, pixel by pixel."),
    ] = "regions",
    upsample: Annotated[
        list[int],
        typer.Option(
            min=1,
            help="Ratios of the target's size, which is that of --shape, to the logits': above 1 "
            "logits are interpolated, for others than ours by PyTorch. BACKEND-interpolated is "
            "ours with that too, and BACKEND-full-size ours alone, of logits of full size.",
        ),
    ] = [1],  # noqa: B006
    growth: Annotated[
        list[str],
        typer.Option(
            help=f"Measure how cost grows from the first case along: {', '.join(AXES)}, all."
        ),
    ] = [],  # noqa: B006
    memory: Annotated[
        float, typer.Option(min=0.001, help="GiB of memory: the largest batch that fits is told.")
    ] = 16.0,
    allocator: Annotated[
        str,
        typer.Option(
            help="Setting of the C library's allocator on a CPU: default; warm, which keeps "
            "memory, so that no step meets page faults; both."
        ),
    ] = "default",
    rounds: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="In each round all take turns; figures are medians.",
            show_default=str(ROUNDS),
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of PyTorch.", show_default="its own choice")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Measure tiny inputs, only to show that everything runs."),
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Write machine, settings, figures and the times of every turn here; -: to "
            "standard output, and the tables to standard error.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Write plots here (png, svg, pdf); measures growth with classes and "
            "batch for them."
        ),
    ] = None,
) -> None:
    """Time the losses, forward and backward, beside other code, on this machine.

    Options that say what is measured take several values: `--against eager compile`. All
    competitors take turns in one process. Their values and gradients are first checked against a
    float64 oracle on the same inputs, and nothing that is wrong is timed. Run nothing beside it.

    Exit status 1: a result was wrong, nothing could be measured, or a file could not be written.
    """
    console = output.console(json_file)
    if not console.file.isatty():
        console.width = 120
    try:
        if any(map(is_import_path, against)):
            sys.path.insert(0, os.getcwd())
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        check_choice("--device", device, ("cpu", "cuda"))
        check_choice("--allocator", allocator, ("both", *SETTINGS))
        cases = chosen_cases(shape, preset, dtype, layout, objective, labels, quick, upsample)
        axes = chosen_axes(growth, plot is not None)
        check_device(device)
        if not math.isfinite(memory):
            raise ValueError(f"--memory={memory}: expected a finite number of GiB")
        names = chosen_names(backend, device, against)
        for option, file in (("--json", json_file), ("--plot", plot)):
            output.check_file(option, file)
        if plot is not None:
            plots.check(plot)
    except (ValueError, MissingPackageError) as error:
        raise typer.BadParameter(str(error)) from None
    if device == "cuda":
        allocator = "default"  # the setting is of the CPU's
    allocators = list(SETTINGS) if allocator == "both" else [allocator]
    rounds = rounds or (QUICK_ROUNDS if quick else ROUNDS)
    settings = Settings(cases, names, device, allocators[0], rounds, threads)
    results, failed = Results(), None
    try:
        follow(settings, allocators, axes, console, results)
    except WorkerError as error:  # what came before is told and written
        failed = str(error)
    if results.rows:
        tell(results, memory, console)
    if quick:
        console.print("--quick: the inputs are too small for the figures to mean anything.")
    is_written = True
    if json_file is not None:
        written = document(results, settings, allocators, failed)
        is_written = output.write_json(written, json_file, console)
    if failed is not None:
        output.tell_error(failed)
        raise typer.Exit(1)
    if plot is not None:
        is_written &= save_plots(results, plot, console)
    if not is_written or any(
        row["wrong"] or names[0] not in row["figures"] for row in results.every_row()
    ):
        raise typer.Exit(1)


def chosen_cases(
    shapes: list[str],
    presets: list[str],
    dtypes: list[str],
    layouts: list[str],
    objectives: list[str],
    labels: str,
    quick: bool,
    upsample: Sequence[int] = (1,),
) -> list[BenchmarkCase]:
    """The cases of all combinations, each once.

    Raises:
        ValueError: for a word that is not known.
    """
    dtypes, layouts = ([ALIASES.get(w.lower(), w) for w in ws] for ws in (dtypes, layouts))
    for name, values, expected in (
        ("--preset", presets, PRESETS),
        ("--dtype", dtypes, DTYPES),
        ("--layout", layouts, LAYOUTS),
        ("--objective", objectives, OBJECTIVES),
        ("--labels", [labels], LABELS),
    ):
        for value in values:
            check_choice(name, value, tuple(expected))
    sizes = [*map(parse_shape, shapes), *(PRESETS[name] for name in presets)]
    sizes = sizes or [PRESETS["cityscapes"]]
    if quick:
        sizes = [tuple(min(n, m) for n, m in zip(s, _quick_limits(s), strict=True)) for s in sizes]
    for of, ratio in product(sizes, upsample):
        if ratio > 1 and len(of) == 2:
            raise ValueError(f"--upsample={ratio}: expected 1 with a shape without spatial sizes")
    cases = [
        BenchmarkCase(of, *OBJECTIVES[how], labels, kind, lay, upsample=ratio)
        for of, kind, lay, how, ratio in product(sizes, dtypes, layouts, objectives, upsample)
    ]
    return list(dict.fromkeys(cases))


def _quick_limits(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (QUICK_IMAGES, shape[1], *[QUICK_SIDE] * (len(shape) - 2))


def parse_shape(text: str) -> tuple[int, ...]:
    """A shape N,C,*spatial, where an x may stand for a comma. There must be two classes or more,
    since the softmax of one is constant.

    Raises:
        ValueError: for anything else.
    """
    parts = text.replace("x", ",").split(",")
    sizes = tuple(int(part) if part.strip().isdecimal() else 0 for part in parts)
    if not 2 <= len(sizes) <= 5 or min(sizes) < 1 or sizes[1] < 2:
        raise ValueError(
            f"--shape={text!r}: expected N,C and 0 to 3 sizes more, integers > 0 and C > 1, as "
            "4,19,512,512"
        )
    return sizes


def chosen_axes(growth: list[str], with_plots: bool) -> list[str]:
    """The axes of `AXES` that are asked for, in its order.

    Raises:
        ValueError: for a word that is not known.
    """
    for name in growth:
        check_choice("--growth", name, (*AXES, "all"))
    chosen = set(AXES if "all" in growth else growth) | ({CLASSES, BATCH} if with_plots else set())
    return [axis for axis in AXES if axis in chosen]


def check_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device='cuda': expected 'cpu', PyTorch finds no GPU here")


def chosen_names(backend: str, device: str, against: list[str]) -> list[str]:
    """The names of all who take part, the backend first.

    Raises:
        ValueError: for a word that is not known, and for a backend that cannot run here.
    """
    try:
        subject = choose(backend, torch.device(device))
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"--{error}") from error  # backend=...
    try:
        return named([subject, *against])
    except ValueError as error:
        raise ValueError(f"--against: {error}") from error


def follow(
    settings: Settings, allocators: list[str], axes: list[str], console: Console, results: Results
) -> None:
    """Run the benchmark and fill the results. A bar shows the progress, and each case its table.

    Raises:
        WorkerError: where a worker failed.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        run(
            settings,
            allocators,
            axes,
            progress=lambda doing, done, total: bar.update(
                task, description=doing, completed=done, total=total
            ),
            on_row=lambda row: console.print(report.table(row), highlight=False),
            results=results,
        )


def save_plots(results: Results, file: Path, console: Console) -> bool:
    """Whether they could be written."""
    try:
        plots.save(results.rows, results.sweeps, file)
    except OSError as error:
        output.tell_error(str(error))
        return False
    console.print(f"Plots: {file}", soft_wrap=True, highlight=False, markup=False)
    return True


def tell(results: Results, memory: float, console: Console) -> None:
    """Print what does not belong to one case alone: growth, capacity, legend, machine."""
    known = {note for row in results.rows for note in report.failures(row)}
    for axis, rows in results.sweeps.items():
        if not rows:  # nothing grows along it, or a worker failed before
            continue
        console.print(report.growth_table(rows, axis, known), highlight=False)
        if axis == BATCH:
            console.print(report.capacity_table(rows, memory * report.GIB), highlight=False)
    names = dict.fromkeys(name for row in results.every_row() for name in row["figures"])
    console.print(report.legend(names), report.COLUMNS, highlight=False)
    console.print(report.machine(results.machine), highlight=False, markup=False)


def document(
    results: Results, settings: Settings, allocators: list[str], failed: str | None = None
) -> dict[str, object]:
    """What --json writes: all that was measured, with times in seconds and memory in bytes, and why
    a worker failed, if one did."""
    return {
        "machine": results.machine,
        "names": settings.names,
        "device": settings.device,
        "allocators": allocators,
        "rounds": settings.rounds,
        "threads": settings.threads,
        "failed": failed,
        "cases": results.rows,
        "growth": results.sweeps,
    }
