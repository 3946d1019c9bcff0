"""Tensors of more than 2^31 elements: every offset is computed in 64 bits, forward and backward."""

from __future__ import annotations

import pytest
import torch

import jml_kernels as jml

#: Each just over 2^31 elements: one image, and many, the last of which is past 2^31.
SHAPES = {"one image": (1, 2, 2**15 + 8, 2**15), "many images": (2**12 + 1, 2, 2**9, 2**9)}
SCALE = 2.0**30  # the gradient of a mean over as many pixels, in float16
#: Logits of both classes and the label: of all pixels, but for the last rows, which differ.
COMMON, RARE = ((0.0, 0.0), 0), ((1.0, 3.0), 1)


def expected(pixels: tuple[int, int]) -> tuple[float, torch.Tensor]:
    """(JML, gradient of a pixel by its two logits) of pixels of both sorts, in float64: a sum over
    equal pixels is their number times one."""
    logits = torch.tensor([COMMON[0], RARE[0]], dtype=torch.float64, requires_grad=True)
    count = torch.tensor(pixels, dtype=torch.float64)[:, None]
    x = logits.softmax(1)
    y = torch.eye(2, dtype=torch.float64)[[COMMON[1], RARE[1]]]
    overlap = (count * torch.minimum(x, y)).sum(0)
    union = (count * torch.maximum(x, y)).sum(0)
    loss = (1 - overlap / union).mean()
    return loss.item(), torch.autograd.grad(loss, logits)[0] / count


def fill(tensor: torch.Tensor, common: float, rare: float) -> None:
    tensor.fill_(common)
    tensor[-1, ..., -1, :] = rare


def assert_all(gradient: torch.Tensor, value: float) -> None:
    """Every element is `value`, up to the rounding of float16."""
    for extreme in torch.aminmax(gradient):
        assert extreme.item() == pytest.approx(value, rel=2e-3)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradient(shape, layout, backend):
    if torch.cuda.mem_get_info()[0] < 16 * 2**30:
        pytest.skip("needs 16 GiB of memory")
    n, c, height, width = SHAPES[shape]
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    logits = torch.empty(n, c, height, width, dtype=torch.float16, device="cuda")
    if layout == "channels_last":  # converted, it would be there twice
        logits = logits.view(n, height, width, c).movedim(-1, 1)
    assert logits.numel() > 2**31
    assert logits.is_contiguous(memory_format=memory)
    for i in range(c):
        fill(logits[:, i], COMMON[0][i], RARE[0][i])
    labels = torch.empty(n, height, width, dtype=torch.uint8, device="cuda")
    fill(labels, COMMON[1], RARE[1])

    statistics = jml.class_statistics(logits, labels, backend=backend)
    pixels = (n * height * width - width, width)
    share = torch.tensor(RARE[0], dtype=torch.float64).softmax(0)[1].item()
    assert statistics.true_positive.sum(0)[0].item() == pytest.approx(pixels[0] / 2, rel=1e-6)
    assert statistics.true_positive[-1, 1].item() == pytest.approx(width * share, rel=1e-6)
    assert statistics.false_positive.sum(0)[1].item() == pytest.approx(pixels[0] / 2, rel=1e-6)

    loss = jml.JaccardMetricLoss(backend=backend)(logits.requires_grad_(), labels)
    value, per_pixel = expected(pixels)
    assert loss.item() == pytest.approx(value, rel=1e-6)
    scale = torch.tensor(SCALE, device="cuda")
    (gradient,) = torch.autograd.grad(loss, logits, scale)
    for i in range(c):
        common, rare = (per_pixel[:, i] * SCALE).tolist()
        assert_all(gradient[-1, i, -1], rare)
        assert_all(gradient[-1, i, :-1], common)
        # In parts: whether PyTorch reduces more than 2^31 elements is not the question.
        for part in gradient[:-1, i].chunk(2) if n > 1 else ():
            assert_all(part, common)
