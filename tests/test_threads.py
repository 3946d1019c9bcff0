"""The same bits twice, and whatever the number of threads."""

from __future__ import annotations

import pytest
import torch
from parametrize import each
from steps import step

import jml_kernels as jml
from jml_kernels.backend import BY_NAME as BACKENDS
from jml_kernels.selfcheck.corpus import BY_NAME, DISTILLATION, INPUTS, LossCase
from jml_kernels.selfcheck.corpus.drawing import shared
from jml_kernels.selfcheck.corpus.losses import OVERLAPS, make
from jml_kernels.selfcheck.corpus.steps import STEPS
from jml_kernels.selfcheck.repeatability import bits
from jml_kernels.selfcheck.results import Subject
from jml_kernels.tally import TALLIES, TallyOptions, tally

#: On these every overlap is computed, and every column.
OVERLAP_CASES = [
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
    *[case for case in STEPS if case.loss == "JML1"],
]
OBJECTIVES = [
    *[BY_NAME[f"cross-entropy, {name}"] for name in ("weights, tiles", "weights, soft")],
    *[
        BY_NAME[f"distillation, {name}"]
        for name in (
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
    *[case for case in STEPS if case.loss != "JML1"],
]


def results(case: LossCase, backend: str, device: str) -> list[torch.Tensor]:
    """All overlaps, their gradients and all columns; or an objective and its gradient."""
    logits, *others = shared(case, device).arguments
    if case not in OVERLAP_CASES:
        return [*step(make(case, backend, device), logits, *others)]
    found = []
    for function in OVERLAPS.values():
        found += step(function, logits, *others, backend=backend, **case.options)
    options = {**case.target_options, "backend": backend}
    return [*found, *jml.class_statistics(logits, *others, **options)]


def assert_same_bits(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        assert torch.equal(bits(a), bits(b))


def needs_own_kernels(case: LossCase, backend: str) -> None:
    if not Subject(backend).computes(case):
        pytest.skip(f"backend {backend}: PyTorch interpolates, with other bits on other threads")


@each([*OVERLAP_CASES, *OBJECTIVES])
def test_twice(case, compiled, device):
    needs_own_kernels(case, compiled)
    assert_same_bits(results(case, compiled, device), results(case, compiled, device))


@each([*OVERLAP_CASES[:2], *OBJECTIVES[:4]])
def test_the_reference_twice(case):
    assert_same_bits(results(case, "reference", "cpu"), results(case, "reference", "cpu"))


@each([*OVERLAP_CASES, *OBJECTIVES])
def test_any_number_of_threads(case, compiled, device, threads):
    needs_own_kernels(case, compiled)
    threads(1)
    alone = results(case, compiled, device)
    for count in (2, 3, 5):
        threads(count)
        assert_same_bits(results(case, compiled, device), alone)


@each(DISTILLATION)
def test_two_threads_and_a_teacher(case, compiled, device, threads):
    found = []
    for count in (1, 2):
        threads(count)
        found.append(results(case, compiled, device))
    assert_same_bits(*found)


@each(INPUTS)
def test_two_threads(case, compiled, device, threads):
    """Every case once: all other tests of many cases run on one thread."""
    needs_own_kernels(case, compiled)
    logits, target, _, mask = shared(case, device)
    found = []
    for count in (1, 2):
        threads(count)
        found.append(
            step(OVERLAPS["soft1"], logits, target, mask, backend=compiled, **case.options)
        )
    assert_same_bits(*found)


@pytest.mark.parametrize("upsample", [False, True])
@pytest.mark.parametrize("shape", [(2, 19, 70, 131), (300, 5, 3, 4), (1, 150, 48, 64)])
def test_a_tally(shape, upsample, compiled, device, threads):
    """Counts are added in any order: of several chunks of an image, and of many images."""
    if compiled not in TALLIES:
        pytest.skip(f"{compiled} does not count for metrics")
    generator = torch.Generator().manual_seed(0)
    size = shape[2] * (1 + upsample), shape[3] * (1 + upsample)
    logits = torch.randn(shape, generator=generator).to(device)
    labels = torch.randint(shape[1], (shape[0], *size), generator=generator).to(device)
    options = TallyOptions(backend=compiled, upsample="bilinear" if upsample else None)
    if upsample and not BACKENDS[compiled].upsamples:
        pytest.skip(f"backend {compiled}: PyTorch interpolates, with other bits on other threads")
    found = []
    for count in (1, 2, 3, 5):
        threads(count)
        found.append(tally(logits, labels, None, options))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_threads_share_one_image():
    """What the tests above compare is worth nothing if there is one piece of work."""
    logits, *_ = shared(STEPS[0])
    assert logits[0, 0].numel() > 8 * 1024
