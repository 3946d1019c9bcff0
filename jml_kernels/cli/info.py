"""`jml-kernels info`: what runs on this machine, and what does not and why."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .. import __version__, backends


def info(
    kernels: Annotated[
        bool,
        typer.Option(
            "--kernels", help="What the compiler makes of the Triton kernels: a minute or two."
        ),
    ] = False,
    target: Annotated[
        str, typer.Option(help="The GPU to compile them for: sm_80, sm_90, sm_100 or gfx942.")
    ] = "sm_90",
) -> None:
    """Print versions, the processor, and which backends run here.

    For a backend that cannot run it says why. Backend "auto", the default of every loss, takes
    the first of the table that runs on the device of the tensors.
    """
    console = Console()
    console.print(_pairs("Versions", versions()))
    console.print(_pairs("Processor", processor()))
    details = build_info()
    if details:
        console.print(_pairs("CPU kernels", details))
    table = Table("Backend", "Here", title="Backends", title_justify="left")
    for name, reason in backends().items():
        table.add_row(
            name, "[green]runs[/]" if reason is None else f"[yellow]no:[/] {escape(reason)}"
        )
    console.print(table)
    if kernels:
        console.print(kernel_table(target))


def kernel_table(target: str) -> Table:
    """Registers, spills and shared memory of the Triton kernels, compiled without a GPU."""
    module = importlib.import_module("jml_kernels.backends")
    reason = module.why_not_compiled()
    if reason is not None:
        raise typer.BadParameter(f"nothing to compile the kernels with: {reason}")
    found = importlib.import_module("jml_kernels.triton_kernels.resources")
    if target not in found.TARGETS:
        expected = ", ".join(found.TARGETS)
        raise typer.BadParameter(f"target={target!r}: expected one of {expected}")
    table = Table(title=f"Triton kernels on {target}", title_justify="left")
    for head in ("Call", "Kernel", "Warps", "Registers", "Spills", "Shared memory"):
        table.add_column(head, justify="left" if head in ("Call", "Kernel") else "right")
    for call, kernel, used in found.table(target):
        numbers = (used.warps, used.registers, used.spills, used.shared)
        table.add_row(call, kernel, *map(str, numbers))
    return table


def versions() -> dict[str, str]:
    """Name -> version of what a result may depend on."""
    try:
        triton = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        triton = "not installed"
    return {
        "jml-kernels": __version__,
        "torch": torch.__version__,
        "CUDA of torch": torch.version.cuda or "none",
        "Triton": triton,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def processor() -> dict[str, str]:
    """The CPU: model, cores that this process may use, threads that PyTorch uses, and the
    instruction set of PyTorch's own kernels."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    cores = len(affinity(0)) if affinity else os.cpu_count()
    return {
        "model": _cpu_model(),
        "cores": str(cores),
        "threads of torch": str(torch.get_num_threads()),
        "instruction set of torch": torch.backends.cpu.get_cpu_capability(),
    }


def build_info() -> dict[str, str]:
    """What the compiled CPU kernels say of themselves; empty where there are none."""
    # Not an attribute of the package: there `backends` is the function of that name.
    module = importlib.import_module("jml_kernels.backends")
    describe = getattr(module, "build_info", None)
    return describe() if describe else {}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _pairs(title: str, values: dict[str, str]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in values.items():
        table.add_row(name, str(value))
    return table
