"""Targets made from labels: the boundary rule against max-pooling the one-hot encoding, and label
smoothing."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from oracle import POOL, reached
from torch import Tensor

import jml_kernels as jml
from jml_kernels.selfcheck.corpus.dtypes import INTEGER_DTYPES

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = [(2, 17), (2, 9, 8), (2, 5, 6, 4)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{len(s) - 1}-D")
sizes = pytest.mark.parametrize("size", [1, 3, 5, 7])


def draw_labels(shape: tuple[int, ...], num_classes: int = 3, share: float = 0.15) -> Tensor:
    """Mostly 0, so that windows without another label exist."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, num_classes, shape, generator=generator)
    return torch.where(torch.rand(shape, generator=generator) < share, labels, 0)


def one_hot(labels: Tensor, num_classes: int = 3) -> Tensor:
    return F.one_hot(labels, num_classes).movedim(-1, 1).float()


@shapes
@sizes
def test_boundary_is_where_two_pooled_classes_meet(shape, size):
    """Section 2.4.1: "by applying a max pooling layer over the one-hot encoding"."""
    labels = draw_labels(shape)
    boundary = jml.boundary_mask(labels, size)
    expected = reached(one_hot(labels), size) > 1
    assert torch.equal(boundary, expected)
    assert boundary.any() == (size > 1)
    if size == 3:
        assert not boundary.all()


