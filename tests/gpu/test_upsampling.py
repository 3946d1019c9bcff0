"""Large inputs of lower resolution: the kernels agree with the reference in float64, give the same
bits twice, and hold nothing of the full size."""

from __future__ import annotations

import pytest
import torch
from problems import draw, expected, step, untied

from jml_kernels import accuracy
from jml_kernels.accuracy import GRADIENT_TOLERANCE, LOSS_TOLERANCE
from jml_kernels.backend import BY_NAME
from jml_kernels.selfcheck.corpus.case import BLS
from jml_kernels.selfcheck.corpus.upsampling import upsampled

#: Shapes of heads and sizes of crops: ratios 4, 8 and 3.98, volumes, and more classes than fast
#: kernels hold.
SIZES = [
    ((4, 19, 128, 128), (512, 512)),
    ((2, 19, 64, 128), (512, 1024)),
    ((2, 21, 129, 129), (513, 513)),
    ((2, 150, 64, 64), (512, 512)),
    ((1, 4, 32, 48, 40), (64, 96, 160)),
    ((1, 256, 64, 64), (256, 256)),
]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LAYOUTS = ("contiguous", "channels_last")


@pytest.mark.parametrize(("shape", "size"), SIZES, ids=str)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_the_reference(shape, size, align_corners, layout, dtype, backend):
    case = upsampled(
        *("on a GPU", "threads are real", shape, size, align_corners),
        options=BLS,
        drawn="blocks",
        ignored=0.02,
        dtype=dtype,
        layout=layout,
    )
    tensors = draw(case)
    right = expected(case, tensors)
    found = step(case, backend, tensors)
    assert found.gradient.stride() == tensors.logits.stride()
    tolerance = LOSS_TOLERANCE[dtype]
    assert found.loss.item() == pytest.approx(right.loss.item(), rel=tolerance, abs=tolerance)
    counted = untied(case, tensors)
    assert counted.float().mean() > 0.5, "too few pixels are judged"
    _, error = accuracy.errors(found, right, counted)
    assert error <= GRADIENT_TOLERANCE[dtype]
    if not BY_NAME[backend].upsamples:
        return
    again = step(case, backend, tensors)
    assert torch.equal(again.loss, found.loss)
    assert torch.equal(again.gradient, found.gradient)


def test_memory(backend):
    if not BY_NAME[backend].upsamples:
        pytest.skip(f"backend {backend} does not interpolate: PyTorch does before")
    shape, size = (2, 19, 256, 256), (1024, 1024)
    case = upsampled("on a GPU", "full-size logits are 152 MiB", shape, size)
    tensors = draw(case)
    step(case, backend, tensors)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step(case, backend, tensors)
    gradient = tensors.logits.numel() * tensors.logits.element_size()
    assert torch.cuda.max_memory_allocated() - before <= gradient + 2 * 2**20
