"""Every backend against the float64 oracle, on every case: losses, gradients and columns."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from judges import assert_columns, assert_loss, assert_only
from operators import arguments_of
from parametrize import each, named
from torch import Tensor

import jml_kernels as jml
from jml_kernels.ops import STATISTICS
from jml_kernels.packing import TargetInts
from jml_kernels.selfcheck.corpus import BY_NAME, INPUTS, NOT_FINITE, OPTIONS, LossCase
from jml_kernels.selfcheck.corpus.drawing import shared
from jml_kernels.selfcheck.corpus.dtypes import FLOAT_DTYPES
from jml_kernels.selfcheck.corpus.layouts import LAYOUTS
from jml_kernels.selfcheck.corpus.losses import OVERLAPS
from jml_kernels.selfcheck.corpus.options import MODES
from jml_kernels.statistics import ALL_COLUMNS, COLUMNS, by_name, column_bits

pytestmark = pytest.mark.usefixtures("one_thread")


@each(INPUTS)
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_loss_and_gradient(case, overlap, backend, device):
    assert_loss(case, overlap, backend, device)


# Options of the formula change nothing of the statistics.
@each(case for case in INPUTS if case not in OPTIONS)
def test_columns_and_their_gradient(case, backend, device):
    assert_columns(case, backend, device)


@each(NOT_FINITE)
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_not_a_number(case, overlap, backend, device):
    logits, target, _, mask = shared(case, device)
    leaf = logits.detach().requires_grad_()
    loss = OVERLAPS[overlap](leaf, target, mask, backend=backend, **case.options)
    assert loss.isnan()
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert gradient.shape == logits.shape


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", ["nan", "+inf", "all -inf"])
def test_not_a_number_is_active_in_every_mode(mode, value, backend, device):
    """Also where no other image makes a class active: NaN exceeds no threshold."""
    logits, target, *_ = shared(BY_NAME[f"{value} logit, labels"], device)
    loss = jml.functional.jaccard_metric_loss(
        logits[-1:], target[-1:], active_classes=mode, backend=backend
    )
    assert loss.isnan()


@named(
    "0 images",
    "0 images, 0-D",
    "0 pixels",
    "0 pixels, soft",
    "all ignored",
    "mask of nothing",
    "soft mask of nothing",
    "multi-label, all ignored",
)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("aggregation", ["dataset", "image", "class"])
def test_nothing_counts(case, mode, aggregation, backend, device):
    logits, target, _, mask = shared(case, device)
    for overlap, function in OVERLAPS.items():
        leaf = logits.detach().requires_grad_()
        options = {**case.options, "active_classes": mode, "aggregation": aggregation}
        loss = function(leaf, target, mask, backend=backend, **options)
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert loss.item() == 0, overlap
        assert gradient.shape == logits.shape
        assert (gradient == 0).all()


@named("float32", "soft, tiles", "boundary, tiles", "multi-label, masked", "ties, smoothed")
def test_columns_not_asked_for_are_zero(case, backend, device):
    """A kernel may skip them, and a loss may rely on the others whatever it skips."""

    def statistics(bits: int) -> dict[str, torch.Tensor]:
        arguments = arguments_of(case, device, label_columns=bits, dense_columns=bits)
        (of_target,) = by_name(*STATISTICS[backend](*arguments.values()))
        return of_target

    every = statistics(ALL_COLUMNS)
    for name in COLUMNS:
        assert_only({name, "valid"}, statistics(column_bits(name)), every)


@named(
    "float32",
    "layout channels_last",
    "layout transposed",
    "layout reversed",
    "layout classes first",
    "channels_last 3-D",
)
def test_gradient_lies_as_the_logits(case, compiled, device):
    """A dense layout is kept: the next layer's backward finds its memory format."""
    logits, target, *_ = shared(case, device)
    leaf = logits.detach().requires_grad_()
    loss = jml.JaccardMetricLoss(backend=compiled)(leaf, target)
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert gradient.stride() == logits.stride()


HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


@HALVES
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e9])
def test_half_gradients_are_float32_ones_rounded(dtype, layout, scale, compiled, device):
    """To the nearest, once; also where they are subnormal (1e-4) or overflow to inf (1e9)."""
    logits, target, *_ = shared(BY_NAME[f"{str(dtype)[6:]} channels_last, tiles"], device)
    logits = LAYOUTS[layout](logits)
    gradients = []
    for leaf in (logits.detach(), logits.float()):
        leaf.requires_grad_()
        loss = jml.JaccardMetricLoss(backend=compiled)(leaf, target)
        (gradient,) = torch.autograd.grad(scale * loss, leaf)
        gradients.append(gradient)
    assert gradients[0].dtype == dtype
    assert torch.equal(gradients[0], gradients[1].to(dtype))


