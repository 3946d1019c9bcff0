"""The two ways in which the CPU kernels take logits of lower resolution: by cells between low rows
(csrc/cpu/upsample), and by tiles that are interpolated as they are filled. The corpus has cases of
both; here are the numbers for which they have paths of their own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from needs import cpu_kernels
from operators import operator_arguments

import jml_kernels as jml
from jml_kernels.selfcheck.repeatability import bits
from jml_kernels.statistics import column_bits

pytestmark = cpu_kernels

#: What the kernels that take cells compute, and what makes the others run.
OF_CELLS = column_bits(
    "true_positive", "false_positive", "false_negative", "intersection", "target_max", "present"
)
OF_TILES = OF_CELLS | column_bits("prediction_max")
SMOOTHINGS = {
    "hard": {},
    "smoothed": {"label_smoothing": 0.3},
    "boundary": {"label_smoothing": 0.3, "boundary_size": 3},
}


def arguments(logits: torch.Tensor, labels: torch.Tensor, columns: int, **options) -> dict:
    return operator_arguments(
        logits, labels, upsample=1, label_columns=columns, dense_columns=0, **options
    )


def results(logits, labels, columns: int, **options) -> list[torch.Tensor]:
    """Sums and number of pixels, and a gradient that weighs all sums."""
    given = arguments(logits, labels, columns, **options)
    sums, extrema, totals = torch.ops.jml_kernels.cpu_statistics(**given)
    of_sums, of_totals = weights(sums), torch.zeros_like(totals)
    gradient = torch.ops.jml_kernels.cpu_statistics_backward(of_sums, of_totals, **given)
    return [sums, extrema[:, [1, 3]], totals, gradient]


def weights(sums: torch.Tensor) -> torch.Tensor:
    return torch.randn(sums.shape, dtype=sums.dtype, generator=torch.Generator().manual_seed(0))


def expected(logits, labels, dtype=torch.float64, **options) -> list[torch.Tensor]:
    logits = logits.to(dtype, copy=True).requires_grad_()
    sums, extrema, totals = jml.reference.statistics(
        **arguments(logits, labels, OF_CELLS, **options)
    )
    (gradient,) = torch.autograd.grad((sums * weights(sums)).sum(), logits)
    return [sums.detach(), extrema[:, [1, 3]], totals.detach(), gradient]


def gradient_error(found, right) -> float:
    return ((found[3].double() - right[3]).norm() / right[3].norm().clamp_min(1e-9)).item()


def assert_near(found, right, tolerance: float = 2e-5) -> None:
    for one, other in zip(found[:3], right[:3], strict=True):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-5)
    assert gradient_error(found, right) < tolerance


def assert_cells_near(logits, labels, right, **options) -> None:
    """A gradient that is nearly 0, as of a saturated softmax, has few digits in float32: no fewer
    than PyTorch's own has there."""
    by_tiles = results(logits, labels, OF_TILES, **options)
    in_float32 = expected(logits, labels, torch.float32, **options)
    tolerance = max(2e-5, 3 * gradient_error(in_float32, right))
    assert_near(by_tiles, right, tolerance)
    assert_near(results(logits, labels, OF_CELLS, **options), right, tolerance)


