"""One step of a case under Nsight Compute, which sees what lies between start and stop.

ncu --profile-from-start off ... python -m benchmarks.gpu.step cuda|triton INDEX
"""

from __future__ import annotations

import sys

import torch

from jml_kernels.bench.cases import build
from jml_kernels.bench.competitors import find

from .cases import DEVICE, ENTRIES


def main(backend: str, index: int) -> None:
    case = ENTRIES[index].case
    logits, *targets = build(case, DEVICE)
    logits.requires_grad_()
    loss = find(backend).make(case)
    for profiled in (False, True):  # the first compiles
        torch.cuda.synchronize()
        if profiled:
            torch.cuda.profiler.start()
        torch.autograd.grad(loss(logits, *targets), logits)
        torch.cuda.synchronize()
    torch.cuda.profiler.stop()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
