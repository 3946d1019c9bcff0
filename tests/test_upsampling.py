"""Logits of lower resolution: what the corpus's cases (selfcheck/corpus/upsampling.py), which every
test of a backend runs, do not show. Whole sizes of real crops, numbers at the ends of their types,
memory, operators and compilers, and what is refused."""

from __future__ import annotations

import functools
import math

import pytest
import torch
import torch.nn.functional as F
from operators import arguments_of, formula_arguments, gradients, operator_arguments
from oracle import upsampled
from parametrize import each
from steps import step
from torch._dynamo.testing import CompileCounterWithBackend

import jml_kernels as jml
from jml_kernels import accuracy, upsampling
from jml_kernels.checks import UPSAMPLINGS
from jml_kernels.selfcheck import memory_bound
from jml_kernels.selfcheck.corpus import BY_NAME
from jml_kernels.selfcheck.corpus.case import BLS, SIGMOID, LossCase
from jml_kernels.selfcheck.corpus.drawing import draw, shared
from jml_kernels.selfcheck.corpus.losses import make
from jml_kernels.selfcheck.corpus.steps import UPSAMPLED_MEMORY
from jml_kernels.selfcheck.corpus.upsampling import UPSAMPLED, UPSAMPLED_OBJECTIVES
from jml_kernels.selfcheck.results import Subject

pytestmark = pytest.mark.usefixtures("one_thread")

BILINEAR = {"upsample": "bilinear"}


def needs_own_kernels(case: LossCase, backend: str) -> None:
    if not Subject(backend).computes(case):
        pytest.skip(f"backend {backend}: its operators do not interpolate, PyTorch does before")


def interpolated(logits: torch.Tensor, size: tuple[int, ...], align_corners: bool) -> torch.Tensor:
    """By PyTorch, as users do it right before the loss."""
    single = logits if logits.dtype == torch.float64 else logits.float()
    mode = UPSAMPLINGS[len(size) - 1]
    return F.interpolate(single, size=size, mode=mode, align_corners=align_corners)


