"""A few tiny steps of everything: what test_sanitizer.py runs under compute-sanitizer.

    python tests/gpu/short_run.py cuda|triton [device]

Sizes are odd, so that the last vector, tile and group are not full ones.
"""

from __future__ import annotations

import sys

import torch
from problems import KINDS, draw, expected, problem, step

import jml_kernels as jml
from jml_kernels.selfcheck.corpus.drawing import Tensors

_SINGLE, _HALF = (torch.float32, "contiguous"), (torch.float16, "channels_last")
FEW, MANY = (1, 19, 12, 33), (1, 150, 8, 17)
#: (kind, shape of the logits, dtype and layout)
STEPS = [
    ("labels", (2, 5, 7, 9), _SINGLE),  # several images
    ("labels", (2, 2, 7, 16), _HALF),  # rows that are aligned
    ("labels", FEW, _SINGLE),
    ("labels", FEW, _HALF),
    ("labels", MANY, _SINGLE),
    ("labels", MANY, _HALF),
    ("labels", (1, 1000, 3, 5), _SINGLE),  # classes in chunks
    ("labels", (1, 1000, 3, 5), _HALF),
    ("boundary", (2, 3, 4, 5, 6), _SINGLE),  # volumes
    ("labels", (7, 21), _SINGLE),  # one pixel an image
    *((kind, FEW, _SINGLE) for kind in KINDS if kind != "labels"),
    *((kind, MANY, _HALF) for kind in KINDS if kind != "labels"),
]


def to(device: str, tensors: Tensors) -> Tensors:
    return Tensors(*(None if tensor is None else tensor.to(device) for tensor in tensors))


def run_steps(backend: str, device: str) -> int:
    """All of them, each near its right value; returns how many there were."""
    for kind, shape, (dtype, layout) in STEPS:
        case = problem(kind, shape, dtype, layout)
        # Made on the CPU: the tool need not watch PyTorch's kernels.
        cpu = draw(case, "cpu")
        found = step(case, backend, to(device, cpu))
        right = expected(case, cpu).loss.item()
        assert abs(found.loss.item() - right) <= 1e-4, (kind, shape, dtype, found.loss, right)
        assert found.gradient.cpu().isfinite().all(), (kind, shape, dtype)
    return len(STEPS)


def run_more(backend: str, device: str) -> None:
    """Every column, a mask, and strides other than those of the two layouts."""
    case = problem("labels", (2, 19, 11, 13))
    tensors = to(device, draw(case, "cpu"))
    logits, labels = tensors.logits, tensors.target
    mask = (torch.arange(labels.numel()).view(labels.shape) % 3 > 0).to(device)
    statistics = jml.class_statistics(logits, labels, mask, backend=backend)
    assert statistics.true_positive.cpu().isfinite().all()
    # No dimension has stride 1, and the memory ends with the last element.
    memory = torch.empty(2 * logits.numel() - 1, device=device)
    stepped = memory.as_strided(logits.shape, [2 * stride for stride in logits.stride()])
    step(case, backend, tensors._replace(logits=stepped.copy_(logits)))


def main(backend: str, device: str = "cuda") -> None:
    count = run_steps(backend, device)
    run_more(backend, device)
    print(f"{count} steps and more")


if __name__ == "__main__":
    main(*sys.argv[1:])
