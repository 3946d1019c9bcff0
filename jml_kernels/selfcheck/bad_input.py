"""Bad input: labels out of range, what is no probability, logits that are no numbers, and calls
that are refused."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..functional import jaccard_metric_loss
from .corpus import NOT_FINITE
from .corpus.case import BLS, LS, NONE, SIGMOID, LossCase
from .corpus.drawing import arguments
from .corpus.losses import make
from .results import Measure, Mismatch, Subject, Trial


class BadLabel(NamedTuple):
    """A case, and the label that its last pixel has in place of its own."""

    case: LossCase
    label: int


def _bad(name: str, why: str, label: int, **more) -> BadLabel:
    given = {"shape": (1, 5, 6, 7), "checked": True, **more}
    return BadLabel(LossCase(name, why, **given), label)


BAD_LABELS = [
    _bad("label 5 of 5 classes", "one too large", 5, quick=True),
    _bad("label -1", "not ignore_index", -1, quick=True),
    _bad("label 255, uint8", "an ignore_index that was not given", 255,
         target_dtype=torch.uint8),
    _bad("label 2^40", "its low bits are a label", 2**40),
    _bad("label 5, boundary", "in a window", 5, interpreted=False, options=BLS),
    _bad("label 5, many pixels", "in the last of several tiles", 5, shape=(2, 5, 43, 59),
         interpreted=False),
    _bad("bit 2", "neither 0 nor 1", 2, target="bits", options=SIGMOID, quick=True),
    _bad("label 2, binary", "one class has two labels", 2, shape=(1, 1, 6, 7),
         options=SIGMOID),
    _bad("label 7, cross-entropy", "with weights of classes", 7, loss="cross-entropy",
         weights=("ce_class_weights",), interpreted=False),
    _bad("label 5, upsample", "of logits of lower resolution", 5, full_size=(13, 28),
         options={"upsample": "bilinear"}, interpreted=False),
    _bad("label 7, teacher", "beside a teacher", 7, loss="distillation", interpreted=False),
]  # fmt: skip


class NoProbability(NamedTuple):
    """A value outside [0, 1] where a probability is expected.

    Attributes:
        where: the argument whose last element has it, "logits" or "target".
    """

    name: str
    where: str
    value: float
    options: dict[str, object] = {}  # noqa: RUF012, nobody writes into it


NO_PROBABILITIES = [
    NoProbability("a target of 255", "target", 255.0),
    NoProbability("a target of -0.5", "target", -0.5, options=SIGMOID),
    NoProbability("a target of NaN", "target", math.nan),
    NoProbability("a prediction of 1.5", "logits", 1.5, options=NONE),
    NoProbability("a prediction of NaN", "logits", math.nan, options=NONE),
]


class Refusal(NamedTuple):
    """A call of `jaccard_metric_loss` that raises before any kernel runs.

    Attributes:
        error: what it raises.
        words: of its message, which names what is wrong and, where there is one, the cure.
        shape: of the logits.
        target: made from labels and probabilities that fit the logits.
        logits: what becomes of them; by default they are a leaf that requires grad.
    """

    name: str
    error: type[Exception]
    words: tuple[str, ...]
    shape: tuple[int, ...] = (1, 5, 6, 7)
    target: Callable[[Tensor, Tensor], Tensor] = lambda labels, soft: labels
    logits: Callable[[Tensor], Tensor] = lambda logits: logits.requires_grad_()
    options: dict[str, object] = {}  # noqa: RUF012, nobody writes into it


def _soft(labels: Tensor, soft: Tensor) -> Tensor:
    return soft


REFUSALS = [
    Refusal("softmax of one class", ValueError, ("logits has shape", "activation='sigmoid'"),
            shape=(1, 1, 6, 7)),
    Refusal("in place on a leaf", RuntimeError, ("inplace_backward=True", "leaf"),
            options={"inplace_backward": True}),
    Refusal("in place on an expanded tensor", RuntimeError, ("inplace_backward=True", "memory of"),
            logits=lambda logits: (logits[:, :, :1].requires_grad_() * 1).expand_as(logits),
            options={"inplace_backward": True}),
    Refusal("smoothing of probabilities", ValueError, ("label_smoothing=0.1", "probabilities"),
            target=_soft, options=LS),
    Refusal("boundaries of probabilities", ValueError, ("boundary_size=3", "None"),
            target=_soft, options={"boundary_size": 3}),
    Refusal("labels with a channel", ValueError, ("target has shape (1, 1, 6, 7)", ".squeeze(1)"),
            target=lambda labels, soft: labels.unsqueeze(1)),
    Refusal("labels of floats", ValueError, ("target has shape (1, 6, 7)", ".long()"),
            target=lambda labels, soft: labels.float()),
    Refusal("labels larger than logits", ValueError,
            ("target has shape (1, 12, 14)", "upsample='bilinear'"),
            target=lambda labels, soft: labels.repeat(1, 2, 2)),
    Refusal("labels smaller than logits", ValueError, ("logits has shape", "from 1 to (3, 7)"),
            target=lambda labels, soft: labels[:, :3], options={"upsample": "bilinear"}),
    Refusal("a mode of another rank", ValueError, ("upsample='linear'", "'bilinear'"),
            options={"upsample": "linear"}),
    Refusal("weights that are not convex", ValueError, ("upsample='bicubic'", "convex"),
            options={"upsample": "bicubic"}),
    Refusal("in place of lower resolution", ValueError, ("inplace_backward=True", "upsample"),
            options={"upsample": "bilinear", "inplace_backward": True}),
    Refusal("a negative weight", ValueError, ("class_weights[1]=-1.0", ">= 0"),
            options={"class_weights": [1.0, -1.0, 1.0, 1.0, 1.0]}),
    Refusal("a weight of NaN", ValueError, ("class_weights[4]=nan", "finite"),
            options={"class_weights": [1.0, 1.0, 1.0, 1.0, math.nan]}),
    Refusal("no class", ValueError, ("classes=[]", "at least one index"),
            options={"classes": []}),
    Refusal("a class that is not there", ValueError, ("classes=(5,)", "below 5"),
            options={"classes": [5]}),
    Refusal("a word for a truth value", TypeError, ("log_loss='False'", "True or False"),
            options={"log_loss": "False"}),
    Refusal("losses of images of a batch", ValueError, ("aggregation='dataset'", "'image'"),
            options={"reduction": "image"}),
    Refusal("a misspelt option", TypeError, ("'label_smothing'", "'label_smoothing'"),
            options={"label_smothing": 0.1}),
]  # fmt: skip


def trials(subject: Subject) -> list[Trial]:
    chosen = subject.chosen(bad.case for bad in BAD_LABELS)
    return [
        *[
            Trial(bad.case.name, functools.partial(_is_refused, bad, subject))
            for bad in BAD_LABELS
            if bad.case in chosen
        ],
        *[
            Trial(case.name, functools.partial(_is_not_a_number, case, subject))
            for case in subject.chosen(NOT_FINITE)
        ],
        *[
            Trial(refusal.name, functools.partial(_is_refused_at_once, refusal, subject))
            for refusal in REFUSALS
        ],
        *[
            Trial(bad.name, functools.partial(_is_no_probability, bad, subject))
            for bad in NO_PROBABILITIES
        ],
    ]


def _spoiled(bad: BadLabel, device: str) -> tuple[Tensor | None, ...]:
    """The arguments of the loss."""
    logits, labels, *others = arguments(bad.case, device)
    labels[tuple(size - 1 for size in labels.shape)] = bad.label
    return logits, labels, *others


def _is_refused(bad: BadLabel, subject: Subject) -> list[Measure]:
    tensors = _spoiled(bad, subject.device)
    if _cannot_look(subject):
        _require_nan(make(bad.case, subject.backend, subject.device)(*tensors))
    else:
        _require_index_error(bad, subject, tensors)
    if subject.device == "cuda":
        _require_index_error(bad, subject, tensors, validate=True)
    return []


def _cannot_look(subject: Subject) -> bool:
    """Whether reading values would make a GPU wait, so that what is wrong makes the loss NaN."""
    return subject.where in ("on the GPU", "emulated")


def _is_no_probability(bad: NoProbability, subject: Subject) -> list[Measure]:
    logits, _, target = _fitting((1, 5, 6, 7), subject.device)
    spoiled = logits if bad.where == "logits" else target
    spoiled[0, 4, 5, 6] = bad.value
    loss = functools.partial(
        jaccard_metric_loss, logits, target, backend=subject.backend, **bad.options
    )
    words = (f"{bad.where} has value {bad.value:g} at position (0, 4, 5, 6)",)
    if _cannot_look(subject):
        _require_nan(loss())
    else:
        _require_error(ValueError, words, loss)
    if subject.device == "cuda":
        _require_error(ValueError, words, lambda: loss(validate=True))
    return []


def _is_refused_at_once(refusal: Refusal, subject: Subject) -> list[Measure]:
    logits, labels, soft = _fitting(refusal.shape, subject.device)
    target = refusal.target(labels, soft)
    loss = functools.partial(jaccard_metric_loss, backend=subject.backend, **refusal.options)
    _require_error(refusal.error, refusal.words, lambda: loss(refusal.logits(logits), target))
    return []


def _fitting(shape: tuple[int, ...], device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels and probabilities that fit each other. All logits are such too."""
    n, c, *spatial = shape
    logits = torch.full(shape, 1 / c, device=device)
    labels = torch.zeros((n, *spatial), dtype=torch.int64, device=device)
    return logits, labels, logits.clone()


def _is_not_a_number(case: LossCase, subject: Subject) -> list[Measure]:
    tensors = arguments(case, subject.device)
    _require_nan(make(case, subject.backend, subject.device)(*tensors))
    return []


def _require_index_error(
    bad: BadLabel, subject: Subject, tensors: tuple[Tensor | None, ...], **more: object
) -> None:
    loss = make(bad.case, subject.backend, subject.device, **more)
    _require_error(IndexError, (f"label {bad.label} ",), lambda: loss(*tensors))


def _require_error(
    kind: type[Exception], words: tuple[str, ...], call: Callable[[], Tensor]
) -> None:
    article = "an" if kind is IndexError else "a"
    expected = f"{article} {kind.__name__} that says {' and '.join(map(repr, words))}"
    try:
        value = call()
    except kind as error:
        if not all(word in str(error) for word in words):
            raise Mismatch(f"{kind.__name__}: {error}", expected) from None
    else:
        raise Mismatch(f"loss {value.item()}", expected)


def _require_nan(value: Tensor) -> None:
    if not value.isnan():
        raise Mismatch(f"loss {value.item()}", "nan")
