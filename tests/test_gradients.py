"""Gradients against finite differences in float64, through every backend: every loss, option and
layout that changes them."""

from __future__ import annotations

import pytest
import torch
from oracle import DIFFERENTIABLE
from parametrize import each
from torch.autograd import gradcheck, gradgradcheck

import jml_kernels as jml
from jml_kernels import functional
from jml_kernels.selfcheck import gradients
from jml_kernels.selfcheck.corpus.drawing import shared
from jml_kernels.selfcheck.corpus.gradients import GRADIENT_FAMILY, GRADIENT_INPUTS
from jml_kernels.selfcheck.corpus.losses import OVERLAPS
from jml_kernels.selfcheck.gradients import leaf_of
from jml_kernels.selfcheck.results import Subject

pytestmark = pytest.mark.usefixtures("one_thread")

(LABELS,) = [case for case in GRADIENT_INPUTS if case.name == "labels"]


@each(GRADIENT_INPUTS)
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_losses(case, overlap, backend, device):
    logits, target, _, mask = shared(case, device)

    leaf, laid_out = leaf_of(case, logits)

    def loss(z):
        return OVERLAPS[overlap](laid_out(z), target, mask, backend=backend, **case.options)

    assert gradcheck(loss, leaf)


@each(case for case in GRADIENT_INPUTS if case.options == case.target_options)
def test_every_sum(case, backend, device):
    """The statistics by themselves, for whoever writes another loss on them."""
    logits, target, _, mask = shared(case, device)
    options = {**case.target_options, "backend": backend}
    leaf, laid_out = leaf_of(case, logits)

    def sums(z):
        statistics = jml.class_statistics(laid_out(z), target, mask, **options)
        return tuple(getattr(statistics, name) for name in DIFFERENTIABLE)

    assert gradcheck(sums, leaf)


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_class_weights(overlap, backend, device):
    logits, target, _, mask = shared(LABELS, device)
    weights = torch.tensor([0.5, 2.0, 0.0], device=device)

    def loss(z):
        return OVERLAPS[overlap](z, target, mask, class_weights=weights, backend=backend)

    assert gradcheck(loss, logits.detach().requires_grad_())


@each(GRADIENT_FAMILY)
def test_every_loss(case, backend):
    """As `jml-kernels check` does: it raises where they differ."""
    assert gradients.check(case, Subject(backend)) == []


def test_a_loss_of_ones_own_on_the_statistics(backend, device):
    """Three lines of PyTorch: a generalised Dice loss, weighted by the classes' sizes."""
    logits, target, *_ = shared(LABELS, device)

    def loss(z):
        s = jml.class_statistics(z, target, backend=backend)
        weight = 1 / (1 + s.true_positive + s.false_negative).detach() ** 2
        errors = s.false_positive + s.false_negative
        return (weight * errors).sum() / (weight * (2 * s.true_positive + errors)).sum()

    assert gradcheck(loss, logits.detach().requires_grad_())


def test_outputs_that_only_choose_classes_have_no_gradient(backend, device):
    logits, target, *_ = shared(LABELS, device)
    statistics = jml.class_statistics(logits.detach().requires_grad_(), target, backend=backend)
    for name in ("prediction_max", "target_max", "joint_max", "present", "valid"):
        assert not getattr(statistics, name).requires_grad, name
    for name in DIFFERENTIABLE:
        if name != "target_squared":
            assert getattr(statistics, name).requires_grad, name


#: What the reference differentiates beside the logits.
OTHERS = {
    "ce_class_weights": (torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64), {}),
    "ce_class_weights of images": (
        torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64),
        {"aggregation": "image", "reduction": "image"},
    ),
    "teacher, ce": (None, {"distillation": "ce", "temperature": 2.0}),
    "teacher, kl": (None, {"distillation": "kl", "temperature": 2.0}),
    "teacher, kl, sigmoid": (None, {"distillation": "kl", "activation": "sigmoid"}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_gradients_of_the_reference_beside_the_logits(name):
    """Weights of classes stand in what a cross-entropy is divided by, a teacher in its entropy."""
    weights, options = OTHERS[name]
    generator = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 2, 3, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 4), generator=generator)
    options = {**options, "backend": "reference"}
    if weights is None:
        assert gradcheck(
            lambda t: functional.jaccard_distillation_loss(logits, labels, t, **options),
            teacher.requires_grad_(),
        )
        return
    assert gradcheck(
        lambda w: functional.jaccard_cross_entropy_loss(
            logits, labels, ce_class_weights=w, **options
        ),
        weights.clone().requires_grad_(),
    )


def test_a_teacher_that_is_sure_has_a_finite_gradient():
    """Its probabilities are 1 and 0, and 0 log 0 is 0."""
    teacher = 1000 * torch.eye(3)[None].requires_grad_()
    loss = functional.jaccard_distillation_loss(
        torch.randn(1, 3, 3), None, teacher, distillation="kl", backend="reference"
    )
    (gradient,) = torch.autograd.grad(loss, teacher)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("use", ["loss", "statistics"])
def test_double_backward_of_compiled_backends_raises(use, compiled, device):
    logits, target, *_ = shared(LABELS, device)
    leaf = logits.detach().requires_grad_()
    if use == "loss":
        loss = jml.JaccardMetricLoss(backend=compiled)(leaf, target)
    else:
        loss = jml.class_statistics(leaf, target, backend=compiled).intersection.sum()
    (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
    with pytest.raises(RuntimeError, match=r'not differentiable.*backend="reference"'):
        gradient.square().sum().backward()


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_double_backward_of_the_reference(overlap):
    logits, target, *_ = shared(LABELS)
    leaf = logits.detach().requires_grad_()
    assert gradgradcheck(lambda z: OVERLAPS[overlap](z, target, backend="reference"), leaf)


def test_gradient_at_a_tie_is_the_mean_of_both_sides(backend, device):
    """|x - y| has sub-gradient 0 at x = y: min(x, y) and the two differences have 1/2 there."""
    x = torch.tensor([[[0.25, 0.5, 0.5]]], dtype=torch.float64, device=device).requires_grad_()
    y = torch.tensor([[[0.5, 0.5, 0.25]]], dtype=torch.float64, device=device)
    for name, expected in {
        "true_positive": [1, 0.5, 0],
        "false_positive": [0, 0.5, 1],
        "false_negative": [-1, -0.5, 0],
    }.items():
        statistics = jml.class_statistics(x, y, activation="none", backend=backend)
        (gradient,) = torch.autograd.grad(getattr(statistics, name).sum(), x)
        assert gradient.flatten().tolist() == expected, name


def test_frozen_logits_make_no_graph(backend, device):
    logits, target, *_ = shared(LABELS, device)
    assert not jml.JaccardMetricLoss(backend=backend)(logits, target).requires_grad
    with torch.no_grad():
        loss = jml.JaccardMetricLoss(backend=backend)(logits.detach().requires_grad_(), target)
    assert not loss.requires_grad
    with torch.inference_mode():
        assert jml.JaccardMetricLoss(backend=backend)(logits, target).isfinite()
