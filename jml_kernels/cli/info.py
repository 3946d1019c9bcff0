"""`jml-kernels info` says what runs on this machine, and what does not and why."""

from __future__ import annotations

import importlib
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .. import backends, cuda_resources
from ..backend.cuda import LIBRARY
from ..backend.triton import why_not_compiled
from ..machine import describe


def info(
    kernels: Annotated[
        bool,
        typer.Option(
            "--kernels",
            help="Show what the compilers make of the GPU kernels, which takes a minute or two for "
            "Triton.",
        ),
    ] = False,
    target: Annotated[
        str, typer.Option(help="The GPU that --kernels is about: sm_80, sm_90, sm_100 or gfx942.")
    ] = "sm_90",
) -> None:
    """Print versions, the processor, and which backends run here.

    For a backend that cannot run it says why. Backend "auto", the default of every loss, takes
    the first of the table that runs on the device of the tensors.
    """
    console = Console()
    for title, details in describe().items():
        console.print(_pairs(title[0].upper() + title[1:], details))
    table = Table("Backend", "Here", title="Backends", title_justify="left")
    for name, reason in backends().items():
        table.add_row(
            name, "[green]runs[/]" if reason is None else f"[yellow]no:[/] {escape(reason)}"
        )
    console.print(table)
    if kernels:
        for table in kernel_tables(target):
            console.print(escape(table) if isinstance(table, str) else table)


def kernel_tables(target: str) -> list[Table | str]:
    """The tables of Triton and of CUDA; in place of one that is not there, the reason in words."""
    tables = [triton_table(target), cuda_table(target)]
    if all(isinstance(table, str) for table in tables):
        raise typer.BadParameter("; ".join(map(str, tables)))
    return tables


def triton_table(target: str) -> Table | str:
    """Registers, spills and shared memory of the Triton kernels, compiled without a GPU."""
    reason = why_not_compiled()
    if reason is not None:
        return f"Triton kernels: nothing to compile them with: {reason}"
    resources = importlib.import_module("jml_kernels.triton_kernels.resources")
    if target not in resources.TARGETS:
        expected = ", ".join(resources.TARGETS)
        return f"Triton kernels: target={target!r}: expected one of {expected}"
    table = Table(title=f"Triton kernels on {target}", title_justify="left")
    for head in ("Call", "Kernel", "Warps", "Registers", "Spills", "Shared memory"):
        table.add_column(head, justify="left" if head in ("Call", "Kernel") else "right")
    for call, kernel, used in resources.table(target):
        numbers = (used.warps, used.registers, used.spills, used.shared)
        table.add_row(call, kernel, *map(str, numbers))
    return table


def cuda_table(target: str) -> Table | str:
    """The same for the CUDA kernels as they were built, whatever PyTorch is here; and how many
    instructions each has, where there is a cuobjdump to read them with."""
    report = cuda_resources.REPORT
    if not report.exists():
        return "CUDA kernels: they were not built (install with nvcc and JML_BUILD=cuda)"
    every = cuda_resources.parse(report.read_text())
    kernels = [kernel for kernel in every if kernel.target == target]
    if not kernels:
        expected = ", ".join(dict.fromkeys(kernel.target for kernel in every))
        return f"CUDA kernels: target={target!r}: they were built for {expected}"
    table = Table(
        title=f"CUDA kernels on {target} (warps: of a multiprocessor, as registers allow)",
        title_justify="left",
    )
    heads = ("Kernel", "Registers", "Stack", "Spills", "Shared memory", "Warps", "Instructions")
    for head in heads:
        table.add_column(head, justify="left" if head == "Kernel" else "right")
    instructions = cuda_resources.instructions(LIBRARY, target)
    for kernel in kernels:
        registers = kernel.registers
        warps = None if registers is None else cuda_resources.warps(target, registers)
        of_thread = (registers, kernel.stack, kernel.spills)
        numbers = (*of_thread, kernel.shared, warps, instructions.get(kernel.kernel))
        cells = ("-" if number is None else str(number) for number in numbers)
        table.add_row(escape(kernel.kernel), *cells)
    return table


def _pairs(title: str, values: dict[str, str]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in values.items():
        table.add_row(name, str(value))
    return table
