"""Tensor subclasses are taken as the tensors that they are, of whatever kinds in one call."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import jml_kernels as jml
from jml_kernels import functional

pytestmark = pytest.mark.usefixtures("one_thread")

LABELS = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(0))
LOGITS, OTHER = torch.randn(2, 2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
MASK = LABELS > 0
WEIGHTS = torch.tensor([1.0, 2.0, 3.0])


class Alone(Tensor):
    """As the kinds of torchvision and fastai are, it has no function together with another kind."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if not all(kind in (cls, Tensor) for kind in types):
            return NotImplemented
        return super().__torch_function__(function, types, args, kwargs or {})


class Image(Alone):
    pass


class Labels(Alone):
    pass


#: `of` and `image` make a tensor one of the one kind and of the other.
CALLS = {
    "labels": lambda of, image, **b: functional.jaccard_metric_loss(
        image(LOGITS), of(LABELS), of(MASK), class_weights=of(WEIGHTS), **b
    ),
    "losses of classes": lambda of, image, **b: functional.jaccard_metric_loss(
        image(LOGITS), of(LABELS), image(MASK), class_weights=of(WEIGHTS), reduction="none", **b
    ).sum(),
    "soft": lambda of, image, **b: functional.jaccard_cross_entropy_loss(
        image(LOGITS), of(OTHER.softmax(1)), ce_class_weights=image(WEIGHTS), **b
    ),
    "one-hot": lambda of, image, **b: functional.jaccard_metric_loss(
        image(LOGITS), of(torch.nn.functional.one_hot(LABELS, 3).movedim(-1, 1)), **b
    ),
    "teacher": lambda of, image, **b: functional.jaccard_distillation_loss(
        image(LOGITS), of(LABELS), of(OTHER), image(MASK), **b
    ),
    "statistics": lambda of, image, **b: jml.class_statistics(
        image(LOGITS), of(LABELS), image(MASK), ce_class_weights=of(WEIGHTS), **b
    ).cross_entropy.sum(),
    "classes": lambda of, image, **b: functional.jaccard_metric_loss(
        image(LOGITS), LABELS, classes=of(WEIGHTS > 1), reduction="none", **b
    ).sum(),
}


@pytest.mark.parametrize("name", CALLS)
def test_two_kinds_in_a_call(name, backend):
    def answer(of, image):
        leaf = LOGITS.clone().requires_grad_()
        loss = CALLS[name](of, lambda t: image(leaf if t is LOGITS else t), backend=backend)
        return loss, torch.autograd.grad(loss, leaf)[0]

    expected, expected_gradient = answer(lambda t: t, lambda t: t)
    loss, gradient = answer(lambda t: t.as_subclass(Labels), lambda t: t.as_subclass(Image))
    assert type(loss) is Tensor
    assert loss.detach() == expected.detach()
    assert torch.equal(gradient, expected_gradient)
