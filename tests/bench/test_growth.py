"""How cost grows: fits of numbers that are known, and where a sweep goes."""

from __future__ import annotations

import pytest

from jml_kernels.bench import growth
from jml_kernels.bench.cases import BenchmarkCase
from jml_kernels.bench.growth import AXES, Growth, along, fit, growths, largest_batch, place

X = [1.0, 2.0, 4.0, 8.0, 16.0]
CASE = BenchmarkCase((4, 19, 64, 32))

# ---- fits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [-0.5, 0.0, 0.5, 1.0, 1.7, 2.0])
def test_exponent(exponent):
    assert fit(X, [3e-3 * x**exponent for x in X]).exponent == pytest.approx(exponent, abs=1e-9)


@pytest.mark.parametrize(
    ("fixed", "each"), [(2e-3, 5e-4), (1e-6, 7.0), (4.0, 1e-3), (0.0, 2.0), (3.0, 0.0)]
)
def test_fixed_and_each(fixed, each):
    found = fit(X, [fixed + each * x for x in X])
    assert found.fixed == pytest.approx(fixed, rel=1e-6, abs=1e-12)
    assert found.each == pytest.approx(each, rel=1e-6, abs=1e-12)


def error(found: Growth, seconds: list[float]) -> float:
    return sum(
        ((found.fixed + found.each * x) / t - 1) ** 2 for x, t in zip(X, seconds, strict=True)
    )


@pytest.mark.parametrize("exponent", [2.0, 3.0, -1.0, -0.2])
def test_no_part_is_negative(exponent):
    """Of the other alone the best is found."""
    seconds = [x**exponent for x in X]
    found = fit(X, seconds)
    zero, other = ("fixed", "each") if exponent > 1 else ("each", "fixed")
    assert getattr(found, zero) == 0
    best = getattr(found, other)
    assert best > 0
    for factor in (0.99, 1.01):
        worse = Growth(0, **{zero: 0.0, other: best * factor})
        assert error(worse, seconds) > error(found, seconds)


def test_small_times_count_as_much_as_large_ones():
    """An outlier of 10% far out moves the line by 10% there, and hardly at its beginning."""
    seconds = [1.0 + x for x in X]
    seconds[-1] *= 1.1
    found = fit(X, seconds)
    assert found.fixed + found.each == pytest.approx(2.0, rel=0.05)


# ---- sweeps --------------------------------------------------------------------------------------


def shapes(axis: str, case: BenchmarkCase = CASE) -> list[tuple[int, ...]]:
    return [one.shape for one in along(axis, case)]


def test_along_classes():
    found = shapes("classes")
    assert [shape[1] for shape in found] == [2, 4, 8, 16, 19, 32, 64, 128]
    assert {(shape[0], *shape[2:]) for shape in found} == {(1, 64, 32)}


def test_one_place_is_no_sweep():
    assert shapes("pixels", BenchmarkCase((64, 10))) == []


def test_along_pixels():
    expected = [(1, 19, 8, 4), (1, 19, 16, 8), (1, 19, 32, 16), (1, 19, 64, 32)]
    assert shapes("pixels") == expected
    # No side is less than a pixel, and no place is there twice.
    assert shapes("pixels", BenchmarkCase((2, 3, 2, 1))) == [(1, 3, 1, 1), (1, 3, 2, 1)]


def test_along_batch():
    assert shapes("batch") == [(n, 19, 64, 32) for n in (1, 2, 4, 8)]


def test_along_window():
    found = along("k", CASE)
    assert [one.boundary_size for one in found] == [3, 5, 7, 9, 13, 17]
    assert {(one.shape, one.target) for one in found} == {((1, 19, 64, 32), "boundary")}


@pytest.mark.parametrize("axis", AXES)
def test_the_rest_of_a_case_stays(axis):
    case = BenchmarkCase(CASE.shape, "labels", "CE + JML", "random", "float16", "channels_last")
    for one in along(axis, case):
        assert (one.objective, one.labels, one.dtype, one.layout) == (
            case.objective,
            case.labels,
            case.dtype,
            case.layout,
        )


@pytest.mark.parametrize("axis", AXES)
def test_places_rise(axis, make_row):
    places = [place(axis, make_row(one, {})) for one in along(axis, CASE)]
    assert places == sorted(set(places))
    assert len(places) >= 4


def test_places(make_row):
    row = make_row(BenchmarkCase((2, 3, 8, 4), "boundary", boundary_size=5), {})
    assert {axis: place(axis, row) for axis in AXES} == {
        "classes": 3,
        "pixels": 64,
        "batch": 2,
        "k": 5,
        "ratio": 1,
    }


def test_ratios():
    found = along("ratio", CASE)
    assert {one.shape for one in found} == {(1, 19, 64, 32)}
    assert [one.logits_shape[2:] for one in found] == [(32, 16), (16, 8), (8, 4), (4, 2)]
    assert along("ratio", BenchmarkCase((64, 10))) == []


def test_nothing_is_larger_than_the_largest(monkeypatch):
    monkeypatch.setattr(growth, "LARGEST", 2 * CASE.bytes)
    assert [shape[0] for shape in shapes("batch")] == [1, 2, 4, 8]
    assert max(shape[1] for shape in shapes("classes")) == 128
    # Or than the case itself: 4 images of 19 classes.
    monkeypatch.setattr(growth, "LARGEST", 2 * CASE.bytes - 1)
    assert [shape[0] for shape in shapes("batch")] == [1, 2, 4]
    monkeypatch.setattr(growth, "LARGEST", 0)
    assert [shape[0] for shape in shapes("batch")] == [1, 2, 4]
    assert max(shape[1] for shape in shapes("classes")) == 64
    assert len(shapes("pixels")) == 4


# ---- of rows -------------------------------------------------------------------------------------


def test_growths(make_row):
    """Of whom two places are known, where he was right."""
    rows = []
    for case in along("batch", CASE):
        n = case.shape[0]
        times = {"linear": (1.0 * n, 2.0 * n), "metric": (1.0, None)}
        if n != 2:
            times["wrong once"] = (n**2 / 2, n**2 / 2) if n < 8 else (99.0, 1.0)
        if n == 4:
            times["once"] = (1.0, 1.0)
        rows.append(make_row(case, times, wrong={"wrong once": "why"} if n == 8 else {}))
    found = growths(rows, "batch")
    assert found.keys() == {"linear", "wrong once"}
    assert found["linear"].each == pytest.approx(3)
    assert found["linear"].fixed == pytest.approx(0, abs=1e-9)
    assert found["wrong once"].exponent == pytest.approx(2)


def test_largest_batch(make_row):
    """An image takes its logits, twice as much beside them, and labels."""
    rows = [make_row(case, {}) for case in along("batch", CASE)]
    for row in rows:
        row["figures"]["loss"] = {"peak bytes": 2 * row["bytes"]["logits"]}
    image = 64 * 32 * (3 * 19 * 4 + 8)
    assert largest_batch(rows, "loss", 10 * image) == 10
    assert largest_batch(rows, "loss", 10 * image - 1) == 9
    assert largest_batch(rows, "loss", image - 1) == 0
    assert largest_batch(rows, "nobody", 10 * image) is None
