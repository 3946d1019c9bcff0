"""Whole objectives, eq. 14 to 17, against an oracle in float64: cross-entropy with an overlap loss,
and distillation."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import replace

import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from judges import assert_objective, assert_only
from objective_oracle import activate, rows
from operators import arguments_of
from parametrize import each
from steps import step
from torch.autograd import gradcheck, gradgradcheck

import jml_kernels as jml
from jml_kernels import functional
from jml_kernels.accuracy import made_by_an_operation
from jml_kernels.modules import OverlapLoss
from jml_kernels.ops import STATISTICS
from jml_kernels.selfcheck.corpus import BY_NAME, CROSS_ENTROPY, DISTILLATION, INPUTS, LossCase
from jml_kernels.selfcheck.corpus.case import WEIGHTS
from jml_kernels.selfcheck.corpus.cross_entropy import OVERLAP_OPTIONS
from jml_kernels.selfcheck.corpus.drawing import arguments, seed_without_ties, shared
from jml_kernels.selfcheck.corpus.dtypes import FLOAT_DTYPES
from jml_kernels.selfcheck.corpus.gradients import GRADIENT_OBJECTIVES
from jml_kernels.selfcheck.corpus.layouts import LAYOUTS
from jml_kernels.selfcheck.corpus.losses import make
from jml_kernels.selfcheck.corpus.options import MODES
from jml_kernels.statistics import ALL_COLUMNS, COLUMNS, by_name, column_bits

pytestmark = pytest.mark.usefixtures("one_thread")

#: Cross-entropy beside every input of an overlap loss, the overlaps by turns. Two are left out:
#: PyTorch's binary cross-entropy of an infinite logit is NaN.
BESIDE_OVERLAPS = [
    replace(
        case,
        loss="cross-entropy",
        options={**case.options, **list(OVERLAP_OPTIONS.values())[i % len(OVERLAP_OPTIONS)]},
    )
    for i, case in enumerate(INPUTS)
    if case.values != "+-inf"
]


def distillation(name: str) -> LossCase:
    return BY_NAME[f"distillation, {name}"]


def cross_entropy(name: str) -> LossCase:
    return BY_NAME[f"cross-entropy, {name}"]


@each(BESIDE_OVERLAPS)
def test_cross_entropy_beside_every_overlap(case, backend, device):
    assert_objective(case, backend, device)


@each(CROSS_ENTROPY)
def test_cross_entropy(case, backend, device):
    assert_objective(case, backend, device)


@each(DISTILLATION)
def test_distillation(case, backend, device):
    assert_objective(case, backend, device)


@each(GRADIENT_OBJECTIVES)
def test_gradients(case, backend, device):
    logits, *others = shared(case, device).arguments
    objective = make(case, backend, device)
    assert gradcheck(lambda z: objective(z, *others), logits.detach().requires_grad_())


# ---- what the terms have to do with one another --------------------------------------------------


def assert_steps_close(one, other):
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["boundary", "metric2", "sigmoid, labels"])
def test_labels_alone_are_equation_14(name, backend, device):
    """mu = nu = 1 takes the teacher out, whatever it holds."""
    case = distillation(name)
    logits, labels, teacher, mask = arguments(case, device)
    both = make(case, backend, ce_label_weight=1.0, jaccard_label_weight=1.0)
    alone = make(replace(case, loss="cross-entropy"), backend)
    expected = step(alone, logits, labels, mask)
    for useless in (teacher, torch.full_like(teacher, math.nan)):
        assert_steps_close(step(both, logits, labels, useless, mask), expected)


@pytest.mark.parametrize("name", ["2 classes", "temperatures 2 and 3, kl", "unlabeled, masked"])
def test_without_labels_the_teacher_is_alone(name, backend, device):
    """As with mu = nu = 0, whatever mu and nu say."""
    case = replace(distillation(name), ignored=0.0, target="labels")
    logits, labels, teacher, mask = arguments(case, device)

    def objective(share):
        return make(case, backend, ce_label_weight=share, jaccard_label_weight=share)

    expected = step(objective(0.0), logits, labels, teacher, mask)
    for share in (0.0, 0.7, 1.0):
        assert_steps_close(step(objective(share), logits, None, teacher, mask), expected)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("temperatures", [(1.0, 1.0), (4.0, 2.0)], ids=str)
def test_divergence_is_cross_entropy_less_the_teachers_entropy(
    activation, temperatures, backend, device
):
    """So the gradient is the same, bit by bit."""
    options = {"activation": activation}
    case = replace(distillation("mask and ignored"), options=options)
    _, labels, teacher, mask = arguments(case, device)
    t = dict(zip(("temperature", "student_temperature"), temperatures, strict=True))
    losses, gradients = zip(
        *(
            step(make(case, backend, device, **t, distillation=which), *arguments(case, device))
            for which in ("ce", "kl")
        ),
        strict=True,
    )
    counted = (mask & (labels != -100)).cpu()
    y = rows(activate(teacher.double().cpu() / temperatures[0], activation), counted.unsqueeze(1))
    entropy = -torch.xlogy(y, y)
    entropy = entropy - torch.xlogy(1 - y, 1 - y) if activation == "sigmoid" else entropy.sum(1)
    difference = 0.25 * 0.5 * temperatures[1] ** 2 * entropy.mean().item()
    assert (losses[0] - losses[1]).item() == pytest.approx(difference, rel=1e-5)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("variant", [1, 2])
def test_nothing_is_left_to_learn_from_oneself(variant, temperature, activation, backend, device):
    """KL and JML are 0 at student = teacher, and so are their gradients."""
    logits, *_ = arguments(distillation("primes"), device)
    loss, gradient = step(
        jml.JaccardDistillationLoss(
            temperature=temperature,
            student_temperature=temperature,
            # Only then are both terms at their minimum: the overlap's student has none.
            ce_weight=1.0 if temperature != 1 else 0.25,
            distillation="kl",
            variant=variant,
            activation=activation,
            backend=backend,
        ),
        logits,
        None,
        logits.clone(),
    )
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert gradient.abs().max().item() * logits[:, 0].numel() < 1e-5


def test_the_square_of_the_temperature_keeps_the_size_of_gradients(backend, device):
    """Hinton et al. (2015): in the limit of high temperatures the gradient is (z - t) / C."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 1, 4, generator=generator, dtype=torch.float64).to(device)
    student, teacher = student - student.mean(), teacher - teacher.mean()
    objective = jml.JaccardDistillationLoss(
        1.0, temperature=1e4, student_temperature=1e4, backend=backend
    )
    _, gradient = step(objective, student, None, teacher)
    torch.testing.assert_close(gradient, (student - teacher) / 4, rtol=1e-3, atol=1e-6)


