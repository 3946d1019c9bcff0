"""What is timed: the bytes that are counted, and the tensors that are built."""

from __future__ import annotations

import itertools

import pytest
import torch

from jml_kernels.bench.cases import (
    CE_JACCARD,
    DISTILLATION,
    JACCARD,
    LABELS,
    LAYOUTS,
    OBJECTIVES,
    PRESETS,
    BenchmarkCase,
    build,
)

SHAPES = [(6, 4), (2, 4, 9), (2, 4, 9, 7), (2, 4, 5, 7, 6)]


@pytest.mark.parametrize(
    ("target", "objective", "forward"),
    [
        ("labels", JACCARD, 1),
        ("boundary", JACCARD, 1),
        ("soft", JACCARD, 2),
        ("labels", CE_JACCARD, 1),
        ("labels", DISTILLATION, 2),
    ],
)
@pytest.mark.parametrize(
    ("dtype", "size"), [("float16", 2), ("bfloat16", 2), ("float32", 4), ("float64", 8)]
)
def test_bytes(target, objective, forward, dtype, size):
    """In units of the logits: 3 with labels, 5 with what is as large and read twice."""
    case = BenchmarkCase((2, 19, 8, 4), target, objective, dtype=dtype)
    logits, labels = 2 * 19 * 8 * 4 * size, 0 if target == "soft" else 8 * 2 * 8 * 4
    assert case.bytes == logits
    assert case.forward_traffic == forward * logits
    assert case.backward_traffic == (forward + 1) * logits
    assert case.traffic == (2 * forward + 1) * logits
    assert case.label_bytes == labels
    assert case.input_bytes == sum(t.nbytes for t in build(case))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_logits_of_lower_resolution(objective):
    """The shape is the target's; logits, and a teacher's, are at an eighth of it, rounded up."""
    case = BenchmarkCase((2, 5, 17, 32), *OBJECTIVES[objective], upsample=8)
    logits, target, *teacher = tensors = build(case)
    assert logits.shape == case.logits_shape == (2, 5, 3, 4)
    assert [other.shape for other in teacher] == [logits.shape] * (objective == "kd")
    assert target.shape[-2:] == case.full_size == (17, 32)
    assert case.bytes == logits.nbytes
    assert case.full_bytes == 4 * 2 * 5 * 17 * 32
    assert case.input_bytes == sum(t.nbytes for t in tensors)
    read = sum(t.nbytes for t in tensors if t.is_floating_point())
    assert case.traffic == (read if objective == "metrics" else 2 * read + case.bytes)
    assert case.upsampling == {"upsample": "bilinear"}
    assert case.name.startswith("2x5x3x4 to 17x32 float32, ")
    assert BenchmarkCase((2, 3, 4)).upsampling == {}


def test_names_tell_all_cases_apart():
    cases = {
        BenchmarkCase(shape, target, objective, labels, dtype, layout, window)
        for shape, (target, objective), labels, dtype, layout, window in itertools.product(
            PRESETS.values(), OBJECTIVES.values(), LABELS, ("float16", "float32"), LAYOUTS, (3, 5)
        )
    }
    assert len({case.name for case in cases}) == len(cases)


def test_name():
    case = BenchmarkCase(
        (2, 3, 8, 4), "boundary", CE_JACCARD, "random", "float16", "channels_last", 5
    )
    expected = "2x3x8x4 float16 channels_last, CE + JML, boundary smoothing, k = 5, random"
    assert case.name == expected
    assert BenchmarkCase((2, 3)).name == "2x3 float32, labels"


def test_presets_are_shapes_of_several_classes():
    for shape in PRESETS.values():
        assert 4 <= len(shape) <= 5
        assert min(shape) >= 2


def test_only_boundary_smoothing_has_options():
    options = {
        name: BenchmarkCase((2, 3, 4, 4), *what, boundary_size=5).options
        for name, what in OBJECTIVES.items()
    }
    smoothing = options.pop("bls")
    assert smoothing["boundary_size"] == 5
    assert 0 < smoothing["label_smoothing"] < 1
    assert not any(options.values())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("labels", LABELS)
def test_build(shape, objective, labels):
    case = BenchmarkCase(shape, *OBJECTIVES[objective], labels, dtype="float64")
    logits, target, *teacher = build(case)
    assert logits.shape == shape
    assert logits.dtype == torch.float64
    if objective == "soft":
        assert target.shape == shape
        torch.testing.assert_close(target.sum(dim=1), torch.ones_like(target[:, 0]))
    else:
        assert target.shape == (shape[0], *shape[2:])
        assert target.dtype == torch.int64
        assert 0 <= target.min() <= target.max() < shape[1]
    assert len(teacher) == (objective == "kd")
    for other in teacher:
        assert (other.shape, other.dtype) == (shape, torch.float64)
        assert not torch.equal(other, logits)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("objective", ["soft", "kd"])
def test_layout_and_dtype_are_of_all_that_is_dense(dtype, objective):
    of = {
        layout: build(
            BenchmarkCase((2, 4, 6, 8), *OBJECTIVES[objective], dtype=dtype, layout=layout)
        )
        for layout in LAYOUTS
    }
    for tensors in zip(*of.values(), strict=True):
        contiguous, channels_last = tensors
        assert torch.equal(contiguous, channels_last)  # the same values
        if contiguous.is_floating_point():
            assert {t.dtype for t in tensors} == {getattr(torch, dtype)}
            assert contiguous.is_contiguous()
            assert channels_last.is_contiguous(memory_format=torch.channels_last)
            assert not channels_last.is_contiguous()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_same_for_every_run(objective):
    case = BenchmarkCase((2, 4, 6, 8), *OBJECTIVES[objective])
    for one, other in zip(build(case), build(case), strict=True):
        assert torch.equal(one, other)


def test_regions_have_few_boundaries():
    """Pixel by pixel, neighbours are the same once in C times."""

    def same(labels: str) -> float:
        _, target = build(BenchmarkCase((1, 4, 96, 96), labels=labels))
        assert target.unique().numel() > 1
        return (target[..., 1:] == target[..., :-1]).float().mean().item()

    assert same("regions") > 0.9
    assert 0.2 < same("random") < 0.3
