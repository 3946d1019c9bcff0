"""The same bits twice, and whatever the number of threads."""

from __future__ import annotations

import pytest
import torch
from cases import BY_NAME, FINITE_CASES, OVERLAPS, Case
from inputs import build
from objective_cases import (
    CROSS_ENTROPY_CASES,
    DISTILLATION_CASES,
    ObjectiveCase,
    arguments,
    module,
)

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
OBJECTIVE_CASES = [
    *[case for case in CROSS_ENTROPY_CASES if case.name in ("weights, tiles", "weights, soft")],
    *[
        case
        for case in DISTILLATION_CASES
        if case.name
        in (
            "1000 classes, tiles",
            "0-D",
            "several tiles, 3-D",
            "many images",
            "student bfloat16 channels_last, tiles",
            "transposed and cropped channels_last, tiles",
            "boundary, tiles",
            "unlabeled, tiles",
            "sigmoid, tiles",
            "temperatures 2 and 2, kl",
        )
    ],
    ObjectiveCase(
        "one large image, teacher",
        "more tiles than threads, in one image",
        (1, 7, 151, 163),
        teacher="normal",
        weights=("class_weights", "ce_class_weights"),
        ignored=0.1,
        objective={"distillation": "kl"},
    ),
]
assert len(OBJECTIVE_CASES) == 13
every_case = pytest.mark.parametrize("case", [*CASES, *OBJECTIVE_CASES], ids=lambda case: case.name)


def step(function, logits: torch.Tensor, *others, **options) -> list[torch.Tensor]:
    leaf = logits.detach().requires_grad_()
    loss = function(leaf, *others, **options)
    loss.backward()
    return [loss.detach(), leaf.grad]


def results(case: Case, backend: str, device: str) -> list[torch.Tensor]:
    """The losses, their gradients and all columns; or an objective and its gradient."""
    if isinstance(case, ObjectiveCase):
        return step(module(case, backend=backend).to(device), *arguments(case, device))
    logits, target, mask = build(case, device)
    found = []
    for function in OVERLAPS.values():
        found += step(function, logits, target, mask, backend=backend, **case.options)
    options = {**case.target_options, "backend": backend}
    return [*found, *jml.class_statistics(logits, target, mask, **options)]


def assert_same_bits(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        # As integers: NaN equals NaN and 0.0 is not -0.0.
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}.get(a.element_size())
        assert torch.equal(a, b) if bits is None else torch.equal(a.view(bits), b.view(bits))


@every_case
def test_twice(case, compiled, device):
    assert_same_bits(results(case, compiled, device), results(case, compiled, device))


@pytest.mark.parametrize("case", [*CASES[:2], *OBJECTIVE_CASES[:4]], ids=lambda case: case.name)
def test_the_reference_twice(case):
    assert_same_bits(results(case, "reference", "cpu"), results(case, "reference", "cpu"))


@every_case
def test_any_number_of_threads(case, compiled, device, threads):
    threads(1)
    alone = results(case, compiled, device)
    for count in (2, 3, 5):
        threads(count)
        assert_same_bits(results(case, compiled, device), alone)


@pytest.mark.parametrize("case", DISTILLATION_CASES, ids=lambda case: case.name)
def test_two_threads_and_a_teacher(case, compiled, device, threads):
    found = []
    for count in (1, 2):
        threads(count)
        found.append(results(case, compiled, device))
    assert_same_bits(*found)


@pytest.mark.parametrize("case", FINITE_CASES, ids=lambda case: case.name)
def test_two_threads(case, compiled, device, threads):
    """Every case once: all other tests of many cases run on one thread."""
    logits, target, mask = build(case, device)
    found = []
    for count in (1, 2):
        threads(count)
        found.append(
            step(OVERLAPS["soft1"], logits, target, mask, backend=compiled, **case.options)
        )
    assert_same_bits(*found)


def test_threads_share_one_image():
    """What the tests above compare is worth nothing if there is one piece of work."""
    logits, *_ = build(CASES[-1])
    assert logits[0, 0].numel() > 8 * 1024
