"""The results in words, as tables and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import median

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...backend.cpu import build_info
from ...machine import processor, versions
from .agreement import FIRST, Agreement
from .land_cover import CLASS_NAMES, Facts
from .training import Result, Settings

MIB = 2**20

CAVEAT = (
    "One map of the Earth is a small data set and this is a short training of a tiny network: "
    "differences in mIoU between losses at this size are within the spread of seeds (try another "
    "--seed), and rank nothing. What the figures do show is that fused and naive loss train alike, "
    "and what each costs."
)


@dataclass(frozen=True)
class Costs:
    """CE + JML, forward and backward on the same logits, in both forms.

    Attributes:
        target: what it is against.
        naive_ms, fused_ms: medians over steps.
        naive_bytes, fused_bytes: held at once beyond logits and targets; the gradient is in it.
    """

    target: str
    naive_ms: float
    fused_ms: float
    naive_bytes: int
    fused_bytes: int

    @property
    def speedup(self) -> float:
        return self.naive_ms / self.fused_ms

    @property
    def memory_ratio(self) -> float:
        return self.naive_bytes / self.fused_bytes


def costs(results: list[Result]) -> list[Costs]:
    """The costs against each kind of target, from all runs with it."""
    by_target: dict[str, list[Result]] = {}
    for result in results:
        if result.run.target is not None:
            by_target.setdefault(result.run.target.name, []).append(result)
    return [
        Costs(
            target=name,
            naive_ms=_pooled_median(members, "naive"),
            fused_ms=_pooled_median(members, "fused"),
            naive_bytes=members[0].measurements.peak_bytes["naive"],
            fused_bytes=members[0].measurements.peak_bytes["fused"],
        )
        for name, members in by_target.items()
    ]


def print_data(console: Console, source: str, facts: Facts) -> None:
    """Print what the data is, and how small."""
    console.print(f"[bold]Data.[/] {source}")
    console.print(
        f"{facts.width} x {facts.height} pixels: {facts.training_pixels:,} to train on, "
        f"{facts.validation_pixels:,} to validate. {facts.mixed:.1%} of pixels are mixed. Image "
        f"and labels disagree about water in {facts.water_disagreement:.1%} of pixels; with the "
        f"image moved by one pixel in {facts.water_disagreement_moved:.1%} or more."
    )
    table = Table("Class", box=box.SIMPLE)
    table.add_column("training", justify="right")
    table.add_column("validation", justify="right")
    shares = zip(CLASS_NAMES, facts.training_shares, facts.validation_shares, strict=True)
    for name, training, validation in shares:
        table.add_row(name, f"{training:.1%}", f"{validation:.1%}")
    console.print(table)


def print_backend(console: Console, backend: str, why_not_cpu: str | None) -> None:
    """Print which kernels "fused" means here."""
    if why_not_cpu is None:
        console.print(f"The fused losses run on the backend [bold]{backend}[/].\n")
    else:
        console.print(
            f"[yellow]The fused CPU kernels cannot run here: {escape(why_not_cpu)}. What is called "
            f"fused below is the backend {backend}, plain PyTorch, and so are its figures.[/]\n"
        )


def print_runs(console: Console, results: list[Result]) -> None:
    """Print a table with a row for each run."""
    table = Table(
        "Run",
        title="Validation on the stripes held out, against hard labels",
        title_justify="left",
        box=box.SIMPLE,
        caption="Loss: the whole objective, forward + backward, without the network; median time, "
        "and memory held at once beyond logits and targets.",
        caption_justify="left",
    )
    for heading in ("mIoU", "acc.", "loss\nms/step", "loss\nMiB", "training\ns"):
        table.add_column(heading, justify="right")
    for result in results:
        table.add_row(
            result.run.title,
            f"{result.scores.miou:.3f}",
            f"{result.scores.accuracy:.3f}",
            f"{result.measurements.median_milliseconds('objective'):.2f}",
            f"{result.measurements.peak_bytes['objective'] / MIB:.1f}",
            f"{result.seconds:.0f}",
        )
    console.print(table)


def print_costs(console: Console, results: list[Result], settings: Settings) -> None:
    """Print what naive and fused loss cost."""
    shape = (settings.batch_size, len(CLASS_NAMES), settings.crop, settings.crop)
    logits = 4 * settings.batch_size * len(CLASS_NAMES) * settings.crop**2
    table = Table(
        "CE + JML, against",
        title="Naive and fused loss in turn on the same logits, forward + backward",
        title_justify="left",
        box=box.SIMPLE,
        caption=f"Logits {' x '.join(map(str, shape))}, {logits / MIB:.1f} MiB; the gradient, as "
        "large, is in the peaks. Larger logits: jml-kernels bench.",
        caption_justify="left",
    )
    for heading in ("naive\nms", "fused\nms", "ratio", "naive\nMiB", "fused\nMiB", "ratio "):
        table.add_column(heading, justify="right")
    for row in costs(results):
        table.add_row(
            row.target,
            f"{row.naive_ms:.2f}",
            f"{row.fused_ms:.2f}",
            f"{row.speedup:.1f}x",
            f"{row.naive_bytes / MIB:.1f}",
            f"{row.fused_bytes / MIB:.1f}",
            f"{row.memory_ratio:.1f}x",
        )
    console.print(table)


def print_agreement(console: Console, agreement: Agreement) -> None:
    """Print whether the runs with naive and fused loss coincide."""
    verdict = "[green]they coincide[/]" if agreement.holds else "[bold red]THEY DO NOT COINCIDE[/]"
    console.print(
        f"[bold]Naive and fused loss:[/] {verdict}. Largest difference on the same logits "
        f"{agreement.same_logits:.1e} (gradient {agreement.same_logits_gradient:.1e} of its norm); "
        f"of the two loss curves {agreement.first_steps:.1e} in the first {FIRST} steps and "
        f"{agreement.all_steps:.1e} over all, {agreement.mean:+.1e} on average. Training "
        "multiplies rounding from step to step, so only the first figures can be tiny: the two "
        f"end {agreement.miou:.3f} mIoU apart.\n"
    )


def to_json(
    results: list[Result],
    *,
    settings: Settings,
    facts: Facts,
    agreement: Agreement,
    backend: str,
    threads: int,
) -> dict:
    """Everything that is printed, and the curves; only types that JSON has. Times are in
    milliseconds, memory in bytes, training in seconds."""
    return {
        "versions": versions(),
        "processor": processor(),
        "cpu_kernels": build_info(),
        "fused_backend": backend,
        "threads": threads,
        "settings": asdict(settings),
        "data": asdict(facts),
        "classes": list(CLASS_NAMES),
        "runs": {result.run.key: _run_json(result) for result in results},
        "costs": [
            asdict(row) | {"speedup": row.speedup, "memory_ratio": row.memory_ratio}
            for row in costs(results)
        ],
        "agreement": asdict(agreement) | {"holds": agreement.holds},
        "caveat": CAVEAT,
    }


def _run_json(result: Result) -> dict:
    iou = [None if math.isnan(value) else value for value in result.scores.class_iou]
    return {
        "title": result.run.title,
        "miou": result.scores.miou,
        "accuracy": result.scores.accuracy,
        "class_iou": iou,
        "loss_ms": result.measurements.median_milliseconds("objective"),
        "loss_peak_bytes": result.measurements.peak_bytes["objective"],
        "training_seconds": result.seconds,
        "curve": result.curve,
    }


def _pooled_median(results: list[Result], name: str) -> float:
    return median(time for result in results for time in result.measurements.milliseconds[name])
