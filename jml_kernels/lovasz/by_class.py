"""The Lovász extensions of the classes of a softmax with one class in memory at a time, on any
device and with any function that evaluates an extension.

A class needs two numbers for each pixel of the softmax, the largest logit and the sum of the
exponentials; with those its probability is had again from its own logits. The slopes of all
classes are kept for the backward, one tensor of the logits' size. Where logits are interpolated
nothing of the full size times the classes may be there: the backward sorts again, twice, first for
the sum over classes in

    dloss/dz_c = x_c (g_c - sum over j of x_j g_j),    g_c = +-slope_c * dloss/dvalue_c,

and then for the classes themselves, whose gradients go back through the interpolation one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..upsampling import adjoint, interpolated
from .reference import groups_of

#: (errors, is_label, counted), each (groups, pixels) -> (value, slopes), see extension.py.
Evaluate = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


class Call(NamedTuple):
    """What the classes are computed of, see `reference.values`.

    Attributes:
        needed: of each class, whether its extension is asked for.
    """

    logits: Tensor
    labels: Tensor
    counted: Tensor
    needed: Sequence[bool]
    per_image: bool
    align_corners: bool
    evaluate: Evaluate

    @property
    def classes(self) -> range:
        return range(self.logits.shape[1])


class Softmax:
    """The probabilities of a call, one class at a time."""

    def __init__(self, call: Call):
        self.call = call
        self.z_max = self._logits_of(0)
        for c in call.classes[1:]:
            self.z_max = torch.maximum(self.z_max, self._logits_of(c))
        self.exp_sum = sum((self._logits_of(c) - self.z_max).exp_() for c in call.classes)

    def of(self, c: int) -> Tensor:
        """(N, *spatial)"""
        return (self._logits_of(c) - self.z_max).exp_().div_(self.exp_sum)

    def _logits_of(self, c: int) -> Tensor:
        """0 where a pixel does not count, whatever its logits hold."""
        z = at_full_size(self.call, self.call.logits[:, c : c + 1])
        return torch.where(self.call.counted, z, 0)


def at_full_size(call: Call, of_class: Tensor) -> Tensor:
    """(N, 1, *lower) -> (N, *spatial)"""
    z = interpolated(of_class, call.labels.shape[1:], call.align_corners).squeeze(1)
    return z if z.dtype == torch.float64 else z.float()


def extension_of(call: Call, x: Tensor, c: int) -> tuple[Tensor, Tensor]:
    """(value, slopes by the probabilities x of class c)."""
    is_label = call.labels == c
    errors = torch.where(is_label, 1 - x, x)  # eq. 18
    parts = (groups_of(part, call.per_image) for part in (errors, is_label, call.counted))
    value, slopes = call.evaluate(*parts)
    slopes = slopes.view(x.shape)
    return value, torch.where(is_label, -slopes, slopes)


def forward(call: Call, keeps_slopes: bool) -> tuple[Tensor, Tensor]:
    """(values, slopes): float64 (groups, C), and (N, C, *spatial), or none where they are not kept.
    Both are 0 of a class that is not needed."""
    softmax = Softmax(call)
    spatial, n = call.labels.shape[1:], len(call.logits)
    groups = n if call.per_image else 1
    values = softmax.exp_sum.new_zeros(groups, len(call.classes), dtype=torch.float64)
    size = (n, len(call.classes), *spatial) if keeps_slopes else (0,)
    slopes = softmax.exp_sum.new_zeros(size)
    for c in call.classes:
        if call.needed[c]:
            values[:, c], of_class = extension_of(call, softmax.of(c), c)
            if keeps_slopes:
                slopes[:, c] = of_class
    return values, slopes


def backward(call: Call, grad_values: Tensor, slopes: Tensor) -> Tensor:
    """The gradient of the logits."""
    softmax = Softmax(call)
    shape = (-1, *[1] * (call.labels.dim() - 1))
    kept = slopes.dim() > 1

    def gradient_by(x: Tensor, c: int) -> Tensor:
        """g_c"""
        of_class = slopes[:, c] if kept else extension_of(call, x, c)[1]
        return grad_values[:, c].view(shape).to(x.dtype) * of_class

    dot = torch.zeros_like(softmax.exp_sum)
    for c in call.classes:
        if call.needed[c]:
            x = softmax.of(c)
            dot.addcmul_(x, gradient_by(x, c))
    gradient = torch.empty_like(call.logits)
    for c in call.classes:
        x = softmax.of(c)
        of_class = x * (gradient_by(x, c) - dot) if call.needed[c] else -x * dot
        of_class = torch.where(call.counted, of_class, 0)
        low = adjoint(of_class.unsqueeze(1), call.logits.shape[2:], call.align_corners)
        gradient[:, c] = low.squeeze(1)
    return gradient
