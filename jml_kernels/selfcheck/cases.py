"""What an input of a check is. The lists of them, each with the reason why it is there, are in
parity_cases.py, gradient_cases.py and step_cases.py.

`quick` marks those of `jml-kernels check --quick`. Triton's interpreter takes a fifth of a second
for a step, however small: cases that repeat for it what others show, or that are large, have
`interpreted=False`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch

from .results import Subject


@dataclass(frozen=True, eq=False)
class Case:
    """One input.

    Attributes:
        loss: a name of `losses`.
        shape: of the logits, (N, C, *spatial).
        layout, target_layout: of `layouts.LAYOUTS`; the second of a teacher too.
        scale, shift: of the logits, which are normal.
        target: "labels" (N, *spatial); "soft" (N, C, *spatial); "bits", integers 0 and 1
            (N, C, *spatial); "none", of a distillation.
        integers, floats: dtypes of labels and bits, and of a soft target or a teacher (None: that
            of the logits).
        ignored: share of the integers that is ignore_index.
        masked: share of the pixels that the mask takes out; None: no mask.
        weights: which of "class_weights" and "ce_class_weights" are given.
        options: of the loss.
    """

    name: str
    why: str
    loss: str = "JML1"
    shape: tuple[int, ...] = (1, 5, 6, 7)
    dtype: torch.dtype = torch.float32
    layout: str = "contiguous"
    scale: float = 2.0
    shift: float = 0.0
    target: str = "labels"
    integers: torch.dtype = torch.int64
    floats: torch.dtype | None = None
    target_layout: str = "contiguous"
    ignored: float = 0.0
    masked: float | None = None
    weights: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    quick: bool = False
    interpreted: bool = True

    @property
    def activation(self) -> str:
        return self.options.get("activation", "softmax")

    @property
    def ignore_index(self) -> int:
        return self.options.get("ignore_index", -100)

    @property
    def has_teacher(self) -> bool:
        return self.loss == "distillation"

    @property
    def label_shape(self) -> tuple[int, ...]:
        return (self.shape[0], *self.shape[2:])

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def label_count(self) -> int:
        return 2 if self.shape[1] == 1 and self.activation != "softmax" else self.shape[1]


# Options that several lists have.
LS = {"label_smoothing": 0.1}
BLS = {"label_smoothing": 0.2, "boundary_size": 3}
SIGMOID = {"activation": "sigmoid"}
NONE = {"activation": "none"}
WEIGHTS = ("class_weights", "ce_class_weights")

#: Every loss, a name of `losses`.
FAMILY = (
    "JML1",
    "JML2",
    "soft Jaccard L1",
    "soft Jaccard L2",
    "Dice semimetric 1",
    "Dice semimetric 2",
    "soft Dice L1",
    "soft Dice L2",
    "Tversky",
    "cross-entropy",
    "distillation",
    "JDT",
    "statistics",
)


def chosen(cases: Iterable[Case], subject: Subject) -> list[Case]:
    """The cases that a backend is checked on."""
    return [
        case
        for case in cases
        if (case.quick or not subject.quick) and (case.interpreted or not subject.is_interpreted)
    ]