@shapes
@sizes
def test_an_ignored_pixel_in_the_window_makes_no_boundary(shape, size):
    """Ignored pixels are a class of their own in the one-hot; where it reaches, nothing is
    smoothed."""
    labels = draw_labels(shape)
    ignored = draw_labels(shape, 2, 0.1).flip(-1) == 1
    assert ignored.any()
    encoded = one_hot(torch.where(ignored, 3, labels), 4)
    pool = POOL[labels.dim() - 1]
    near_ignored = pool(encoded[:, 3:], size, stride=1, padding=size // 2).squeeze(1) > 0
    expected = (reached(encoded, size) > 1) & ~near_ignored
    for ignore_index in (-100, 255, -1):
        given_labels = torch.where(ignored, ignore_index, labels)
        boundary = jml.boundary_mask(given_labels, size, ignore_index)
        assert torch.equal(boundary, expected)


@given(
    st.lists(
        st.lists(st.integers(-1, 2), min_size=4, max_size=4), min_size=1, max_size=5
    ),
    st.sampled_from([1, 3, 5, 7, 9]),
)  # fmt: skip
def test_boundary_in_plain_loops(rows, size):
    labels = torch.tensor([rows])
    boundary = jml.boundary_mask(labels, size, ignore_index=-1)[0]
    height, width, reach = len(rows), 4, size // 2
    for i, j in itertools.product(range(height), range(width)):
        window = {
            rows[a][b]
            for a in range(max(0, i - reach), min(height, i + reach + 1))
            for b in range(max(0, j - reach), min(width, j + reach + 1))
        }
        assert boundary[i, j].item() == (len(window) > 1 and -1 not in window)


def test_the_images_edge_is_no_boundary():
    assert not jml.boundary_mask(torch.ones(1, 4, 4, dtype=torch.int64), 3).any()
    # Label 0 at the edge: padding with 0 must not hide a boundary either.
    labels = torch.tensor([[0, 0, 1]])
    assert jml.boundary_mask(labels, 3).tolist() == [[False, True, True]]


def test_images_do_not_touch_in_the_batch():
    labels = torch.tensor([[[0, 0]], [[1, 1]]])
    assert not jml.boundary_mask(labels, 3).any()


def test_a_window_above_the_image():
    labels = torch.tensor([[[0, 0], [0, 1]]])
    assert jml.boundary_mask(labels, 7).all()
    assert not jml.boundary_mask(torch.zeros_like(labels), 7).any()


def test_a_window_without_end():
    """It takes no longer than one that holds the image: pooling would never end."""
    labels = torch.tensor([[[0, 0], [0, 1]]])
    assert jml.boundary_mask(labels, 10**9 + 1).all()


@pytest.mark.parametrize("shape", [(5,), (0, 3, 3), (2, 0, 3)], ids=str)
def test_boundary_without_neighbours(shape):
    boundary = jml.boundary_mask(torch.zeros(shape, dtype=torch.int64), 3)
    assert boundary.shape == shape
    assert not boundary.any()


@pytest.mark.parametrize("dtype", INTEGER_DTYPES, ids=str)
def test_boundary_takes_every_integer_dtype(dtype):
    labels = draw_labels((1, 6, 7), 2)
    assert torch.equal(jml.boundary_mask(labels.to(dtype), 3), jml.boundary_mask(labels, 3))


@pytest.mark.parametrize("power", [20, 24, 31, 32, 53, 62])
@pytest.mark.parametrize("difference", [1, -1, 2**16, -(2**32)])
def test_boundary_of_large_labels(power, difference):
    """Neighbours far apart, and as close as labels get: floating numbers confuse those of 2^24 and
    more, or 2^53."""
    label = 2**power
    for sign in (1, -1):
        pair = [sign * label, sign * (label + difference)]
        labels = torch.tensor([[pair[0], pair[0], pair[1], pair[1]]])
        assert jml.boundary_mask(labels, 3, None).tolist() == [[False, True, True, False]]
        assert not jml.boundary_mask(labels[:, :2], 3, None).any()


def test_boundary_of_labels_above_the_largest_int64():
    """None of these is ignored, whatever number they become as signed ones."""
    labels = torch.tensor([[-100, -100, -100, -1, -1, 5]]).view(torch.uint64)
    expected = [[False, False, True, True, True, True]]
    for ignore_index in (-100, -1, None):
        assert jml.boundary_mask(labels, 3, ignore_index).tolist() == expected


@shapes
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
def test_smooth_labels(shape, epsilon):
    """y = (1 - e) onehot + e / C on every pixel, which sums to 1."""
    labels = draw_labels(shape)
    y = jml.smooth_labels(labels, 3, epsilon)
    torch.testing.assert_close(y, (1 - epsilon) * one_hot(labels) + epsilon / 3)
    torch.testing.assert_close(y.sum(dim=1), torch.ones(shape))


def test_no_target_of_a_label_where_nobody_can_look():
    """It is NaN where looking would make a GPU wait; torch.func.vmap cannot look either."""
    labels = torch.tensor([[0, 2, -100], [3, -1, 1]])
    with pytest.raises(IndexError, match=r"label 3 at position \(1, 0\)"):
        jml.smooth_labels(labels, 3, 0.3)
    found = torch.func.vmap(lambda row: jml.smooth_labels(row[None], 3, 0.3)[0])(labels)
    assert found.isnan().any(1).tolist() == [[False] * 3, [True, True, False]]
    torch.testing.assert_close(found[0], jml.smooth_labels(labels[:1], 3, 0.3)[0])


@shapes
@sizes
def test_boundary_label_smoothing(shape, size):
    """Smoothed at the boundary, one-hot elsewhere."""
    labels = draw_labels(shape)
    y = jml.smooth_labels(labels, 3, 0.3, size)
    at_boundary = (reached(one_hot(labels), size) > 1).unsqueeze(1)
    expected = torch.where(at_boundary, 0.7 * one_hot(labels) + 0.1, one_hot(labels))
    torch.testing.assert_close(y, expected)


def test_ignored_pixels_have_no_target():
    labels = torch.tensor([[0, 255, 2, 2]])
    y = jml.smooth_labels(labels, 3, 0.3, ignore_index=255)
    assert (y[:, :, 1] == 0).all()
    assert (y[:, :, 0] > 0).all()
    y = jml.smooth_labels(labels, 3, 0.3, boundary_size=3, ignore_index=255)
    # An ignored neighbour: not smoothed.
    assert y[0, :, 0].tolist() == [1, 0, 0]
    assert y[0, :, 2].tolist() == [0, 0, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_smooth_labels_in_every_dtype(dtype):
    y = jml.smooth_labels(torch.tensor([[0, 1]]), 2, 0.2, dtype=dtype)
    assert y.dtype == dtype
    torch.testing.assert_close(
        y.float(), torch.tensor([[[0.9, 0.1], [0.1, 0.9]]]), rtol=0, atol=0.004
    )


@shapes
@pytest.mark.parametrize("size", [None, 3])
def test_the_kernels_target_is_this_one(shape, size, backend):
    """Labels smoothed inside the loss equal probabilities smoothed outside."""
    labels = draw_labels(shape)
    logits = torch.randn(
        shape[0], 3, *shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    y = jml.smooth_labels(labels, 3, 0.1, size, dtype=torch.float64)
    inside = jml.JaccardMetricLoss(label_smoothing=0.1, boundary_size=size, backend=backend)
    outside = jml.JaccardMetricLoss(backend=backend)
    torch.testing.assert_close(inside(logits, labels), outside(logits, y), rtol=1e-13, atol=0)
