"""The options of the losses, checked when they are given.

Constructors and functions take them as keywords, and list them in their signatures and docstrings
by way of `lists_options`: each option is written down once, here.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from . import checks, option_checks
from .backend import NAMES
from .distributed import GRADIENTS, check_process_group

if TYPE_CHECKING:
    from torch.distributed import DeviceMesh, ProcessGroup


@dataclass(frozen=True)
class TargetOptions:
    """How logits become probabilities and labels become a target, and what computes it.

    Attributes:
        label_smoothing: e in [0, 1]. Integer labels become (1 - e) * onehot + e / C (section
            2.4.1); integers 0 and 1 of independent classes are smoothed as two classes. It is
            refused beside probabilities, which are taken as they are.
        boundary_size: k, odd: smooth only where the k x k (k, k x k x k) window holds another
            label (BLS). None: every pixel. It is refused beside a target that is no map of labels.
        ignore_index: integer label of pixels that count nowhere; None: every pixel counts.
        activation: "softmax" over dim 1, which has two classes or more, "sigmoid" per class
            (multi-label, or binary with one class), or "none" for probabilities.
        upsample: None, or "linear", "bilinear" or "trilinear", for 1, 2 or 3 spatial dimensions:
            the logits may have lower spatial sizes than the target, by any ratio >= 1 in each
            dimension. The loss is that of `torch.nn.functional.interpolate(logits.float(),
            size=target's, mode=upsample, align_corners=align_corners)`, in float64 for float64
            logits. Smoothing, ignore_index and mask have the target's size. A teacher's logits have
            a size of their own; without labels the full size is, in each dimension, the larger one
            of student and teacher.
        align_corners: of this interpolation: whether the centres of the corner pixels coincide, and
            not the edges of the images.
        inplace_backward: write the gradient into the logits' own memory, so that the logits hold
            the gradient after backward(). Nothing else may need them in the backward; autograd
            raises where it does. Refused are upsample, leaves that require grad and views of them,
            and logits that share memory with another argument.
        validate: look for labels out of range, and for what is no probability where one is
            expected, also where that makes the host wait for the device (a GPU). On the CPU they
            are always looked for.
        backend: "auto", or a name of `backends()`.
    """

    label_smoothing: float = 0.0
    boundary_size: int | None = None
    ignore_index: int | None = -100
    activation: str = "softmax"
    upsample: str | None = None
    align_corners: bool = False
    inplace_backward: bool = False
    validate: bool = False
    backend: str = "auto"

    def __post_init__(self):
        self._check("label_smoothing", option_checks.share)
        if self.boundary_size is not None:
            self._check("boundary_size", option_checks.boundary_size)
        if self.ignore_index is not None:
            self._check("ignore_index", option_checks.integer)
        for name in ("align_corners", "inplace_backward", "validate"):
            self._check(name, option_checks.boolean)
        option_checks.check_upsampling(self.upsample, self.align_corners, self.inplace_backward)
        option_checks.check_choice("activation", self.activation, checks.ACTIVATIONS)
        option_checks.check_choice("backend", self.backend, ("auto", *NAMES))

    def __deepcopy__(self, memo: dict) -> TargetOptions:
        """Options do not change, and a process group has no copy."""
        return self

    def _check(self, name: str, check: Callable[[str, Any], Any]) -> None:
        """Keep what a check makes of an option: a Python number of whatever number was given."""
        object.__setattr__(self, name, check(name, getattr(self, name)))


@dataclass(frozen=True)
class LossOptions(TargetOptions):
    """The options of every overlap loss, on top of `TargetOptions`.

    Attributes:
        alpha, beta: weights of false positives and false negatives in the Tversky index.
        gamma: exponent of 1 - index; > 0.
        smooth: s >= 0, added to numerator and denominator of the index, or a pair of two numbers,
            for the numerator and for the denominator, in this order.
        log_loss: -log(index) in place of 1 - index. An index below 1e-7 counts as 1e-7, with
            gradient 0, so that the loss is finite.
        active_classes: which classes the mean is over (section 2.4.3): "all"; "present", the
            target's argmax somewhere; "label", "prob" or "both", where the largest target,
            probability, or sum of the two exceeds active_threshold.
        active_threshold: what the largest of these must exceed.
        classes: the classes that may enter the mean, as a list of indices or a bool tensor (C,);
            None: all. Of these, the active ones count. A cross-entropy still sees every class.
        inactive_loss: a number, with which a class that is not active counts, so that the mean is
            over all `classes`; None leaves such a class out of the mean.
        aggregation: "dataset", "image", "class" (see `formulas.overlap_value`), or a mapping of
            these to the weights they are added with.
        weighted_mean: whether class_weights are divided by their sum over the classes of the mean,
            in place of their number.
        reduction: over classes: "mean", or "sum"; "image", with aggregation="image", for a loss of
            each image, (N,), cross-entropy included; "none" for the losses per class, 0 where they
            do not count: (C,), or (N, C) for aggregation="image".
        process_group: the ranks whose images make up the batch, each image on one of them: a group
            of `torch.distributed`, a DeviceMesh of one dimension, or True for the default group.
            The loss is then that of the whole batch, on every rank; all ranks have to call it.
            Ranks may have different numbers and sizes of images, or none. What a reduction gives of
            each image is of the rank's own images. None: the batch is the rank's own.
        gradients: of a process_group, how the gradients of the ranks meet after the backward:
            "averaged", as DDP and FSDP do, or "summed" (tensor, context and spatial parallelism,
            FSDP2 with a divide factor of 1).
    """

    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    smooth: float | tuple[float, float] = 0.0
    log_loss: bool = False
    active_classes: str = "label"
    active_threshold: float = 0.01
    classes: Sequence[int] | Tensor | None = None
    inactive_loss: float | None = None
    aggregation: str | Mapping[str, float] = "dataset"
    weighted_mean: bool = False
    reduction: str = "mean"
    process_group: ProcessGroup | DeviceMesh | bool | None = None
    gradients: str = "averaged"

    def __post_init__(self):
        super().__post_init__()
        for name in ("alpha", "beta"):
            self._check(name, option_checks.non_negative)
        self._check("smooth", option_checks.smooth)
        self._check("gamma", option_checks.positive)
        self._check("active_threshold", option_checks.finite)
        self._check("classes", option_checks.classes)
        if self.inactive_loss is not None:
            self._check("inactive_loss", option_checks.finite)
        for name in ("log_loss", "weighted_mean"):
            self._check(name, option_checks.boolean)
        option_checks.check_choice("active_classes", self.active_classes, checks.ACTIVE_CLASSES)
        option_checks.check_choice("reduction", self.reduction, checks.REDUCTIONS)
        self._check("aggregation", option_checks.aggregation)
        self._check("process_group", check_process_group)
        option_checks.check_choice("gradients", self.gradients, GRADIENTS)
        names = tuple(self.aggregation_weights)
        if self.reduction == "none" and len(names) > 1:
            raise ValueError(
                f"aggregation={self.aggregation!r}: expected one aggregation with reduction='none'"
            )
        if self.reduction == "image" and names != ("image",):
            raise ValueError(
                f"aggregation={self.aggregation!r}: expected 'image' with reduction='image'"
            )

    @property
    def aggregation_weights(self) -> dict[str, float]:
        """The weight of each aggregation that has one."""
        if isinstance(self.aggregation, str):
            return {self.aggregation: 1.0}
        # A weight of 0 takes a part out, even where that is infinite.
        positive = {how: weight for how, weight in self.aggregation.items() if weight > 0}
        return positive or self.aggregation

    @property
    def smooth_pair(self) -> tuple[float, float]:
        """What is added to the numerator and to the denominator of the index."""
        return self.smooth if isinstance(self.smooth, tuple) else (self.smooth, self.smooth)


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
            self._check(name, option_checks.share)
        for name in ("temperature", "student_temperature"):
            self._check(name, option_checks.positive)
        option_checks.check_choice("distillation", self.distillation, checks.DISTILLATIONS)
        if self.teacher_active_classes is not None:
            option_checks.check_choice(
                "teacher_active_classes", self.teacher_active_classes, checks.ACTIVE_CLASSES
            )
        check_reduction_of_objective(self)
        if self.activation == "none":
            raise ValueError(
                "activation='none': expected 'softmax' or 'sigmoid', which the teacher's logits go "
                "through too"
            )


def check_reduction_of_objective(options: LossOptions) -> None:
    """Cross-entropy is not a number per class."""
    if options.reduction == "none":
        raise ValueError(
            "reduction='none': expected 'mean', 'sum' or 'image' with a cross-entropy, which has "
            "no classes"
        )


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

        checked = _checks_names(inner, function.__name__, names)
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


def names_nearest(kind: _T) -> _T:
    """Decorator of a class whose constructor has no **options: a name that it does not have is
    answered with the nearest one."""
    inner = kind.__init__
    names = [name for name in inspect.signature(inner).parameters if name != "self"]
    kind.__init__ = _checks_names(inner, kind.__name__, names)
    return kind


def _checks_names(inner: Callable, function: str, names: list[str]) -> Callable:
    @functools.wraps(inner)
    def checked(*arguments: Any, **keywords: Any) -> Any:
        for name in keywords:
            if name not in names:
                raise TypeError(_unknown(function, name, names))
        return inner(*arguments, **keywords)

    return checked


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