# ---- values at the edge --------------------------------------------------------------------------


@pytest.mark.parametrize("divergence", ["ce", "kl"])
def test_a_class_that_both_rule_out_is_no_class(divergence, backend, device):
    """-inf in teacher and student: 0 log 0 = 0, as if the class was not there."""
    logits, labels, teacher, _ = arguments(distillation("2 classes"), device)
    ruled_out = torch.full_like(logits[:, :1], -math.inf)
    objective = jml.JaccardDistillationLoss(distillation=divergence, backend=backend)
    labels = labels.clamp(min=0)
    loss, gradient = step(objective, logits, labels, teacher)
    wide = [torch.cat([values, ruled_out], 1) for values in (logits, teacher)]
    same_loss, same_gradient = step(objective, wide[0], labels, wide[1])
    assert same_loss.item() == pytest.approx(loss.item(), abs=1e-6)
    torch.testing.assert_close(same_gradient[:, :2], gradient, rtol=1e-5, atol=1e-7)
    assert (same_gradient[:, 2] == 0).all()


@pytest.mark.parametrize("divergence", ["ce", "kl"])
def test_a_student_that_rules_out_what_the_teacher_does_not(divergence, backend, device):
    """Infinitely wrong, not NaN; the overlap is not."""
    logits, labels, teacher, _ = arguments(distillation("2 classes"), device)
    logits = logits.clone()
    logits[0, 0, 0, 0] = -math.inf
    options = {"distillation": divergence, "backend": backend}
    loss, gradient = step(jml.JaccardDistillationLoss(**options), logits, labels, teacher)
    assert loss == math.inf
    assert gradient.isfinite().all()
    loss, _ = step(jml.JaccardDistillationLoss(0.0, **options), logits, labels, teacher)
    assert 0 < loss < 1


