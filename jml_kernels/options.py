"""The options of the losses, checked when they are given.

Constructors and functions take them as keywords, and list them in their signatures and docstrings
by way of `lists_options`: each option is written down once, here.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from typing import Any, TypeVar

from . import checks
from .backend import NAMES


@dataclass(frozen=True)
class TargetOptions:
    """How logits become probabilities and labels become a target, and what computes it.

    Attributes:
        label_smoothing: e in [0, 1]. Integer labels become (1 - e) * onehot + e / C (section
            2.4.1); integers 0 and 1 of independent classes are smoothed as two classes.
            Probabilities are taken as they are.
        boundary_size: k, odd: smooth only where the k x k (k, k x k x k) window holds another
            label (BLS). None: every pixel.
        ignore_index: integer label of pixels that count nowhere.
        activation: "softmax" over dim 1, "sigmoid" per class (multi-label, or binary with one
            class), or "none" for probabilities.
        inplace_backward: write the gradient into the logits' own memory. Nothing else may need
            them in the backward; autograd raises where it does.
        validate: look for labels out of range also where that makes the host wait for the device
            (a GPU). On the CPU they are always looked for.
        backend: "auto", or a name of `backends()`.
    """

    label_smoothing: float = 0.0
    boundary_size: int | None = None
    ignore_index: int = -100
    activation: str = "softmax"
    inplace_backward: bool = False
    validate: bool = False
    backend: str = "auto"

    def __post_init__(self):
        checks.check_share("label_smoothing", self.label_smoothing)
        if self.boundary_size is not None:
            checks.check_boundary_size(self.boundary_size)
        if isinstance(self.ignore_index, bool) or not isinstance(self.ignore_index, int):
            raise TypeError(f"ignore_index={self.ignore_index!r}: expected an integer")
        checks.check_choice("activation", self.activation, checks.ACTIVATIONS)
        checks.check_choice("backend", self.backend, ("auto", *NAMES))


@dataclass(frozen=True)
class LossOptions(TargetOptions):
    """The options of every overlap loss, on top of `TargetOptions`.

    Attributes:
        alpha, beta: weights of false positives and false negatives in the Tversky index.
        gamma: exponent of 1 - index; > 0.
        smooth: s >= 0, added to numerator and denominator of the index.
        log_loss: -log(index) in place of 1 - index.
        active_classes: which classes the mean is over (section 2.4.3): "all"; "present", the
            target's argmax somewhere; "label", "prob" or "both", where the largest target,
            probability, or sum of the two exceeds active_threshold.
        active_threshold: what the largest of these must exceed.
        aggregation: "dataset", "image", "class" (see `formulas.aggregate`), or a mapping of these
            to the weights they are added with.
        reduction: "mean", or "none" for the losses per class, 0 where inactive: (C,), or (N, C)
            for aggregation="image".
    """

    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    smooth: float = 0.0
    log_loss: bool = False
    active_classes: str = "label"
    active_threshold: float = 0.01
    aggregation: str | Mapping[str, float] = "dataset"
    reduction: str = "mean"

    def __post_init__(self):
        super().__post_init__()
        for name in ("alpha", "beta", "smooth"):
            checks.check_non_negative(name, getattr(self, name))
        checks.check_positive("gamma", self.gamma)
        checks.check_number("active_threshold", self.active_threshold)
        if not math.isfinite(self.active_threshold):
            raise ValueError(f"active_threshold={self.active_threshold!r}: expected a number")
        checks.check_choice("active_classes", self.active_classes, checks.ACTIVE_CLASSES)
        checks.check_choice("reduction", self.reduction, checks.REDUCTIONS)
        if isinstance(self.aggregation, Mapping):
            if not self.aggregation:
                raise ValueError("aggregation={}: expected at least one weight")
            for name, weight in self.aggregation.items():
                checks.check_choice("aggregation", name, checks.AGGREGATIONS)
                checks.check_non_negative(f"aggregation[{name!r}]", weight)
            if self.reduction == "none" and len(self.aggregation) > 1:
                raise ValueError(
                    f"aggregation={dict(self.aggregation)!r}: expected one aggregation with "
                    "reduction='none'"
                )
        else:
            checks.check_choice("aggregation", self.aggregation, checks.AGGREGATIONS)

    @property
    def aggregation_weights(self) -> dict[str, float]:
        if isinstance(self.aggregation, Mapping):
            # A weight of 0 takes a part out, even where that is infinite.
            positive = {how: weight for how, weight in self.aggregation.items() if weight > 0}
            return positive or dict(self.aggregation)
        return {self.aggregation: 1.0}


@dataclass(frozen=True)
class DistillationOptions(LossOptions):
    """The options of distillation (eq. 15 to 17), on top of `LossOptions`.

    Attributes:
        ce_weight: lambda, the share of cross-entropy in the whole.
        ce_label_weight: mu, the share of the labels in the cross-entropy.
        jaccard_label_weight: nu, the share of the labels in the overlap loss.
        temperature: what the teacher's logits are divided by; > 0.
        student_temperature: what the student's logits are divided by in the cross-entropy against
            the teacher, which is then multiplied with its square; > 0.
        distillation: "ce", the cross-entropy against the teacher, or "kl", the same less the
            teacher's entropy: another value, the same gradient.
        teacher_active_classes: `active_classes` of the term against the teacher; None: the same.
    """

    ce_weight: float = 0.25
    ce_label_weight: float = 0.5
    jaccard_label_weight: float = 0.5
    temperature: float = 1.0
    student_temperature: float = 1.0
    distillation: str = "ce"
    teacher_active_classes: str | None = None

    def __post_init__(self):
        super().__post_init__()
        for name in ("ce_weight", "ce_label_weight", "jaccard_label_weight"):
            checks.check_share(name, getattr(self, name))
        for name in ("temperature", "student_temperature"):
            checks.check_positive(name, getattr(self, name))
        checks.check_choice("distillation", self.distillation, checks.DISTILLATIONS)
        if self.teacher_active_classes is not None:
            checks.check_choice(
                "teacher_active_classes", self.teacher_active_classes, checks.ACTIVE_CLASSES
            )
        check_mean_reduction(self)
        if self.activation == "none":
            raise ValueError(
                "activation='none': expected 'softmax' or 'sigmoid', which the teacher's logits go "
                "through too"
            )


def check_mean_reduction(options: LossOptions) -> None:
    """Cross-entropy is not a number per class."""
    if options.reduction != "mean":
        raise ValueError(f"reduction={options.reduction!r}: expected 'mean' with a cross-entropy")


# ---- options as keywords -------------------------------------------------------------------------

_T = TypeVar("_T")


def lists_options(kind: type[TargetOptions], *, without: Sequence[str] = ()) -> Callable[[_T], _T]:
    """Decorator of a function, or of a class for its constructor, that takes **options.

    Signature and docstring then list the fields of `kind`, each with its default, and a name that
    is none of them is answered with the nearest one that is.

    Args:
        without: fields that the function sets itself.
    """

    def decorate(function: _T) -> _T:
        is_class = inspect.isclass(function)
        inner = function.__init__ if is_class else function
        signature = inspect.signature(inner)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        taken = {parameter.name for parameter in own} | set(without)
        options = [_parameter(field) for field in fields(kind) if field.name not in taken]
        names = [parameter.name for parameter in (*own, *options) if parameter.name != "self"]

        @functools.wraps(inner)
        def checked(*arguments: Any, **keywords: Any) -> Any:
            for name in keywords:
                if name not in names:
                    raise TypeError(_unknown(function.__name__, name, names))
            return inner(*arguments, **keywords)

        checked.__signature__ = signature.replace(parameters=[*own, *options])
        if is_class:
            function.__init__ = checked
        documented = function if is_class else checked
        if documented.__doc__:  # there is none under python -OO
            described = (_attributes(base) for base in reversed(kind.__mro__[:-1]))
            described = "\n".join(filter(None, (_without(taken, text) for text in described)))
            documented.__doc__ = (
                f"{inspect.cleandoc(documented.__doc__)}\n\n"
                f"Options:\n{textwrap.indent(described, '    ')}"
            )
        return documented

    return decorate


def _parameter(field: Field) -> inspect.Parameter:
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
    )


def _unknown(function: str, name: str, names: list[str]) -> str:
    """Python's own words, and what was expected."""
    nearest = difflib.get_close_matches(name, names, n=1)
    expected = f"did you mean {nearest[0]!r}?" if nearest else f"expected {', '.join(names)}"
    return f"{function}() got an unexpected keyword argument {name!r}: {expected}"


def _attributes(kind: type) -> str:
    """What the docstring of a class of options says of its attributes."""
    return inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]


def _without(taken: set[str], text: str) -> str:
    """A description of attributes but for those that a function describes itself."""
    kept, keeps = [], True
    for line in textwrap.dedent(text).splitlines():
        if not line.startswith(" "):
            keeps = not set(line.partition(":")[0].split(", ")) & taken
        if keeps:
            kept.append(line)
    return "\n".join(kept)
