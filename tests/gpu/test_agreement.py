"""Large inputs: the backends agree with the reference in float64, and with each other."""

from __future__ import annotations

import itertools

import pytest
import torch
from problems import KINDS, draw, expected, problem, step, untied

from jml_kernels import accuracy
from jml_kernels.accuracy import GRADIENT_TOLERANCE, LOSS_TOLERANCE

#: Some 10 million elements, by the number of classes. Rows of 16 bytes and rows that are not.
SHAPES = {
    2: (2, 2, 1536, 1664),
    19: (2, 19, 512, 544),
    21: (2, 21, 499, 501),
    64: (2, 64, 272, 304),
    150: (2, 150, 176, 192),
    256: (1, 256, 191, 203),
    1000: (1, 1000, 96, 112),
}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LAYOUTS = ("contiguous", "channels_last")

# Every pair of dtype and layout with labels; other kinds with the pairs that take other paths.
PROBLEMS = [
    *itertools.product(["labels"], SHAPES, DTYPES, LAYOUTS),
    *(
        (kind, classes, dtype, layout)
        for kind in KINDS
        if kind != "labels"
        for classes in (19, 21, 150)
        for dtype, layout in (
            (torch.float32, "contiguous"),
            (torch.float16, "channels_last"),
        )
    ),
]
problems = pytest.mark.parametrize(
    ("kind", "classes", "dtype", "layout"),
    PROBLEMS,
    ids=lambda value: str(value).removeprefix("torch."),
)


@problems
def test_the_reference(kind, classes, dtype, layout, backend):
    case = problem(kind, SHAPES[classes], dtype, layout)
    tensors = draw(case)
    right = expected(case, tensors)
    found = step(case, backend, tensors)
    assert found.gradient.dtype == dtype
    assert found.gradient.stride() == tensors.logits.stride()
    tolerance = LOSS_TOLERANCE[dtype]
    assert found.loss.item() == pytest.approx(right.loss.item(), rel=tolerance, abs=tolerance)
    counted = untied(case, tensors)
    assert counted.float().mean() > 0.9, "too few pixels are judged"
    _, error = accuracy.errors(found, right, counted)
    assert error <= GRADIENT_TOLERANCE[dtype]


@problems
def test_each_other(kind, classes, dtype, layout, backends):
    case = problem(kind, SHAPES[classes], dtype, layout)
    tensors = draw(case)
    one, other = (step(case, name, tensors) for name in backends)
    tolerance = 2 * LOSS_TOLERANCE[dtype]
    assert one.loss.item() == pytest.approx(other.loss.item(), rel=tolerance, abs=tolerance)
    in_float64 = accuracy.Answer(other.loss, other.gradient.double())
    _, error = accuracy.errors(one, in_float64, untied(case, tensors))
    assert error <= 2 * GRADIENT_TOLERANCE[dtype]
