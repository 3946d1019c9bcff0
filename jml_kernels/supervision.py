"""Deep supervision: a loss of logits at several resolutions against one target."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import option_checks

#: The position of the target in the call of a loss, behind the logits.
_TARGET = 1


class DeepSupervision(nn.Module):
    """The weighted sum of a loss over heads: sum_i weights[i] * loss(logits[i], target of head i).

    A loss of this package that has the option `upsample` takes every head as it is, with the target
    of full size, and interpolates the logits. Any other loss takes a target of the head's size: the
    elements that nnU-Net chooses, by `mode="nearest-exact"` of `torch.nn.functional.interpolate`,
    here in any dtype and without a copy in floats. Each dimension may have a ratio of its own,
    integer or not.

    Args:
        loss: any loss of this package, distillation included, or a module or function of one's own
            that is called as loss(logits, target, mask).
        weights: a number >= 0 for each head, used as they are. None: 1, 1/2, 1/4, ... divided by
            their sum. nnU-Net's trainer also gives its coarsest head the weight 0: of four heads,
            weights=(4/7, 2/7, 1/7, 0). A head of weight 0 is not computed, and gets no gradient;
            DistributedDataParallel needs find_unused_parameters=True then.

    Call:
        deep(logits, target, mask=None), or with `JaccardDistillationLoss`
        deep(student_logits, labels, teacher_logits, mask=None). What follows the target may be
        given by the name that it has in the loss.

        logits: a list or tuple of tensors (N, C, *spatial) with 0 to 3 spatial dimensions. Without
            weights they come from the finest to the coarsest.
        target, mask: of full size, in the shapes and dtypes that the loss takes. A head of that
            size takes the same tensors.
        teacher_logits: a list or tuple with one tensor for each head, of the head's size unless the
            loss has `upsample`; then one tensor, of a size of its own, is for all heads too.

        Every argument may be a list or tuple with one entry for each head, which takes it as it is:
        targets of a data loader that resizes them, as nnU-Net's does, stay as they are.

    Returns:
        the sum, in the shape of what the loss returns: 0-dim but for some reductions.

    Raises:
        TypeError, ValueError: for logits that are no list of tensors, another number of weights or
            entries than heads, a head that is larger than the target.
        What the loss raises, with the head in front of its message: "logits[1]: ...".
    """

    def __init__(self, loss: Callable[..., Tensor], weights: Sequence[float] | None = None):
        super().__init__()
        if isinstance(loss, type):
            raise TypeError(f"loss is the class {loss.__name__}: expected {loss.__name__}(...)")
        if not callable(loss):
            raise TypeError(f"loss={loss!r}: expected a module or a function")
        self.loss = loss
        self.weights = option_checks.head_weights("weights", weights)

    def forward(
        self,
        logits: Sequence[Tensor],
        target: Tensor | Sequence[Tensor] | None,
        *others: Any,
        **named: Any,
    ) -> Tensor:
        _check_heads(logits, in_order=self.weights is None)
        positional = dict(enumerate((target, *others), start=_TARGET))
        total = None
        for head, weight in enumerate(self._weights_of(len(logits))):
            if weight == 0:  # not even as 0 times the loss, which may be NaN
                continue
            own = [self._of_head(head, logits, *argument) for argument in positional.items()]
            own_named = {
                name: self._of_head(head, logits, name, value) for name, value in named.items()
            }
            value = weight * self._loss_of_head(head, logits[head], *own, **own_named)
            total = value if total is None else total + value
        return total

    def extra_repr(self) -> str:
        shown = [] if isinstance(self.loss, nn.Module) else [f"loss={self.loss!r}"]
        if self.weights is not None:
            shown.append(f"weights={self.weights}")
        return ", ".join(shown)

    def _weights_of(self, count: int) -> Sequence[float]:
        if self.weights is None:
            return [2 ** (count - 1 - head) / (2**count - 1) for head in range(count)]
        if len(self.weights) != count:
            raise ValueError(
                f"weights={self.weights}: expected {count} numbers, one for each of the logits, "
                f"and not {len(self.weights)}"
            )
        return self.weights

    def _of_head(self, head: int, logits: Sequence[Tensor], place: int | str, value: Any) -> Any:
        """An argument as the loss of a head takes it; `place` is its position or its name."""
        if isinstance(value, (list, tuple)):
            if len(value) != len(logits):
                raise ValueError(
                    f"{self._name(place)} has {len(value)} entries: expected {len(logits)}, one "
                    "for each of the logits"
                )
            return value[head]
        if self._upsamples() or not isinstance(value, Tensor):
            return value
        size = tuple(logits[head].shape[2:])
        full = tuple(value.shape[value.dim() - len(size) :])
        if size == full or value.dim() < len(size):  # of a wrong rank the loss has more to say
            return value
        if place != _TARGET and value.dtype != torch.bool:  # a teacher's logits, for example
            raise ValueError(
                f"{self._name(place)} has shape {tuple(value.shape)} and dtype {value.dtype}: "
                f"expected the spatial size {size} of logits[{head}], or a list with one tensor "
                "for each head, since only the target and bool masks are resized; a loss with the "
                "option upsample takes one teacher for all heads"
            )
        if not all(n == larger or 0 < n < larger for n, larger in zip(size, full, strict=True)):
            raise ValueError(
                f"logits[{head}] has shape {tuple(logits[head].shape)}: expected spatial sizes "
                f"from 1 to {full}, those of {self._name(place)} of shape {tuple(value.shape)}"
            )
        return nearest(value, size)

    def _loss_of_head(self, head: int, *arguments: Any, **named: Any) -> Tensor:
        if torch.compiler.is_compiling():  # it cannot change an error
            return self.loss(*arguments, **named)
        try:
            return self.loss(*arguments, **named)
        except (IndexError, TypeError, ValueError) as error:
            error.args = (f"logits[{head}]: {error}",)  # the same error with all that it knows
            raise

    def _upsamples(self) -> bool:
        return getattr(getattr(self.loss, "options", None), "upsample", None) is not None

    def _name(self, place: int | str) -> str:
        """What the loss calls an argument: for errors alone, since looking takes long."""
        if isinstance(place, str):
            return place
        try:
            signature = inspect.signature(getattr(self.loss, "forward", self.loss))
            return list(signature.parameters)[place]
        except (IndexError, ValueError):  # it has *args, or is written in C
            return f"argument {place + 1}"


def _check_heads(logits: object, in_order: bool) -> None:
    """A list of tensors; whether they come from the finest to the coarsest matters where weights
    are made for them."""
    if not isinstance(logits, (list, tuple)):
        raise TypeError(
            f"logits is a {type(logits).__name__}: expected a list or tuple of tensors, one for "
            "each head"
        )
    if not logits:
        raise ValueError(f"logits={logits!r}: expected at least one tensor")
    for i, head in enumerate(logits):
        if not isinstance(head, Tensor):
            raise TypeError(f"logits[{i}] is a {type(head).__name__}: expected a Tensor")
        if in_order and i > 0 and head.shape[2:].numel() > logits[i - 1].shape[2:].numel():
            raise ValueError(
                f"logits[{i}] has shape {tuple(head.shape)}: expected no more pixels than "
                f"logits[{i - 1}] of shape {tuple(logits[i - 1].shape)} has, from the finest to "
                "the coarsest; logits[::-1] turns the list round, and with weights any order is "
                "taken"
            )


def nearest(tensor: Tensor, size: Sequence[int]) -> Tensor:
    """(..., *larger) -> (..., *size), by the "nearest-exact" rule: element i of n is element
    floor((2 i + 1) larger / (2 n)), the one that its centre lies in.

    Whole numbers give it for every size, where floats may round to a neighbour. Along a dimension
    with an integer ratio the result is a view.
    """
    for dim, n in zip(range(-len(size), 0), size, strict=True):
        larger = tensor.shape[dim]
        if larger == n:
            continue
        if larger % n == 0:
            ratio = larger // n
            tensor = tensor.unflatten(dim, (n, ratio)).select(dim, ratio // 2)
        else:
            index = torch.arange(1, 2 * n, 2, device=tensor.device) * larger // (2 * n)
            # Unlike index_select, this takes unsigned integers of every width.
            tensor = tensor[(..., index, *[slice(None)] * (-1 - dim))]
    return tensor