def test_an_infinite_cross_entropy_without_weight(backend, device):
    logits, labels = torch.tensor([[[0.0], [-math.inf]]]), torch.tensor([[1]])
    logits, labels = logits.to(device), labels.to(device)
    options = {"active_classes": "all", "backend": backend}
    assert jml.JaccardCrossEntropyLoss(0.25, **options)(logits, labels) == math.inf
    assert jml.JaccardCrossEntropyLoss(0.0, **options)(logits, labels) == 1


@pytest.mark.parametrize("who", ["student", "teacher"])
@pytest.mark.parametrize("value", ["nan", "inf", "all -inf"])
@pytest.mark.parametrize("ce_weight", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("labeled", [True, False], ids=["labels", "no labels"])
def test_not_a_number(who, value, ce_weight, labeled, backend, device):
    """One is enough, in either, without a crash."""
    logits, labels, teacher, _ = arguments(distillation("several tiles"), device)
    broken = (logits if who == "student" else teacher).clone()
    counted = (0, slice(None), *(labels[0] != -100).nonzero()[-1].tolist())
    pixel = broken[counted]
    if value == "all -inf":
        pixel.fill_(-math.inf)
    else:
        pixel[1] = float(value)
    logits, teacher = (broken, teacher) if who == "student" else (logits, broken)
    objective = jml.JaccardDistillationLoss(ce_weight, backend=backend)
    loss, gradient = step(objective, logits, labels if labeled else None, teacher)
    assert loss.isnan()
    assert gradient.shape == logits.shape


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_teacher_that_is_not_a_number_is_active_in_every_mode(mode, value, backend, device):
    """Also where no other pixel makes a class active: NaN exceeds no threshold. "prob" asks the
    student alone."""
    logits = torch.zeros(1, 3, 2, device=device)
    teacher = torch.zeros_like(logits)
    teacher[0, slice(None) if value == "-inf" else 1, 0] = float(value)
    objective = jml.JaccardDistillationLoss(
        0.0,
        teacher_active_classes=mode,
        active_threshold=0.01 if mode == "prob" else 2.0,
        backend=backend,
    )
    assert objective(logits, None, teacher).isnan()


def test_nothing_counts(backend, device):
    """0 with gradient 0, in every combination of the objectives and of what takes pixels out."""
    logits, labels, teacher, _ = arguments(distillation("primes"), device)
    ignored, nothing = torch.full_like(labels, -100), torch.zeros_like(labels, dtype=torch.bool)
    weights = torch.ones(logits.shape[1], device=device)
    for options in ({}, {"activation": "sigmoid"}, {"label_smoothing": 0.1, "boundary_size": 3}):
        kwargs = {**options, "ce_class_weights": weights, "backend": backend}
        entropy = jml.JaccardCrossEntropyLoss(**kwargs)
        steps = [
            step(entropy, logits, ignored),
            step(entropy, logits, labels, nothing),
        ]
        if not options.get("label_smoothing"):  # which is of labels
            steps.append(step(entropy, logits, teacher.softmax(1), nothing))
        for divergence in ("ce", "kl"):
            objective = jml.JaccardDistillationLoss(distillation=divergence, **kwargs)
            steps += [
                step(objective, logits, ignored, teacher),
                step(objective, logits, labels, teacher, nothing),
                step(objective, logits, None, teacher, nothing),
            ]
        for loss, gradient in steps:
            assert loss == 0
            assert (gradient == 0).all()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_classes_without_weight(activation, backend, device):
    """Nothing but labels whose weight is 0: PyTorch's mean is 0 / 0, this one 0."""
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).to(device)
    labels = torch.full((2, 4), 1, device=device)
    objective = jml.JaccardCrossEntropyLoss(
        1.0,
        ce_class_weights=torch.zeros(3, device=device),
        activation=activation,
        backend=backend,
    )
    loss, gradient = step(objective, logits, labels)
    assert loss == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("gap", [5.0, 10.0, 20.0])
