"""The Lovász extension of the Jaccard loss of one class, and its gradient: by counting.

Pixels have errors e >= 0, and P of them are labelled with the class. Let a threshold call the
pixels with the largest errors mispredicted: p of the class (missed) and n others (false). The
Jaccard loss of this set, 1 - (P - p) / (P + n), is

    J(p, n) = (p + n) / (P + n).

With the errors sorted, e_1 >= e_2 >= ..., the extension is sum over i of e_i (J_i - J_(i-1)) (eq.
19), where J_i is that of the first i pixels. The difference that a pixel makes is its *slope*, the
derivative of the extension by its error. Without cancellation it is

    J(p, n) - J(p - 1, n) = 1 / (P + n)                          of a pixel of the class,
    J(p, n) - J(p, n - 1) = (P - p) / ((P + n) (P + n - 1))      of another one.

So a slope depends on how many pixels of each kind have larger errors, and on nothing else. Where
errors are equal every order gives a sub-gradient, and so does any mean of them. Ours has the pixels
of the class first, and gives the others, of which there may be k, the mean of their differences,

    (J(p, n + k) - J(p, n)) / k = (P - p) / ((P + n + k) (P + n)):

what is equal has equal slopes, in whatever order the pixels come. A class without pixels (P = 0)
has J = 0 of no pixel and 1 of any: its extension is the largest error.
"""

from __future__ import annotations

import torch
from torch import Tensor


def slopes(errors: Tensor, is_label: Tensor, counted: Tensor) -> Tensor:
    """The slope of each pixel, 0 where it does not count.

    Args:
        errors: floating (groups, pixels), none negative. Each group is by itself.
        is_label: bool, whether the pixel is labelled with the class.
        counted: bool, whether it counts.
    """
    pixels = errors.shape[-1]
    of_class = torch.where(counted & is_label, errors, -1).sort(-1).values
    others = torch.where(counted & ~is_label, errors, -1).sort(-1).values
    int32 = pixels < 2**31

    def at_least(ascending: Tensor) -> Tensor:
        return pixels - torch.searchsorted(ascending, errors, out_int32=int32)

    def above(ascending: Tensor) -> Tensor:
        return pixels - torch.searchsorted(ascending, errors, right=True, out_int32=int32)

    count = (counted & is_label).sum(-1, keepdim=True)  # P
    others_above = above(others)
    union = (count + others_above).to(errors.dtype)  # P + n
    union_with = (count + at_least(others)).to(errors.dtype)  # P + n + k
    elsewhere = (count - at_least(of_class)).to(errors.dtype) / union / union_with
    without_label = torch.where(others_above == 0, 1 / union_with, 0)
    elsewhere = torch.where(count > 0, elsewhere, without_label)
    return torch.where(counted, torch.where(is_label, 1 / union, elsewhere), 0)


def value(errors: Tensor, slopes: Tensor) -> Tensor:
    """The extension, float64 (groups,); the gradient by `errors` is `slopes`."""
    return torch.where(slopes == 0, 0, errors * slopes).sum(-1, dtype=torch.float64)


class Extension(torch.autograd.Function):
    """(groups, pixels) errors -> (groups,) values, by any function that gives both values and
    slopes. It is linear between ties, so that its second derivative is 0."""

    @staticmethod
    def forward(errors, is_label, counted, evaluate):
        return evaluate(errors, is_label, counted)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, grad_value, _):
        if grad_value is None:
            return None, None, None, None
        (found,) = ctx.saved_tensors
        return grad_value.unsqueeze(-1).to(found.dtype) * found, None, None, None


def evaluate(errors: Tensor, is_label: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """(value, slopes) in plain PyTorch, on any device."""
    found = slopes(errors, is_label, counted)
    return value(errors, found), found
