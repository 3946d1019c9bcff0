"""One thread, and rows of results that nobody measured."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jml_kernels.bench import figures
from jml_kernels.bench.cases import BenchmarkCase


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """These tensors are too small to share."""


def turns_of(forward: float, backward: float | None) -> figures.Turns:
    if backward is None:
        return {"forward": [forward] * 3}
    parts = {"forward": forward, "backward": backward, "step": forward + backward}
    return {part: [value] * 3 for part, value in parts.items()}


@pytest.fixture
def make_row() -> Callable[..., dict]:
    """A row of a case: by name the seconds of forward and backward, None where there is none."""

    def make(case: BenchmarkCase, times: dict[str, tuple[float, float | None]], **changed) -> dict:
        turns = {name: turns_of(*seconds) for name, seconds in times.items()}
        turns[figures.COPY] = {"forward": changed.pop("copies", [1e-3] * 3)}
        allocator = changed.pop("allocator", "default")
        arguments = {
            "peaks": dict.fromkeys(times, case.bytes),
            "errors": {},
            "wrong": {},
            "left_out": {},
        }
        return figures.row(case, "cpu", turns, **arguments | changed) | {"allocator": allocator}

    return make
