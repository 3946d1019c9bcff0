"""The paper's theorems, counter-examples and numbers, as properties of the losses themselves.

With activation "none", one class and every class active, a loss is the paper's function of
x, y in [0, 1]^p. Values are multiples of 1/64: sums are exact, so "zero" means zero.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jml_kernels import functional
from jml_kernels.selfcheck.corpus.losses import OVERLAPS

pytestmark = pytest.mark.usefixtures("one_thread")

ROUNDING = 1e-12

unit = st.integers(0, 64).map(lambda k: k / 64)


def points(count: int, coordinates=unit):
    """`count` points of one hypercube of 1 to 6 dimensions."""
    return st.integers(1, 6).flatmap(
        lambda p: st.tuples(*[st.lists(coordinates, min_size=p, max_size=p)] * count)
    )


def tensor(values) -> torch.Tensor:
    values = values if isinstance(values, (list, tuple)) else [values]
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, -1)


def value(overlap: str, x, y, backend: str, function=None) -> float:
    function = function or OVERLAPS[overlap]
    options = {"activation": "none", "active_classes": "all", "backend": backend}
    return function(tensor(x), tensor(y), **options).item()


metrics = pytest.mark.parametrize("overlap", ["metric1", "metric2"])

# ---- Theorem 2.2: JML1 and JML2 are metrics on [0, 1]^p ------------------------------------------


@metrics
@given(points(2))
def test_zero_iff_equal(overlap, backend, pair):
    a, b = pair
    assert value(overlap, a, a, backend) == 0
    assert (value(overlap, a, b, backend) > 0) == (a != b)


@metrics
@given(points(2))
def test_symmetric(overlap, backend, pair):
    a, b = pair
    there, back = value(overlap, a, b, backend), value(overlap, b, a, backend)
    assert there == pytest.approx(back, abs=ROUNDING)
    assert 0 <= there <= 1


@metrics
@given(points(3))
def test_triangle_inequality(overlap, backend, triple):
    a, b, c = triple
    through = value(overlap, a, b, backend) + value(overlap, b, c, backend)
    assert value(overlap, a, c, backend) <= through + ROUNDING


def test_soft_jaccard_l1_is_no_metric(backend):
    """Appendix B (iii): 0.5 is 2/3 away from itself."""
    assert value("soft1", 0.5, 0.5, backend) == pytest.approx(2 / 3, abs=ROUNDING)


def test_soft_jaccard_l2_is_no_metric(backend):
    """Appendix B (iv): a = .8, b = .4, c = .2. 1 - .16/.52, 1 - .32/.48 and 1 - .08/.12."""
    there = value("soft2", 0.8, 0.2, backend)
    through = value("soft2", 0.8, 0.4, backend) + value("soft2", 0.4, 0.2, backend)
    assert there == pytest.approx(9 / 13)
    assert through == pytest.approx(2 / 3)
    assert there > through


@given(points(2))
def test_soft_jaccard_l2_is_zero_iff_equal(backend, pair):
    """Section 2.2: ||x||^2 + ||y||^2 - 2 <x, y> = 0 iff x = y."""
    a, b = pair
    assert value("soft2", a, a, backend) == pytest.approx(0, abs=ROUNDING)
    assert (value("soft2", a, b, backend) > ROUNDING) == (a != b)


@pytest.mark.parametrize("variant", [1, 2])
def test_dice_is_only_a_semimetric(variant, backend):
    """(1, 0) and (0, 1) share nothing; each shares half of (1, 1): 1 > 1/3 + 1/3."""

    def dice(x, y):
        return value(
            "",
            x,
            y,
            backend,
            lambda *a, **k: functional.dice_semimetric_loss(*a, variant=variant, **k),
        )

    assert dice([1, 0], [0, 1]) == 1
    assert dice([1, 0], [1, 1]) == pytest.approx(1 / 3)
    assert dice([1, 1], [0, 1]) == pytest.approx(1 / 3)
    assert dice([0.25, 0.5], [0.25, 0.5]) == 0


# ---- section 2.2: SJL-L1 is not minimal at x = y -------------------------------------------------


@given(st.integers(1, 64).map(lambda k: k / 64), unit, unit)
def test_soft_jaccard_l1_of_one_pixel_is_minimal_at_1(backend, y, one, other):
    """Monotonically decreasing in x whatever y > 0, while JML1 and JML2 are minimal at y."""
    low, high = min(one, other), max(one, other)
    at_low, at_high = value("soft1", low, y, backend), value("soft1", high, y, backend)
    assert at_high <= at_low
    assert (at_high < at_low) == (low < high)
    for overlap in ("metric1", "metric2"):
        assert value(overlap, y, y, backend) <= value(overlap, one, y, backend)


# ---- Theorem 2.3: they agree where x or y is hard ------------------------------------------------


@given(points(2), st.booleans())
def test_all_agree_where_either_is_hard(backend, pair, swap):
    soft, other = pair
    hard = [float(v > 0.5) for v in other]
    x, y = (hard, soft) if swap else (soft, hard)
    expected = value("soft1", x, y, backend)
    assert value("metric1", x, y, backend) == pytest.approx(expected, abs=ROUNDING)
    assert value("metric2", x, y, backend) == pytest.approx(expected, abs=ROUNDING)


@given(points(2, st.integers(0, 1).map(float)))
def test_on_the_vertices_they_are_the_jaccard_distance(backend, pair):
    x, y = pair
    common = sum(a * b for a, b in zip(x, y, strict=True))
    union = sum(max(a, b) for a, b in zip(x, y, strict=True))
    expected = 1 - common / union if union else 0
    for overlap in OVERLAPS:
        assert value(overlap, x, y, backend) == pytest.approx(expected, abs=ROUNDING)


def test_all_differ_where_both_are_soft(backend):
    """Appendix C (ii): x = .8, y = .5. 1 - .4/.9, 1 - 1/1.6 and 1 - .4/.7."""
    assert value("soft1", 0.8, 0.5, backend) == pytest.approx(5 / 9)
    assert value("metric1", 0.8, 0.5, backend) == pytest.approx(3 / 8)
    assert value("metric2", 0.8, 0.5, backend) == pytest.approx(3 / 7)


# ---- appendix D: JML1 against JML2 ---------------------------------------------------------------


@given(points(2))
def test_variant_1_is_at_most_variant_2(backend, pair):
    """Theorem D.2."""
    x, y = pair
    assert value("metric1", x, y, backend) <= value("metric2", x, y, backend) + ROUNDING


@metrics
def test_neither_is_piecewise_concave_in_2_d(overlap, backend):
    """The counter-example after Theorem D.3: two points of the sub-space y-a-b, where x_1 may be
    below or above y_1 and x_2 is above y_2, with their midpoint below the chord."""
    y = [0.5, 0.5]
    a, b = [0.4087, 0.7855], [0.6285, 0.7551]
    middle = [(p + q) / 2 for p, q in zip(a, b, strict=True)]
    chord = (value(overlap, a, y, backend) + value(overlap, b, y, backend)) / 2
    assert chord > value(overlap, middle, y, backend) + 0.06


@given(unit)
def test_variant_1_is_the_convex_closure_below_one_half(backend, x):
    """Figure 2: with y = 1/2, JML1 on [0, y] is linear, 1 - 2x, and 1 - 1 / 2x above."""
    expected = 1 - 2 * x if x <= 0.5 else 1 - 1 / (2 * x)
    assert value("metric1", x, 0.5, backend) == pytest.approx(expected, abs=ROUNDING)


# ---- appendix E: where SJL-L1 pushes a pixel -----------------------------------------------------


@given(
    others=st.lists(st.tuples(unit, unit), min_size=1, max_size=4),
    x=st.integers(1, 63).map(lambda k: k / 64),
    y=unit,
)
def test_sign_of_the_derivative_of_soft_jaccard_l1(backend, others, x, y):
    """Eq. 63 and 66: with a = sum x + y - xy and b = sum xy over the other pixels, the derivative
    is -(y^2 + (a + b) y - b) / (x + y - xy + a)^2: x is pushed to 1 where y exceeds the root r2,
    to 0 below it, never to y."""
    a = sum(p + q - p * q for p, q in others)
    b = sum(p * q for p, q in others)
    if a * b == 0:
        return
    z = tensor([x, *(p for p, _ in others)]).requires_grad_()
    target = tensor([y, *(q for _, q in others)])
    functional.soft_jaccard_loss(
        z, target, activation="none", active_classes="all", backend=backend
    ).backward()
    derivative = z.grad[0, 0, 0].item()
    numerator = y**2 + (a + b) * y - b
    assert derivative == pytest.approx(-numerator / (x + y - x * y + a) ** 2, abs=ROUNDING)
    root = (-(a + b) + math.sqrt((a + b) ** 2 + 4 * b)) / 2  # r2, eq. 65
    assert 0 <= root <= 1
    if abs(y - root) > 1e-9:
        assert (derivative < 0) == (y > root)