@HALVES
def test_half_gradients_are_rounded_to_even(dtype, compiled, device):
    """The gradient of sum(x y) in x is y: here halfway between two halves, and next to it."""
    halves = torch.rand(4096, generator=torch.Generator().manual_seed(0)).to(dtype)
    halves = torch.cat([halves, halves * 2**-10, halves * 2**-14]).sort().values.float()
    middle = (halves[1:] + halves[:-1]) / 2
    target = torch.cat([halves, middle, torch.nextafter(middle, middle + 1)]).reshape(1, 1, -1)
    target = target.to(device)
    logits = torch.zeros_like(target, dtype=dtype).requires_grad_()
    options = {"activation": "none", "backend": compiled}
    statistics = jml.class_statistics(logits, target, **options)
    (gradient,) = torch.autograd.grad(statistics.intersection.sum(), logits)
    assert torch.equal(gradient, target.to(dtype))


@HALVES
def test_every_half_is_read_exactly(dtype, compiled, device):
    """All 2^16 bit patterns but NaN, as logits and as targets."""
    patterns = torch.arange(-(2**15), 2**15, device=device).to(torch.int16).view(dtype)
    patterns = patterns[~patterns.isnan()].reshape(1, 1, -1)
    targets = patterns.flip(-1)
    half = jml.class_statistics(patterns, targets.sigmoid(), activation="sigmoid", backend=compiled)
    full = jml.class_statistics(
        patterns.float(), targets.sigmoid().float(), activation="sigmoid", backend=compiled
    )
    assert half.prediction_squared.item() > 1000
    for one, other in zip(half, full, strict=True):
        assert torch.equal(one, other)
    # Each by itself: of one pixel an image.
    logits, labels = patterns.reshape(-1, 1), torch.ones_like(patterns.flatten(), dtype=torch.int64)
    half = jml.class_statistics(logits, labels, activation="sigmoid", backend=compiled)
    full = jml.class_statistics(logits.float(), labels, activation="sigmoid", backend=compiled)
    assert torch.equal(half.true_positive, full.true_positive)


def test_a_small_class_keeps_its_digits(backend, device):
    """A class of 10 pixels in half a million: sums in float32, or differences of them, lose it."""
    labels = torch.zeros(1, 512, 1024, dtype=torch.int64, device=device)
    labels[0, 3, :10] = 1
    logits = torch.zeros(1, 2, 512, 1024, device=device)
    logits[:, 0] = 3.7 * (1 - labels)
    logits[:, 1] = 3.7 * labels
    statistics = jml.class_statistics(logits, labels, backend=backend)
    right = jml.class_statistics(logits.double(), labels, backend="reference")
    torch.testing.assert_close(
        statistics.true_positive.double(), right.true_positive, rtol=5e-7, atol=0
    )
    assert statistics.true_positive[0, 1].item() == pytest.approx(9.758729785823308, rel=5e-7)