def blocks(classes: int, size: tuple[int, int], images: int = 1) -> torch.Tensor:
    """Labels in regions, some of them ignored."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(images, classes, -(-size[0] // 9), -(-size[1] // 9), generator=generator)
    labels = F.interpolate(coarse, size=size, mode="nearest").argmax(1)
    return labels.where(torch.rand(labels.shape, generator=generator) > 0.03, -100)


@pytest.mark.parametrize("smoothing", SMOOTHINGS.values(), ids=SMOOTHINGS)
@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize(
    ("low", "size"),
    [((9, 20), (36, 80)), ((12, 7), (97, 50)), ((1, 1), (17, 30)), ((3, 2), (70, 128))],
)
def test_both_ways(low, size, align_corners, scale, smoothing):
    logits = scale * torch.randn(2, 6, *low, generator=torch.Generator().manual_seed(0))
    labels = blocks(6, size, images=2)
    options = {**smoothing, "align_corners": align_corners}
    assert_cells_near(logits, labels, expected(logits, labels, **options), **options)


# ---- progressions that float32 does not hold -----------------------------------------------------


@pytest.mark.parametrize("smoothing", SMOOTHINGS.values(), ids=SMOOTHINGS)
def test_neighbours_whose_largest_classes_differ(smoothing):
    """Between them every exponential, relative to the largest logits of the neighbours, is below
    e^-250, which is 0 in float32: the sum over the classes would be 0."""
    logits = torch.full((1, 3, 4, 4), -500.0)
    for y in range(4):
        for x in range(4):
            logits[0, (x + y) % 3, y, x] = 0.5 * (x - y)
    labels = blocks(3, (32, 16))
    right = expected(logits, labels, **smoothing)
    assert right[0].isfinite().all()
    assert_cells_near(logits, labels, right, **smoothing)


@pytest.mark.parametrize("smoothing", SMOOTHINGS.values(), ids=SMOOTHINGS)
def test_a_progression_that_begins_at_0(smoothing):
    """e^-375 is 0 in float32, and 0 times a ratio stays 0: the class that is nearly as probable as
    the other one in the last row of a cell would be lost."""
    logits = torch.zeros(1, 2, 2, 16)
    logits[:, 1, 0], logits[:, 1, 1] = -400.0, 30.0
    logits += 0.1 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    labels = blocks(2, (16, 64))
    right = expected(logits, labels, **smoothing)
    rows = F.interpolate(logits, size=(16, 64), mode="bilinear").softmax(1)[0, 1, :, 0]
    assert rows[4] == 0
    assert rows[11] > 0.5
    assert_cells_near(logits, labels, right, **smoothing)


# ---- logits that are no numbers ------------------------------------------------------------------


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("place", [(1, 2), (0, 0)], ids=["inside", "corner"])
@pytest.mark.parametrize("hidden", [False, True])
def test_no_numbers_as_interpolation_has_them(value, place, hidden):
    """A corner beyond which the border is constant has the weight 0 there, and 0 times infinity is
    NaN. Pixels that do not count may hold anything."""
    logits = torch.randn(1, 4, 4, 5, generator=torch.Generator().manual_seed(0))
    logits[0, 2, place[0], place[1]] = value
    labels = blocks(4, (16, 20))
    labels[labels == 2] = 1  # an impossible label has gradient NaN
    if hidden:
        labels[F.interpolate(logits, size=(16, 20), mode="bilinear").isnan().any(1)] = -100
    full = F.interpolate(logits, size=(16, 20), mode="bilinear")
    plain = operator_arguments(full, labels, label_columns=OF_CELLS, dense_columns=0)
    right = torch.ops.jml_kernels.cpu_statistics(**plain)[0]
    found = results(logits, labels, OF_CELLS)
    torch.testing.assert_close(found[0], right, rtol=1e-5, atol=1e-5, equal_nan=True)
    if value == -torch.inf and hidden:
        assert right.isfinite().all()


# ---- any number of threads -----------------------------------------------------------------------


@pytest.mark.parametrize("columns", [OF_CELLS, OF_TILES], ids=["cells", "tiles"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize(("low", "size"), [((64, 9), (200, 30)), ((40, 33), (80, 66))])
def test_one_image_on_several_threads(low, size, dtype, columns, threads):
    """Rows of an image are shared out: the low rows between two parts get sums from both."""
    logits = torch.randn(1, 5, *low, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = blocks(5, size)
    threads(1)
    alone = results(logits, labels, columns)
    for count in (2, 5):
        threads(count)
        for one, other in zip(results(logits, labels, columns), alone, strict=True):
            assert torch.equal(bits(one), bits(other))
    tolerance = 2e-5 if dtype == torch.float32 else 1e-3
    assert_near(alone, expected(logits, labels), tolerance)


def test_a_volume_on_several_threads(threads):
    logits = torch.randn(1, 3, 4, 20, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 3, (1, 9, 70, 11), generator=torch.Generator().manual_seed(0))
    threads(1)
    alone = results(logits, labels, OF_TILES)
    threads(3)
    for one, other in zip(results(logits, labels, OF_TILES), alone, strict=True):
        assert torch.equal(bits(one), bits(other))
    assert_near(alone, expected(logits, labels))
