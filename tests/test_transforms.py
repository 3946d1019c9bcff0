"""Forward mode and torch.func: a derivative is right, or refused in words, and never dropped."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad

import jml_kernels as jml
from jml_kernels import functional

pytestmark = pytest.mark.usefixtures("one_thread")

torch.manual_seed(0)
LABELS = torch.randint(0, 3, (2, 4, 5))
LOGITS, TEACHER = 2 * torch.randn(2, 2, 3, 4, 5, dtype=torch.float64)
SOFT = torch.softmax(torch.randn(2, 3, 4, 5, dtype=torch.float64), 1)
WEIGHTS = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)

#: Argument -> a number as a function of that, and where it is differentiated.
BY_ARGUMENT = {
    "logits": (lambda z, **b: functional.jaccard_metric_loss(z, LABELS, **b), LOGITS),
    "logits, classes": (
        lambda z, **b: functional.soft_dice_loss(z, LABELS, reduction="none", **b).sum(),
        LOGITS,
    ),
    "logits, statistics": (
        lambda z, **b: jml.class_statistics(z, LABELS, **b).true_positive.sum(),
        LOGITS,
    ),
    "logits, upsample": (
        lambda z, **b: functional.jaccard_metric_loss(
            z, LABELS.repeat(1, 2, 2), upsample="bilinear", **b
        ),
        LOGITS,
    ),
    "student_logits": (
        lambda z, **b: functional.jaccard_distillation_loss(z, LABELS, TEACHER, **b),
        LOGITS,
    ),
    "target": (lambda y, **b: functional.jaccard_metric_loss(LOGITS, y, **b), SOFT),
    "teacher_logits": (
        lambda t, **b: functional.jaccard_distillation_loss(LOGITS, LABELS, t, **b),
        TEACHER,
    ),
    "class_weights": (
        lambda w, **b: functional.jaccard_metric_loss(LOGITS, LABELS, class_weights=w, **b),
        WEIGHTS,
    ),
    "ce_class_weights": (
        lambda w, **b: functional.jaccard_cross_entropy_loss(
            LOGITS, LABELS, ce_class_weights=w, **b
        ),
        WEIGHTS,
    ),
    "ce_class_weights, statistics": (
        lambda w, **b: jml.class_statistics(
            LOGITS, LABELS, ce_class_weights=w, **b
        ).cross_entropy.sum(),
        WEIGHTS,
    ),
}
by_argument = pytest.mark.parametrize("name", BY_ARGUMENT)


def dual_tangent(function, point, tangent, **how):
    with forward_ad.dual_level():
        value = function(forward_ad.make_dual(point, tangent), **how)
        return forward_ad.unpack_dual(value).tangent


def functional_tangent(function, point, tangent, **how):
    return torch.func.jvp(lambda x: function(x, **how), (point,), (tangent,))[1]


@by_argument
@pytest.mark.parametrize("tangent_of", [dual_tangent, functional_tangent])
def test_forward_mode(tangent_of, name, backend):
    """Kernels have none; what the formula alone reads has one everywhere. The right value is a
    difference of two losses."""
    function, point = BY_ARGUMENT[name]
    tangent = torch.linspace(-1, 1, point.numel(), dtype=point.dtype).view_as(point) * 0.1
    if name == "target":  # it stays one of probabilities
        tangent = tangent - tangent.mean(1, keepdim=True)
    if backend != "reference" and name != "class_weights":
        with pytest.raises(RuntimeError, match=r'no forward-mode derivative.*backend="reference"'):
            tangent_of(function, point, tangent, backend=backend)
        return
    found = tangent_of(function, point, tangent, backend=backend)
    step = 1e-5
    ahead, behind = (
        function(point + sign * step * tangent, backend=backend).double() for sign in (1, -1)
    )
    assert found.item() == pytest.approx(((ahead - behind) / (2 * step)).item(), rel=1e-4)


@by_argument
@pytest.mark.parametrize("requires_grad", [True, False])
def test_no_tangent_is_dropped_beside_a_gradient(name, requires_grad, compiled):
    """Wherever grad mode and requires_grad stand."""
    function, point = BY_ARGUMENT[name]
    point = point.clone().requires_grad_(requires_grad)
    if name == "class_weights":
        return
    with torch.set_grad_enabled(requires_grad), pytest.raises((RuntimeError, ValueError)):
        dual_tangent(function, point, torch.ones_like(point), backend=compiled)


@by_argument
def test_reverse_mode_of_torch_func(name, backend):
    """As torch.autograd gives it, or refused with the name of the argument."""
    function, point = BY_ARGUMENT[name]
    by_func = torch.func.grad(lambda x: function(x, backend=backend))
    argument = name.partition(",")[0]
    if backend != "reference" and argument in ("target", "teacher_logits", "ce_class_weights"):
        with pytest.raises(ValueError, match=rf"{argument} requires grad.*backend='reference'"):
            by_func(point)
        return
    leaf = point.clone().requires_grad_()
    (expected,) = torch.autograd.grad(function(leaf, backend=backend), leaf)
    torch.testing.assert_close(by_func(point), expected)
    assert expected.abs().sum() > 0


def twice_in_reverse(slope):
    return torch.func.grad(lambda z: slope(z).square().sum())(LOGITS)


def forward_over_reverse(slope):
    return torch.func.jvp(slope, (LOGITS,), (LOGITS,))


@pytest.mark.parametrize("second", [twice_in_reverse, forward_over_reverse])
def test_a_second_derivative_of_torch_func(second, compiled):
    def loss(z):
        return functional.jaccard_metric_loss(z, LABELS, backend=compiled)

    with pytest.raises(RuntimeError, match='backend="reference"'):
        second(torch.func.grad(loss))


ONE_HOT = torch.nn.functional.one_hot(LABELS, 3).movedim(-1, 1)
#: Of an image by itself: logits, target and more -> a number.
MAPPED = {
    "labels": (functional.jaccard_metric_loss, LABELS, {}),
    "one-hot": (functional.jaccard_metric_loss, ONE_HOT, {}),
    "boundary": (
        functional.jaccard_cross_entropy_loss,
        LABELS,
        {"label_smoothing": 0.1, "boundary_size": 3, "ce_class_weights": WEIGHTS},
    ),
    "soft": (functional.soft_jaccard_loss, SOFT, {}),
    "bits": (functional.jaccard_metric_loss, ONE_HOT, {"activation": "sigmoid"}),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", MAPPED)
def test_vmap(name, backend):
    """Losses and gradients of each image, all in one call."""
    function, target, options = MAPPED[name]

    def loss(z, y):
        return function(z[None], y[None], backend=backend, **options)

    for of in (loss, torch.func.grad(loss)):
        expected = torch.stack([of(z, y) for z, y in zip(LOGITS, target, strict=True)])
        torch.testing.assert_close(torch.func.vmap(of)(LOGITS, target), expected)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", ["class_weights", "ce_class_weights"])
def test_vmap_over_weights(name, backend):
    function, _ = BY_ARGUMENT[name]
    many = torch.stack([WEIGHTS, 2 * WEIGHTS + 1])
    expected = torch.stack([function(weights, backend=backend) for weights in many])
    found = torch.func.vmap(lambda weights: function(weights, backend=backend))(many)
    torch.testing.assert_close(found, expected)


def test_vmap_of_a_bad_label():
    """The reference cannot look: the loss of that image is NaN, as on a GPU."""
    labels = LABELS.clone()
    labels[1, 2, 3] = 3

    def loss(z, y):
        return functional.jaccard_metric_loss(z[None], y[None], backend="reference")

    assert torch.func.vmap(loss)(LOGITS, labels).isnan().tolist() == [False, True]


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.jacrev, torch.func.vmap])
def test_in_place_is_refused_inside_of_torch_func(transform, backend):
    def loss(z):
        z = 1 * z.view(-1, 3, 4, 5)
        labels = LABELS[: len(z)]
        return functional.jaccard_metric_loss(z, labels, inplace_backward=True, backend=backend)

    with pytest.raises(RuntimeError, match=r"inplace_backward=True: .* outside of torch\.func"):
        transform(loss)(LOGITS)
