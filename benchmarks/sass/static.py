"""What can be counted of machine code that is not interpreted: of every kernel, for every GPU."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from jml_kernels.cubins import extracted

from . import pipes
from .kernels import Kernel, kernels_of

TARGETS = ("sm_80", "sm_90", "sm_100")


def table(objects: Path) -> dict[str, dict[str, dict[str, object]]]:
    """By target and mangled name."""
    return {
        target: {
            kernel.name: counted(kernel)
            for path in sorted(objects.glob("*.o"))
            for cubin in extracted(path, target)
            for kernel in kernels_of(cubin)
        }
        for target in TARGETS
    }


def counted(kernel: Kernel) -> dict[str, object]:
    """Registers of a thread, accesses to local memory, which are spills and stacks, and
    instructions by pipe: of all ways through the kernel, of which a launch takes one."""
    by_pipe = Counter(pipes.pipe(i) for i in kernel.code.values() if i.opcode != "NOP")
    return {
        "registers": kernel.registers,
        "local": by_pipe[pipes.LOCAL],
        "instructions": sum(by_pipe.values()),
        "by pipe": {pipe: by_pipe[pipe] for pipe in pipes.PIPES if by_pipe[pipe]},
    }
