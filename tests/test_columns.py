"""What is written once per language is held equal here: the order of the statistics' columns, and
the places of the operators' packed options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from needs import cpu_kernels

from jml_kernels import checks
from jml_kernels.overlaps import ORDER_OF_SUMMATION, OVERLAPS, overlap_columns
from jml_kernels.packing import FormulaFloats, FormulaInts, TallyInts, TargetFloats, TargetInts
from jml_kernels.statistics import COLUMNS, EXTREMA, SUMS, TOTALS, ClassStatistics, column_bits

CSRC = Path(__file__).parents[1] / "csrc"


def names_in_braces(text: str) -> tuple[str, ...]:
    """The names of the first list in braces of a C++ text."""
    return tuple(re.findall(r"\w+", re.search(r"\{([^{}]*)\}", text).group(1)))


def test_columns_of_python():
    assert COLUMNS == SUMS + EXTREMA + TOTALS
    # The other totals are of the objectives alone, and `counted` of the formula.
    of_users = (name for name in EXTREMA if name != "counted")
    assert ClassStatistics._fields == (*SUMS, *of_users, "cross_entropy", "valid")
    assert set(ClassStatistics._fields) <= set(COLUMNS)


@cpu_kernels
def test_columns_of_cpp():
    from jml_kernels import _cpu  # noqa: PLC0415

    assert tuple(_cpu.columns()) == COLUMNS


@pytest.mark.parametrize("kind", [TargetInts, TargetFloats, FormulaInts, FormulaFloats, TallyInts])
def test_packed_options_of_cpp(kind):
    text = (CSRC / "packing.h").read_text(encoding="utf-8")
    places = names_in_braces(text[text.index(f"struct {kind.__name__} {{") :].partition("enum")[2])
    assert places == (*kind._fields, "count")


@pytest.mark.parametrize(
    ("name", "choices", "file"),
    [
        ("Activation", checks.ACTIVATIONS, "problem.h"),
        ("Active", checks.ACTIVE_MODES, "formula.h"),
    ],
)
def test_words_that_travel_as_numbers(name, choices, file):
    text = (CSRC / file).read_text(encoding="utf-8")
    assert names_in_braces(text[text.index(f"enum class {name} ") :]) == choices


def test_order_of_summation_of_cpp():
    text = (CSRC / "formula.h").read_text(encoding="utf-8")
    order = names_in_braces(text[text.index("kOrder[kSums] = ") :])
    camel = ["k" + SUMS[i].title().replace("_", "") for i in ORDER_OF_SUMMATION]
    assert list(order) == camel


def test_an_overlap_needs_the_columns_of_its_matrix():
    assert overlap_columns(OVERLAPS["metric1"]) == column_bits(*SUMS[:3])
    assert overlap_columns(OVERLAPS["soft2"]) == column_bits(*SUMS[3:])
