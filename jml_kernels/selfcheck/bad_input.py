"""Bad input: labels out of range and logits that are no numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from .corpus.case import BLS, SIGMOID, LossCase
from .corpus.drawing import arguments
from .corpus.losses import make
from .results import Measure, Mismatch, Subject, Trial


class Bad(NamedTuple):
    case: LossCase
    position: int
    """in the loss's arguments: 0 are the logits"""
    value: float
    """put at the argument's last element"""


def _bad(name: str, why: str, position: int, value: float, **more) -> Bad:
    given = {"shape": (1, 5, 6, 7), "checked": True, **more}
    return Bad(LossCase(name, why, **given), position, value)


LABELS = [
    _bad("label 5 of 5 classes", "one too large", 1, 5, quick=True),
    _bad("label -1", "not ignore_index", 1, -1, quick=True),
    _bad("label 255, uint8", "an ignore_index that was not given", 1, 255,
         target_dtype=torch.uint8),
    _bad("label 2^40", "its low bits are a label", 1, 2**40),
    _bad("label 5, boundary", "in a window", 1, 5, interpreted=False, options=BLS),
    _bad("label 5, many pixels", "in the last of several tiles", 1, 5, shape=(2, 5, 43, 59),
         interpreted=False),
    _bad("bit 2", "neither 0 nor 1", 1, 2, target="bits", options=SIGMOID, quick=True),
    _bad("label 2, binary", "one class has two labels", 1, 2, shape=(1, 1, 6, 7),
         options=SIGMOID),
    _bad("label 7, cross-entropy", "with weights of classes", 1, 7, loss="cross-entropy",
         weights=("ce_class_weights",), interpreted=False),
    _bad("label 7, teacher", "beside a teacher", 1, 7, loss="distillation", interpreted=False),
]  # fmt: skip

NUMBERS = [
    *[
        _bad(f"{value} logit, {target}", "one is enough", 0, value, target=target, quick=quick,
             options=SIGMOID if target == "bits" else {})
        for value, target, quick in [
            (math.nan, "labels", True), (math.nan, "soft", True), (math.nan, "bits", False),
            (math.inf, "labels", False),
        ]
    ],
    _bad("nan logit, float16", "in half precision", 0, math.nan, dtype=torch.float16,
         layout="channels_last"),
    _bad("nan logit, cross-entropy", "beside the overlap", 0, math.nan, loss="cross-entropy",
         interpreted=False),
    _bad("nan logit, teacher", "of the student", 0, math.nan, loss="distillation",
         interpreted=False),
    _bad("nan target", "a soft one", 1, math.nan, target="soft"),
    _bad("nan logit, many pixels", "in the last of several tiles", 0, math.nan,
         shape=(2, 5, 43, 59), interpreted=False),
]  # fmt: skip


def trials(subject: Subject) -> list[Trial]:
    found = []
    for cases, run in ((LABELS, _bad_label), (NUMBERS, _not_a_number)):
        kept = subject.chosen(bad.case for bad in cases)
        found += [
            Trial(bad.case.name, functools.partial(run, bad, subject))
            for bad in cases
            if bad.case in kept
        ]
    return found


def spoiled(bad: Bad, device: str) -> tuple[Tensor | None, ...]:
    """The arguments of the loss."""
    tensors = arguments(bad.case, device)
    tensor = tensors[bad.position]
    tensor[tuple(size - 1 for size in tensor.shape)] = bad.value
    return tensors


def _loss(bad: Bad, subject: Subject, tensors: tuple, **more: object) -> Tensor:
    options: Mapping[str, object] = {**bad.case.options, **more}
    return make(replace(bad.case, options=options), subject.backend, subject.device)(*tensors)


def _bad_label(bad: Bad, subject: Subject) -> list[Measure]:
    tensors = spoiled(bad, subject.device)
    if subject.where in ("on the GPU", "emulated"):  # looking would make the GPU wait
        _require_nan(_loss(bad, subject, tensors))
    else:
        _require_index_error(bad, subject, tensors)
    if subject.device == "cuda":
        _require_index_error(bad, subject, tensors, validate=True)
    return []


def _not_a_number(bad: Bad, subject: Subject) -> list[Measure]:
    _require_nan(_loss(bad, subject, spoiled(bad, subject.device)))
    return []


def _require_index_error(bad: Bad, subject: Subject, tensors: tuple, **more: object) -> None:
    expected = f"an IndexError that names label {bad.value}"
    try:
        value = _loss(bad, subject, tensors, **more)
    except IndexError as error:
        if f"label {bad.value} " not in str(error):
            raise Mismatch(f"IndexError: {error}", expected) from None
    else:
        raise Mismatch(f"loss {value.item()}", expected)


def _require_nan(value: Tensor) -> None:
    if not value.isnan():
        raise Mismatch(f"loss {value.item()}", "nan")