def random(shape: tuple[int, ...], size: tuple[int, ...], device: str, seed: int = 0):
    """Logits, and labels in blocks at full size."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(shape, generator=generator)
    coarse = torch.randn(*shape[:2], *(-(-n // 4) for n in size), generator=generator)
    labels = F.interpolate(coarse, size=size, mode="nearest").argmax(1)
    return logits.to(device), labels.to(device)


# ---- what is computed ----------------------------------------------------------------------------


@each([*UPSAMPLED, *UPSAMPLED_OBJECTIVES])
def test_the_reference_interpolates_as_pytorch_and_as_the_definition(case):
    """The oracles' own interpolation is written from the definition: they judge by no function that
    they test."""
    logits, size = shared(case).logits.double(), case.target_shape[2:]
    align_corners = case.options.get("align_corners", False)
    full = upsampling.interpolated(logits, size, align_corners)
    torch.testing.assert_close(full, upsampled(case, logits), rtol=1e-12, atol=1e-12)
    if logits.numel() and size != case.shape[2:]:
        assert torch.equal(full, interpolated(logits, size, align_corners))
    assert full.shape == case.target_shape


@pytest.mark.parametrize(
    ("low", "size", "align_corners"),
    [
        ((129, 129), (513, 513), True),
        ((97, 97), (769, 769), False),
        ((1, 1), (24, 40), False),
        ((3, 2), (192, 128), True),
    ],
    ids=["513 from 129", "769 from 97", "1 x 1", "ratio 64"],
)
def test_sizes_of_real_crops(low, size, align_corners, backend, device):
    """Against the loss of logits that PyTorch has interpolated, both in float64."""
    logits, labels = random((1, 3, *low), size, device)
    options = {**BLS, "ignore_index": 2}
    right = jml.JaccardCrossEntropyLoss(**options, backend="reference")
    expected = accuracy.answer(
        lambda z: right(interpolated(z, size, align_corners), labels),
        logits.double().requires_grad_(),
    )
    options |= {**BILINEAR, "align_corners": align_corners}
    loss = jml.JaccardCrossEntropyLoss(**options, backend=backend)
    found = accuracy.answer(loss, logits.requires_grad_(), labels)
    accuracy.check(
        backend,
        accuracy.errors(found, accuracy.Answer(expected.loss.cpu(), expected.gradient.cpu())),
        accuracy.allowed(torch.float32),
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_largest_numbers_of_a_type(dtype, backend, device):
    """A ratio of 4 has weights of 1/8 and odd multiples: all sums are exact in float32, so that
    even of these logits it is known which is the largest, and where two are equal."""
    largest = torch.finfo(dtype).max
    if dtype == torch.float32:
        largest = 2.0**127  # no interpolation exceeds it, and sums of two overflow
    parts = torch.randint(-2, 3, (2, 4, 5, 6), generator=torch.Generator().manual_seed(0))
    logits = (parts * (largest / 2)).to(dtype)
    labels = torch.randint(0, 4, (2, 20, 24), generator=torch.Generator().manual_seed(1))
    expected = accuracy.answer(
        jml.JaccardMetricLoss(**BILINEAR, backend="reference"),
        logits.double().requires_grad_(),
        labels,
    )
    assert expected.loss.isfinite()
    assert (expected.gradient != 0).any(), "nothing is equal anywhere"
    found = accuracy.answer(
        jml.JaccardMetricLoss(**BILINEAR, backend=backend),
        logits.to(device).requires_grad_(),
        labels.to(device),
    )
    accuracy.check(backend, accuracy.errors(found, expected), accuracy.allowed(dtype))


def test_far_from_0(backend, device):
    """Logits near 1000, which interpolation in float32 rounds to 6e-5: the loss is as near."""
    logits, labels = random((2, 5, 6, 7), (23, 29), device)
    logits += 1000
    loss = jml.JaccardCrossEntropyLoss(**BILINEAR, backend=backend)
    right = jml.JaccardCrossEntropyLoss(**BILINEAR, backend="reference")
    found = accuracy.answer(loss, logits.requires_grad_(), labels)
    expected = accuracy.answer(right, logits.detach().cpu().double().requires_grad_(), labels.cpu())
    accuracy.check(backend, accuracy.errors(found, expected), (1e-4, 1e-3))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_logit_that_no_counted_pixel_reads_may_hold_anything(value, backend, device):
    logits, labels = random((2, 5, 6, 7), (24, 28), device)
    mask = torch.ones_like(labels, dtype=torch.bool)
    mask[:, 8:, 8:] = False  # of the logits from row 3 and column 3 on nothing that counts is made
    loss = jml.JaccardCrossEntropyLoss(**BILINEAR, backend=backend)
    expected = step(loss, logits, labels, mask)
    logits[:, :, 3:, 3:] = value
    found = step(loss, logits, labels, mask)
    # Rounding may differ: what is taken off the logits may be the largest of all that are read.
    torch.testing.assert_close(found[0], expected[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-5, atol=1e-8)
    assert (found[1][:, :, 3:, 3:] == 0).all()


def test_an_infinite_corner_of_weight_0(backend, device):
    """PyTorch's interpolation makes 0 times infinity of it, NaN. A backend may leave it out, and
    then the class is ruled out where its other corners say so."""
    logits, labels = random((1, 4, 5, 6), (20, 24), device)
    logits[:, 3] = -math.inf
    labels[labels == 3] = 0
    assert interpolated(logits, (20, 24), False).isnan().any()
    loss = jml.JaccardMetricLoss(**BILINEAR, backend=backend)(logits, labels)
    without = jml.JaccardMetricLoss(**BILINEAR, backend=backend)(logits[:, :3], labels)
    assert loss.isnan() or torch.allclose(loss, without)


def test_equal_sizes_are_not_interpolated(backend, device):
    """Nothing changes, not a bit, and what is infinite meets no weight of 0."""
    logits, target, *_ = shared(BY_NAME["-inf"], device)
    assert logits.isinf().any()
    plain = step(jml.JaccardMetricLoss(backend=backend), logits, target)
    for align_corners in (False, True):
        loss = jml.JaccardMetricLoss(**BILINEAR, align_corners=align_corners, backend=backend)
        found = step(loss, logits, target)
        torch.testing.assert_close(found[0], plain[0], rtol=1e-6, atol=0)
        torch.testing.assert_close(found[1], plain[1], rtol=1e-5, atol=1e-8)


def test_a_teacher_is_interpolated_before_its_softmax(backend, device):
    """And before its temperature: the other order gives another loss."""
    case = BY_NAME["upsample, distillation, a larger teacher"]
    logits, labels, teacher, mask = shared(case, device).arguments
    size = case.target_shape[2:]
    options = {"temperature": 2.0, "backend": backend}
    loss = jml.JaccardDistillationLoss(**BILINEAR, **options)(logits, labels, teacher, mask)
    full = [interpolated(z, size, False) for z in (logits, teacher)]
    right = jml.JaccardDistillationLoss(**options)(full[0], labels, full[1], mask)
    torch.testing.assert_close(loss, right, rtol=1e-6, atol=1e-6)
    mixed = interpolated((teacher.float() / 2).softmax(1), size, False).log() * 2
    wrong = jml.JaccardDistillationLoss(**options)(full[0], labels, mixed, mask)
    assert abs(loss - wrong) > 1e-3


def test_probabilities_are_interpolated_as_they_are(backend, device):
    """Without an activation: the softmax of interpolated logits is another one."""
    logits, labels = random((2, 5, 6, 7), (24, 28), device)
    options = {"activation": "none", "backend": backend}
    found = jml.class_statistics(logits.softmax(1), labels, **BILINEAR, **options)
    full = interpolated(logits.softmax(1), (24, 28), False)
    right = jml.class_statistics(full, labels, **options)
    torch.testing.assert_close(found.true_positive, right.true_positive)
    other = jml.class_statistics(logits, labels, **BILINEAR, backend=backend)
    assert (found.true_positive - other.true_positive).abs().max() > 0.1


# ---- operators, compilers, transforms ------------------------------------------------------------

OPERATED = [
    BY_NAME[f"upsample, {name}"]
    for name in (
        "ratio 4",
        "no integer ratio, align_corners",
        "float16 channels_last",
        "float64 cropped",
        "1-D",
        "3-D",
        "0 images",
        "boundary",
        "soft",
        "sigmoid, bits",
        "none, labels",
        "cross-entropy, weights",
        "distillation, a larger teacher",
        "distillation, unlabeled, crosswise",
    )
]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@each(OPERATED)
def test_opcheck(case, compiled, device):
    needs_own_kernels(case, compiled)
    arguments = arguments_of(case, device)
    arguments["logits"].requires_grad_()
    operators = torch.ops.jml_kernels
    torch.library.opcheck(getattr(operators, f"{compiled}_statistics").default, (), arguments)
    whole = {**arguments, **formula_arguments()}
    torch.library.opcheck(getattr(operators, f"{compiled}_loss").default, (), whole)
    arguments["logits"].requires_grad_(False)
    given = {**gradients(arguments), **arguments, "scale": torch.tensor(2.0, device=device)}
    backward = getattr(operators, f"{compiled}_statistics_backward").default
    torch.library.opcheck(backward, (), given)


@each(OPERATED)
def test_operators_equal_the_reference_called_as_they_are(case, compiled, device):
    """Past everything that Python does before."""
    needs_own_kernels(case, compiled)
    arguments = arguments_of(case, device)
    found = getattr(torch.ops.jml_kernels, f"{compiled}_statistics")(**arguments)
    right = jml.reference.statistics(**arguments)
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def test_operators_that_do_not_interpolate_say_so(compiled, device):
    case = BY_NAME["upsample, ratio 4"]
    if Subject(compiled).computes(case):
        pytest.skip(f"backend {compiled}: its operators interpolate")
    arguments = arguments_of(case, device)
    with pytest.raises((RuntimeError, ValueError), match="upsample=1: expected 0"):
        getattr(torch.ops.jml_kernels, f"{compiled}_statistics")(**arguments)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"logits": (2, 3, 9, 5)}, "logits has shape"),
        ({"logits": (2, 3, 0, 5)}, "logits has shape"),
        ({"logits": (2, 3, 5)}, "labels has shape"),
        ({"labels": (3, 8, 10)}, "labels has shape"),
        ({"dense": (2, 3, 9, 10)}, "dense has shape"),
        ({"dense": (2, 4, 4, 5)}, "dense has shape"),
        ({"mask": (2, 4, 5)}, "mask has shape"),
    ],
)
def test_operators_check_sizes(sizes, words, compiled, device):
    """Whoever calls them directly gets an exception, not a read outside."""
    needs_own_kernels(BY_NAME["upsample, ratio 4"], compiled)
    sizes = {"logits": (2, 3, 4, 5), "labels": (2, 8, 10), "dense": (2, 3, 5, 10)} | sizes
    dtypes = {"labels": torch.int64, "mask": torch.bool}
    tensors = {
        name: torch.zeros(size, dtype=dtypes.get(name, torch.float32), device=device)
        for name, size in sizes.items()
    }
    arguments = operator_arguments(**tensors, teacher_temperature=1.0, upsample=1)
    with pytest.raises((RuntimeError, ValueError), match=words):
        getattr(torch.ops.jml_kernels, f"{compiled}_statistics")(**arguments)


@each(case for case in OPERATED if case.loss != "JML1")
def test_compiled_equals_eager(case, compiled, device):
    """fullgraph=True: a graph break is an error."""
    loss = make(case, compiled, device)
    eager = step(loss, *shared(case, device).arguments)
    graph = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for one, other in zip(step(graph, *shared(case, device).arguments), eager, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_the_compiler_of_the_user(compiled, device):
    """Inductor, around a head of stride 4: the gradient goes on into the layers below."""
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 5, 1, stride=4).to(device)
    image = torch.randn(2, 3, 24, 28, device=device)
    labels = torch.randint(0, 5, (2, 24, 28), device=device)
    loss = jml.JaccardCrossEntropyLoss(**BILINEAR, **BLS, backend=compiled)

    def objective(image, labels):
        return loss(layer(image), labels)

    found = []
    for run in (objective, torch.compile(objective, fullgraph=True)):
        layer.zero_grad()
        run(image, labels).backward()
        found.append(layer.weight.grad.clone())
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-7)


def test_sizes_do_not_recompile(compiled, device):
    counter = CompileCounterWithBackend("aot_eager")
    compile_ = functools.partial(torch.compile, fullgraph=True, backend=counter)
    loss = compile_(jml.JaccardMetricLoss(**BILINEAR, backend=compiled))
    for low, size in [((6, 7), (24, 28)), ((5, 9), (19, 33)), ((8, 4), (40, 41)), ((3, 3), (9, 9))]:
        loss(*random((2, 5, *low), size, device))
    assert counter.frame_count <= 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype, backend, device):
    """Half logits are read as they are, and interpolated in float32."""
    logits, labels = random((2, 5, 6, 7), (24, 28), device)
    loss = jml.JaccardCrossEntropyLoss(**BILINEAR, backend=backend)
    outside = step(loss, logits.to(dtype), labels)
    with torch.autocast(device, dtype=dtype):
        inside = step(loss, logits.to(dtype), labels)
        layer = torch.nn.Conv2d(3, 5, 3, stride=4).to(device)
        made = layer(torch.randn(2, 3, 24, 28, device=device))
        loss(made, labels).backward()
    assert inside[0].dtype == torch.float32
    assert inside[1].dtype == dtype
    assert torch.equal(inside[0], outside[0])
    assert torch.equal(inside[1], outside[1])
    assert layer.weight.grad.isfinite().all()


def test_a_jacobian(backend, device):
    """torch.func, whose jacrev maps the backward over the losses of the classes."""
    logits, labels = random((2, 3, 3, 2), (6, 7), device)
    loss = jml.JaccardMetricLoss(**BILINEAR, reduction="none", backend=backend)
    found = torch.func.jacrev(lambda z: loss(z, labels))(logits.double())
    rows = [torch.func.grad(lambda z, c=c: loss(z, labels)[c])(logits.double()) for c in range(3)]
    torch.testing.assert_close(found, torch.stack(rows))


# ---- memory --------------------------------------------------------------------------------------


@each(UPSAMPLED_MEMORY)
def test_nothing_has_the_full_size(case, compiled):
    needs_own_kernels(case, compiled)
    if Subject(compiled).is_interpreted:
        pytest.skip("tensors large enough to tell take Triton's interpreter too long")
    (measure,) = memory_bound.measure(case, Subject(compiled))
    assert measure.holds, measure


# ---- what is refused -----------------------------------------------------------------------------

LOGITS = torch.zeros(2, 3, 4, 5)
LABELS = torch.zeros(2, 8, 10, dtype=torch.int64)
KINDS = [
    jml.JaccardMetricLoss,
    jml.SoftJaccardLoss,
    jml.DiceSemimetricLoss,
    jml.SoftDiceLoss,
    functools.partial(jml.TverskyMetricLoss, 0.3, 0.7),
    jml.JaccardCrossEntropyLoss,
    jml.JaccardDistillationLoss,
    functools.partial(jml.class_statistics, LOGITS, LABELS),
    functools.partial(jml.functional.jaccard_metric_loss, LOGITS, LABELS),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"upsample": "bicubic"}, ValueError, "upsample='bicubic': .*'trilinear'.*not"),
        ({"upsample": "nearest"}, ValueError, "upsample='nearest': .*repeat"),
        ({"upsample": "cubic"}, ValueError, "upsample='cubic': expected None or one of 'linear'"),
        ({"upsample": True}, ValueError, "upsample=True: expected None or one of 'linear'"),
        ({"align_corners": True}, ValueError, "align_corners=True: .* without upsample"),
        ({**BILINEAR, "align_corners": 1}, TypeError, "align_corners=1: expected True or False"),
        ({**BILINEAR, "inplace_backward": True}, ValueError, "inplace_backward=True: .*upsample="),
    ],
)
def test_options(kind, options, error, words):
    with pytest.raises(error, match=words):
        kind(**options)


def _loss(logits=LOGITS, target=LABELS, mask=None, backend="auto", **options):
    return jml.functional.jaccard_metric_loss(
        logits, target, mask, backend=backend, **{**BILINEAR, **options}
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: _loss(upsample="linear"),
            "upsample='linear': expected 'bilinear' with logits of ",
        ),
        (lambda: _loss(LOGITS[0], LABELS[0]), "upsample='bilinear': expected 'linear' with logits"),
        (lambda: _loss(LOGITS[..., 0, 0], LABELS[..., 0, 0]), "expected None with logits of shape"),
        (lambda: _loss(target=LABELS[:, :3]), r"logits has shape \(2, 3, 4, 5\): .*to \(3, 10\)"),
        (lambda: _loss(target=SOFT[..., :4]), r"logits has shape .*to \(8, 4\), those of target"),
        (lambda: _loss(LOGITS[..., :0]), r"logits has shape \(2, 3, 4, 0\): .*from 1 to \(8, 10\)"),
        (lambda: _loss(target=LABELS[:1]), r"target has shape \(1, 8, 10\)"),
        (lambda: _loss(target=LABELS[:, None]), r"target has shape .*squeeze\(1\)"),
        (lambda: _loss(target=SOFT[:, :2]), r"target has shape \(2, 2, 8, 10\)"),
        (lambda: _loss(target=SOFT.movedim(1, -1)), r"target has shape .*movedim\(-1, 1\)"),
        (lambda: _loss(target=LABELS.float()), r"target has shape .*target.long\(\)"),
        (lambda: _loss(mask=torch.ones(2, 4, 5, dtype=torch.bool)), r"expected \(2, 8, 10\)"),
        (lambda: _loss(upsample=None), "target has shape .*; upsample='bilinear'"),
        (lambda: _loss(target=SOFT, upsample=None), "target has shape .*; upsample='bilinear'"),
        (lambda: _loss(LOGITS[..., 0], LABELS[..., 0], upsample=None), "; upsample='linear'"),
        (lambda: _distil(LOGITS, LABELS, SOFT[..., :2, :], upsample=None), "upsample='bilinear'"),
        (lambda: _distil(LOGITS, LABELS[:, :3], LOGITS), r"student_logits has shape .*\(3, 10\)"),
        (lambda: _distil(LOGITS, LABELS[..., :9], SOFT), r"teacher_logits has shape .*\(8, 9\)"),
        (lambda: _distil(LOGITS, None, SOFT[:, :2]), "teacher_logits has shape .*but for its size"),
        (lambda: _distil(LOGITS, None, SOFT[..., 0]), "teacher_logits has shape"),
        (lambda: _distil(LOGITS, None, SOFT[..., :0]), "teacher_logits has shape .*from 1 to"),
        (
            lambda: _distil(LOGITS, SOFT.long(), LOGITS, **SIGMOID),
            r"labels has shape \(2, 3, 8, 10\).*integer labels of shape \(2, 8, 10\)",
        ),
    ],
)
def test_tensors(call, words):
    with pytest.raises(ValueError, match=words):
        call()


SOFT = torch.zeros(2, 3, 8, 10)


def _distil(logits, labels, teacher, **options):
    return jml.functional.jaccard_distillation_loss(
        logits, labels, teacher, **{**BILINEAR, **options}
    )


def test_smaller_labels_are_not_told_to_upsample():
    """Nothing there would help."""
    with pytest.raises(ValueError, match="target has shape") as caught:
        _loss(target=LABELS[:, :3, :5], upsample=None)
    assert "upsample" not in str(caught.value)


def test_values_are_looked_at_at_full_size(backend, device):
    """A label out of range at its place, and an interpolated probability that is none."""
    if device != "cpu":
        pytest.skip("a GPU is not waited for: the loss is NaN")
    if Subject(backend).where == "emulated":
        pytest.skip("an emulated GPU is not waited for: the loss is NaN")
    labels = LABELS.clone()
    labels[1, 7, 9] = 3
    with pytest.raises(IndexError, match=r"target has label 3 at position \(1, 7, 9\)"):
        _loss(target=labels, backend=backend)
    probabilities = LOGITS + 1 / 3
    probabilities[1, 2, 3, 4] = 1.5
    first = r"logits has value 1.20833 at position \(1, 2, 6, 9\)"
    with pytest.raises(ValueError, match=first):
        _loss(probabilities, activation="none", backend=backend)
    # One that averages away is none that any pixel has.
    probabilities[1, 2, 3, 4] = 1 / 3
    probabilities[0, 0, 1, 1] = 1.0 + 1e-3
    assert _loss(probabilities, activation="none", backend=backend).isfinite()


def test_gradients_of_what_only_the_reference_differentiates(compiled, device):
    case = BY_NAME["upsample, distillation, a larger teacher"]
    logits, labels, teacher, _ = draw(case, device)
    with pytest.raises(ValueError, match="teacher_logits requires grad"):
        make(case, compiled, device)(logits, labels, teacher.requires_grad_())
    value = make(case, "reference", device)(logits, labels, teacher)
    (gradient,) = torch.autograd.grad(value, teacher)
    assert gradient.shape == teacher.shape
    assert gradient.abs().sum() > 0


def test_the_options_of_a_module_are_shown():
    loss = jml.JaccardMetricLoss(upsample="bilinear", align_corners=True)
    assert repr(loss) == "JaccardMetricLoss(upsample='bilinear', align_corners=True)"
