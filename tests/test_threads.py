"""The same bits twice, and whatever the number of threads."""

from __future__ import annotations

import pytest
import torch
from cases import BY_NAME, FINITE_CASES, OVERLAPS, Case
from inputs import build

import jml_kernels as jml

CASES = [
    *[
        BY_NAME[name]
        for name in (
            "float32",
            "several tiles",
            "several tiles, 3-D",
            "many images",
            "0-D",
            "float16 channels_last, tiles",
            "bfloat16 channels_last, tiles",
            "float64 soft, tiles",
            "boundary, tiles",
            "mask, tiles",
            "multi-label, bits channels_last",
            "1000 classes, tiles",
            "transposed, tiles",
        )
    ],
    Case("one large image", "more tiles than threads, in one image", (1, 7, 151, 163)),
    Case("3 images", "images do not divide among 2 threads", (3, 5, 71, 67), target="soft"),
    Case(
        "large, channels_last",
        "the same transposed",
        (1, 7, 151, 163),
        layout="channels_last",
        ignored=0.1,
    ),
]
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def results(case: Case, backend: str, device: str) -> list[torch.Tensor]:
    """The losses, their gradients and all columns."""
    logits, target, mask = build(case, device)
    found = []
    for function in OVERLAPS.values():
        leaf = logits.detach().requires_grad_()
        loss = function(leaf, target, mask, backend=backend, **case.options)
        loss.backward()
        found += [loss.detach(), leaf.grad]
    options = {**case.target_options, "backend": backend}
    return [*found, *jml.class_statistics(logits, target, mask, **options)]


def assert_same_bits(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        # As integers: NaN equals NaN and 0.0 is not -0.0.
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}.get(a.element_size())
        assert torch.equal(a, b) if bits is None else torch.equal(a.view(bits), b.view(bits))


@cases
def test_twice(case, compiled, device):
    assert_same_bits(results(case, compiled, device), results(case, compiled, device))


@pytest.mark.parametrize("case", CASES[:2], ids=lambda case: case.name)
def test_the_reference_twice(case):
    assert_same_bits(results(case, "reference", "cpu"), results(case, "reference", "cpu"))


@cases
def test_any_number_of_threads(case, compiled, device, threads):
    threads(1)
    alone = results(case, compiled, device)
    for count in (2, 3, 5):
        threads(count)
        assert_same_bits(results(case, compiled, device), alone)


@pytest.mark.parametrize("case", FINITE_CASES, ids=lambda case: case.name)
def test_two_threads(case, compiled, device, threads):
    """Every case once: all other tests of many cases run on one thread."""
    logits, target, mask = build(case, device)
    found = []
    for count in (1, 2):
        threads(count)
        leaf = logits.detach().requires_grad_()
        loss = OVERLAPS["soft1"](leaf, target, mask, backend=compiled, **case.options)
        loss.backward()
        found.append([loss.detach(), leaf.grad])
    assert_same_bits(*found)


def test_threads_share_one_image():
    """What the tests above compare is worth nothing if there is one piece of work."""
    logits, *_ = build(CASES[-1])
    assert logits[0, 0].numel() > 8 * 1024