@pytest.mark.parametrize("soft", [False, True], ids=["labels", "one-hot"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_a_confident_prediction_keeps_its_digits(gap, soft, activation, layout, compiled, device):
    """-log x of the label is log(1 + the sum of all other powers): of a sum that includes the 1
    nothing is left of 4e-9 in float32."""
    labels = torch.arange(512).reshape(1, -1) % 3
    one_hot = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    logits = LAYOUTS[layout](gap * (one_hot if activation == "softmax" else 2 * one_hot - 1))
    target = one_hot if soft else labels
    options = {"activation": activation}
    statistics = jml.class_statistics(
        logits.to(device), target.to(device), backend=compiled, **options
    )
    expected = jml.class_statistics(logits.double(), target, backend="reference", **options)
    others = 2 if activation == "softmax" else 3  # a pixel's terms
    assert expected.cross_entropy.item() == pytest.approx(
        512 * others * math.exp(-gap), rel=2 * math.exp(-gap)
    )
    torch.testing.assert_close(
        statistics.cross_entropy.cpu().double(), expected.cross_entropy, rtol=1e-5, atol=0
    )


def test_by_hand(backend, device):
    """x = (.75, .25) and y = (.5, .5) of one pixel with label 0.

    CE(S, L) = -ln .75, CE(S, T) = -(ln .75 + ln .25) / 2, and the teacher's entropy is ln 2;
    JML(S, L) over class 0: 1 - .75 / 1 = .25; JML(S, T): (.25 / .75 + .25 / .5) / 2 = 5 / 12.
    """
    student = torch.tensor([[[0.75], [0.25]]], dtype=torch.float64, device=device).log()
    teacher, labels = torch.full_like(student, 7.0), torch.tensor([[0]], device=device)
    options = {"backend": backend}
    label, soft = -math.log(0.75), -(math.log(0.75) + math.log(0.25)) / 2
    right = 0.25 * label + 0.75 * 0.25
    assert jml.JaccardCrossEntropyLoss(**options)(student, labels).item() == pytest.approx(right)
    right = 0.25 * (label + soft) / 2 + 0.75 * (0.25 + 5 / 12) / 2
    loss = jml.JaccardDistillationLoss(**options)(student, labels, teacher)
    assert loss.item() == pytest.approx(right)
    options["distillation"] = "kl"
    loss = jml.JaccardDistillationLoss(**options)(student, labels, teacher)
    assert loss.item() == pytest.approx(right - 0.25 * 0.5 * math.log(2))
    right = 0.4 * (0.1 * label + 0.9 * soft) + 0.6 * (0.8 * 0.25 + 0.2 * 5 / 12)
    loss = jml.JaccardDistillationLoss(0.4, 0.1, 0.8, 1.0, backend=backend)
    assert loss(student, labels, teacher).item() == pytest.approx(right)


# ---- the gradient --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cross-entropy, labels", "distillation, labels"])
def test_double_backward(name, backend, device):
    """Compiled backends raise; the reference has one."""
    (case,) = [case for case in GRADIENT_OBJECTIVES if case.name == name]
    logits, *others = shared(case, device).arguments
    objective = make(case, backend)
    leaf = logits.detach().requires_grad_()
    if backend == "reference":
        assert gradgradcheck(lambda z: objective(z, *others), leaf)
        return
    (gradient,) = torch.autograd.grad(objective(leaf, *others), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match=r'not differentiable.*backend="reference"'):
        gradient.square().sum().backward()


INPLACE_CASES = [
    *[cross_entropy(name) for name in ("weights, tiles", "weights, halves", "weights, soft")],
    *[
        distillation(name)
        for name in (
            "several tiles",
            "student channels_last",
            "student cropped",
            "student float16 channels_last, tiles",
            "teacher float16 of float32",
            "boundary, ignored and masked",
            "unlabeled, kl",
            "sigmoid, weights",
            "all ignored",
            "0 images",
        )
    ],
]


@each(INPLACE_CASES)
def test_inplace_gradient_is_the_same(case, compiled, device):
    logits, *others = arguments(case, device)
    expected = step(make(case, compiled, device), logits, *others)
    objective = make(case, compiled, device, inplace_backward=True)
    made = made_by_an_operation(logits)
    loss = objective(made, *others)
    (gradient,) = torch.autograd.grad(loss, made)
    assert gradient.data_ptr() == made.data_ptr()
    assert torch.equal(loss, expected[0])
    assert torch.equal(gradient, expected[1])


def test_a_teacher_in_the_students_memory_is_noticed(compiled, device):
    """Self-distillation in place: what the backward reads as the teacher would be its gradient."""
    logits, labels, *_ = arguments(distillation("primes"), device)
    outputs = logits.clone().requires_grad_() * 1
    objective = jml.JaccardDistillationLoss(inplace_backward=True, backend=compiled)
    with pytest.raises(ValueError, match="share no memory"):
        objective(outputs, labels, outputs.detach())


def test_inputs_are_left_as_they_were(backend, device):
    case = distillation("mask and ignored")
    given = arguments(case, device)
    before = [tensor.clone() for tensor in given]
    step(make(case, backend, device, label_smoothing=0.1, boundary_size=3), *given)
    for tensor, old in zip(given, before, strict=True):
        assert torch.equal(tensor, old)


def test_gradient_lies_as_the_logits(compiled, device):
    """Whatever the teacher's layout."""
    case = distillation("channels_last and contiguous, tiles")
    logits, *others = arguments(case, device)
    _, gradient = step(make(case, compiled, device), logits, *others)
    assert gradient.stride() == logits.stride()


# ---- columns and modules -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["several tiles", "boundary", "sigmoid, labels", "primes"])
def test_columns_not_asked_for_are_zero(name, backend, device):
    """Of each target: a column of one says nothing about the other's."""
    case = distillation(name)

    def statistics(of_labels: int, of_dense: int) -> list[dict[str, torch.Tensor]]:
        arguments = arguments_of(
            case,
            device,
            label_columns=of_labels,
            dense_columns=of_dense,
            teacher_temperature=2.0,
            student_temperature=3.0,
        )
        return by_name(*STATISTICS[backend](*arguments.values()))

    every = statistics(ALL_COLUMNS, ALL_COLUMNS)
    shifted = COLUMNS[3:] + COLUMNS[:3]
    for names in zip(COLUMNS, shifted, strict=True):
        some = statistics(*map(column_bits, names))
        for column, found, right in zip(names, some, every, strict=True):
            assert_only({column, "valid"}, found, right)


OBJECTIVES = {
    "JaccardCrossEntropyLoss": (
        jml.JaccardCrossEntropyLoss,
        functional.jaccard_cross_entropy_loss,
        {"ce_weight": 0.4},
    ),
    "JaccardDistillationLoss": (
        jml.JaccardDistillationLoss,
        functional.jaccard_distillation_loss,
        {
            "ce_weight": 0.4,
            "ce_label_weight": 0.3,
            "jaccard_label_weight": 0.2,
            "temperature": 2.0,
        },
    ),
}
objectives = pytest.mark.parametrize("name", OBJECTIVES)
WEIGHT_TENSORS = {name: torch.rand(5) for name in WEIGHTS}


def tensors(name: str):
    case = distillation("mask and ignored")
    loss = "distillation" if "Distillation" in name else "cross-entropy"
    return arguments(replace(case, loss=loss))


@objectives
def test_functions_equal_modules(name):
    module, function, positional = OBJECTIVES[name]
    options = {
        **WEIGHT_TENSORS,
        "label_smoothing": 0.1,
        "aggregation": "image",
        "norm": 2,
        "smooth": 0.5,
    }
    expected = function(*tensors(name), **positional, **options)
    assert module(**positional, **options)(*tensors(name)) == expected
    assert module(*positional.values(), **options)(*tensors(name)) == expected
    assert function(*tensors(name), **positional) != expected
    with pytest.raises(TypeError, match="positional argument"):
        module(*positional.values(), 1)


@objectives
def test_public_and_documented(name):
    module, function, _ = OBJECTIVES[name]
    assert name in jml.__all__
    assert module.__doc__ != OverlapLoss.__doc__
    assert function.__doc__


@objectives
def test_defaults(name):
    """Section 3 of the design."""
    module, function, _ = OBJECTIVES[name]
    defaults = {"ce_weight": 0.25, "variant": 1, "active_classes": "label"}
    if "Distillation" in name:
        defaults |= {"ce_label_weight": 0.5, "jaccard_label_weight": 0.5, "temperature": 1.0}
        defaults |= {"student_temperature": 1.0, "distillation": "ce"}
        defaults |= {"teacher_active_classes": "label"}
    expected = module(**defaults)(*tensors(name))
    assert module()(*tensors(name)) == expected
    assert function(*tensors(name)) == expected


@objectives
def test_repr_shows_what_is_not_a_default(name):
    module, *_ = OBJECTIVES[name]
    words = repr(module(0.4, boundary_size=5, norm=2, label_smoothing=0.1))
    assert words.startswith(f"{name}(")
    for word in ("ce_weight=0.4", "norm=2", "boundary_size=5", "label_smoothing=0.1"):
        assert word in words
    assert "ignore_index" not in words


@objectives
def test_weights_are_buffers(name):
    module, *_ = OBJECTIVES[name]
    objective = module(**WEIGHT_TENSORS)
    assert set(objective.state_dict()) == set(WEIGHTS)
    assert list(objective.parameters()) == []
    assert objective.double().ce_class_weights.dtype == torch.float64
    assert list(module().state_dict()) == []


@objectives
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(name, copied):
    module, _, positional = OBJECTIVES[name]
    objective = module(**positional, **WEIGHT_TENSORS, norm=1, smooth=0.5)
    again = copied(objective)
    assert again(*tensors(name)) == objective(*tensors(name))
    assert repr(again) == repr(objective)


@objectives
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_result_is_at_least_float32(name, dtype, backend, device):
    module, *_ = OBJECTIVES[name]
    logits, *others = (tensor.to(device) for tensor in tensors(name))
    loss = module(backend=backend)(logits.to(dtype), *others)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


# ---- what the lists do not combine ---------------------------------------------------------------


@given(data=st.data())
def test_any_combination(backend, device, data):
    draw = data.draw

    def one_of(label, *values):
        return draw(st.sampled_from(values), label=label)

    spatial = draw(st.lists(st.integers(1, 40), max_size=3), label="spatial")
    while len(spatial) > 1 and torch.Size(spatial).numel() > 3000:
        spatial.pop()
    activation = one_of("activation", "softmax", "softmax", "sigmoid")
    fewest = 2 if activation == "softmax" else 1
    n_classes = draw(st.integers(fewest, 25), label="classes")
    loss = one_of("loss", "cross-entropy", "distillation", "distillation", "distillation")
    has_teacher = loss == "distillation"
    teacher = one_of("teacher", "normal", "normal", "-inf")
    targets = ("labels", "labels", "none") if has_teacher else ("labels", "soft")
    target = one_of("target", *targets)
    soft = target == "soft"
    layouts = st.sampled_from([name for name in LAYOUTS if name != "one class"])
    share = st.sampled_from([0.0, 0.3, 1.0])
    options = {
        "activation": activation,
        "ignore_index": 255,
        "active_classes": one_of("active", *MODES),
        # A target of probabilities has no labels to smooth.
        "label_smoothing": 0.0 if soft else one_of("smoothing", 0.0, 0.1),
        "aggregation": one_of("aggregation", "dataset", "image", "class"),
        "ce_weight": draw(share, label="lambda"),
        **one_of("overlap", *OVERLAP_OPTIONS.values()),
    }
    if has_teacher:
        options |= {
            "ce_label_weight": draw(share, label="mu"),
            "jaccard_label_weight": draw(share, label="nu"),
            "temperature": one_of("temperature", 1.0, 2.0),
            "student_temperature": one_of("student temperature", 1.0, 2.0),
            "distillation": one_of("divergence", "ce", "kl"),
            "teacher_active_classes": one_of("teacher active", None, *MODES),
        }
    if not soft:
        options["boundary_size"] = one_of("boundary", None, 3)
    dtypes = FLOAT_DTYPES if soft else (torch.uint8, torch.int32, torch.int64)
    case = LossCase(
        "any",
        "",
        (draw(st.integers(1, 3), label="images"), n_classes, *spatial),
        dtype=one_of("dtype", *FLOAT_DTYPES),
        layout=draw(layouts, label="layout"),
        target=target,
        target_dtype=one_of("target dtype", *dtypes),
        drawn="uniform" if soft else one_of("drawn", "uniform", "blocks"),
        ignored=0.0 if soft else one_of("ignored", 0.0, 0.1),
        masked=one_of("masked", None, 0.2),
        teacher=teacher,
        teacher_dtype=one_of("teacher dtype", *FLOAT_DTYPES),
        teacher_layout=draw(layouts, label="teacher layout") if teacher != "-inf" else "contiguous",
        loss=loss,
        weights=one_of("weights", (), WEIGHTS),
        options=options,
    )
    try:
        seed_without_ties(case)
    except ValueError:  # of many numbers in half types two meet, whatever is drawn
        reject()
    assert_objective(case, backend, device)