def test_a_confident_prediction_keeps_its_digits(compiled, device):
    """1 - x of the label is the sum of all other probabilities: subtracting from 1 leaves nothing
    of 4e-9 in float32."""
    labels = torch.arange(512, device=device).reshape(1, -1) % 3
    logits = 20.0 * torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    statistics = jml.class_statistics(logits, labels, backend=compiled)
    right = jml.class_statistics(logits.double(), labels, backend="reference")
    for name in ("false_negative", "false_positive"):
        actual, expected = getattr(statistics, name).double(), getattr(right, name)
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("gamma", [1.0, 1.5])
@pytest.mark.parametrize("variant", [1, 2])
def test_an_almost_perfect_prediction_is_not_negative(variant, gamma, backend, device):
    """Differences of sums go below 0 here, and below 0 to the power 1.5 is NaN."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 128, 128, generator=generator).to(device)
    target = torch.softmax(logits.double(), 1).to(torch.float32)
    loss = jml.functional.jaccard_metric_loss(
        logits, target, variant=variant, gamma=gamma, backend=backend
    )
    assert 0 <= loss.item() < 1e-6


@given(data=st.data())
def test_any_combination(backend, device, data):
    """What the list of cases does not combine."""
    draw = data.draw
    spatial = draw(st.lists(st.integers(1, 40), max_size=3), label="spatial")
    while len(spatial) > 1 and torch.Size(spatial).numel() > 3000:
        spatial.pop()
    activation = draw(st.sampled_from(["softmax", "softmax", "sigmoid"]), label="activation")
    fewest = 2 if activation == "softmax" else 1
    n_classes = draw(st.integers(fewest, 40), label="classes")
    target = draw(st.sampled_from(["labels", "soft"]), label="target")
    if activation == "sigmoid" and n_classes > 1 and draw(st.booleans(), label="bits"):
        target = "bits"
    options = {"activation": activation}
    if target != "soft":
        options["label_smoothing"] = draw(st.sampled_from([0.0, 0.1]), label="smoothing")
    if target == "labels":
        options["boundary_size"] = draw(st.sampled_from([None, 3, 5]), label="boundary")
    layouts = st.sampled_from([name for name in LAYOUTS if name != "one class"])
    dtype = draw(st.sampled_from(FLOAT_DTYPES), label="dtype")
    case = LossCase(
        "any",
        "",
        (draw(st.integers(1, 3), label="images"), n_classes, *spatial),
        dtype=dtype,
        layout=draw(layouts, label="layout"),
        target=target,
        target_dtype=draw(
            st.sampled_from(
                FLOAT_DTYPES if target == "soft" else [torch.uint8, torch.int32, torch.int64]
            ),
            label="target dtype",
        ),
        target_layout=draw(layouts, label="target layout") if target != "labels" else "contiguous",
        drawn=draw(st.sampled_from(["uniform", "blocks"]), label="drawn")
        if target == "labels"
        else "uniform",
        ignored=0.0 if target == "soft" else draw(st.sampled_from([0.0, 0.1]), label="ignored"),
        masked=draw(st.sampled_from([None, 0.2]), label="masked"),
        options={**options, "ignore_index": 255},
    )
    overlap = draw(st.sampled_from(list(OVERLAPS)), label="overlap")
    assert_loss(case, overlap, backend, device)


# ---- class_statistics ----------------------------------------------------------------------------


def a_batch(device: str) -> tuple[Tensor, Tensor, Tensor]:
    """(logits, labels, probabilities), of which some pixels are ignored."""
    generator = torch.Generator().manual_seed(0)
    logits, other = torch.randn(2, 2, 5, 13, 11, generator=generator)
    labels = torch.randint(0, 5, (2, 13, 11), generator=generator)
    labels[:, :2] = -100
    return logits.to(device), labels.to(device), other.softmax(1).to(device)


@pytest.mark.parametrize(
    "names",
    [("true_positive",), ("valid", "intersection"), ["present", "target_max"], ("cross_entropy",)],
    ids=", ".join,
)
def test_only_the_columns_asked_for_are_computed(names, backend, device, monkeypatch):
    logits, labels, soft = a_batch(device)
    asked = []

    def run(*inputs, run=STATISTICS[backend]):
        ints = TargetInts(*inputs[5])
        asked.append(ints.label_columns if inputs[1] is not None else ints.dense_columns)
        return run(*inputs)

    for target in (labels, soft):
        whole = jml.class_statistics(logits, target, backend=backend)
        with monkeypatch.context() as patched:
            patched.setitem(STATISTICS, backend, run)
            found = jml.class_statistics(logits, target, columns=names, backend=backend)
        for name, column in found._asdict().items():
            if name in names:
                torch.testing.assert_close(column, getattr(whole, name), rtol=1e-6, atol=0)
            else:
                assert column is None, name
    assert asked == [column_bits(*names)] * 2


def test_sums_that_are_not_rounded(backend, device):
    """A user's formula may take the difference of large ones."""
    logits, labels, _ = a_batch(device)
    columns = ("true_positive", "false_positive", "cross_entropy", "valid")
    options = {"columns": columns, "backend": backend}
    rounded = jml.class_statistics(logits, labels, **options)
    whole = jml.class_statistics(logits, labels, dtype=torch.float64, **options)
    halves = jml.class_statistics(logits.half(), labels, dtype=torch.float64, **options)
    for name in columns:
        single, double = getattr(rounded, name), getattr(whole, name)
        assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
        assert getattr(halves, name).dtype == torch.float64
        assert torch.equal(single, double.float()), name
    assert not torch.equal(rounded.true_positive.double(), whole.true_positive)
    double = jml.class_statistics(logits.double(), labels, **options)
    assert double.true_positive.dtype == torch.float64
    torch.testing.assert_close(whole.true_positive, double.true_positive, rtol=1e-6, atol=0)
    given = jml.class_statistics(logits.double(), labels, dtype=torch.float32, **options)
    assert given.true_positive.dtype == torch.float32


@pytest.mark.parametrize("kind", ["labels", "soft"])
def test_weights_of_a_cross_entropy(kind, backend, device):
    logits, labels, soft = a_batch(device)
    target = labels if kind == "labels" else soft
    weights = torch.tensor([1.0, 0.0, 2.0, 0.5, 3.0], device=device)
    expected = torch.nn.functional.cross_entropy(
        logits.double(), labels if kind == "labels" else soft.double(), weights.double(),
        reduction="none",
    ).sum((1, 2))  # fmt: skip
    for values in (weights, weights.tolist()):
        found = jml.class_statistics(
            logits, target, columns=("cross_entropy",), ce_class_weights=values, backend=backend
        )
        torch.testing.assert_close(found.cross_entropy.double(), expected, rtol=1e-6, atol=0)
