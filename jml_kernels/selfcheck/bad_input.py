"""Bad input: labels out of range and logits that are no numbers."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from .corpus import NOT_FINITE
from .corpus.case import BLS, SIGMOID, LossCase
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
    _bad("label 7, teacher", "beside a teacher", 7, loss="distillation", interpreted=False),
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
    ]


def _spoiled(bad: BadLabel, device: str) -> tuple[Tensor | None, ...]:
    """The arguments of the loss."""
    logits, labels, *others = arguments(bad.case, device)
    labels[tuple(size - 1 for size in labels.shape)] = bad.label
    return logits, labels, *others


def _is_refused(bad: BadLabel, subject: Subject) -> list[Measure]:
    tensors = _spoiled(bad, subject.device)
    if subject.where in ("on the GPU", "emulated"):  # looking would make the GPU wait
        _require_nan(make(bad.case, subject.backend, subject.device)(*tensors))
    else:
        _require_index_error(bad, subject, tensors)
    if subject.device == "cuda":
        _require_index_error(bad, subject, tensors, validate=True)
    return []


def _is_not_a_number(case: LossCase, subject: Subject) -> list[Measure]:
    tensors = arguments(case, subject.device)
    _require_nan(make(case, subject.backend, subject.device)(*tensors))
    return []


def _require_index_error(
    bad: BadLabel, subject: Subject, tensors: tuple[Tensor | None, ...], **more: object
) -> None:
    expected = f"an IndexError that names label {bad.label}"
    loss = make(bad.case, subject.backend, subject.device, **more)
    try:
        value = loss(*tensors)
    except IndexError as error:
        if f"label {bad.label} " not in str(error):
            raise Mismatch(f"IndexError: {error}", expected) from None
    else:
        raise Mismatch(f"loss {value.item()}", expected)


def _require_nan(value: Tensor) -> None:
    if not value.isnan():
        raise Mismatch(f"loss {value.item()}", "nan")
