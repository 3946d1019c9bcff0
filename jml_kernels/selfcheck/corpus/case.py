"""What a case of the corpus is: tensors to draw, a loss to compute on them, and who runs it.

The lists of cases stand in the other files of this folder, one for each subject. Every case says
why it is there. drawing.py makes its tensors, and losses.py its loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

#: The options that say what the target is and which elements count. All losses have them, and so
#: do the statistics.
TARGET_OPTIONS = (
    "label_smoothing",
    "boundary_size",
    "ignore_index",
    "activation",
    "upsample",
    "align_corners",
)


@dataclass(frozen=True, eq=False)
class LossCase:
    """A loss and its inputs.

    These attributes say how the tensors are drawn:
        shape: of the logits, (N, C, *spatial).
        dtype, layout: of the logits; a layout is a name of `layouts.LAYOUTS`.
        values: what the logits are like, "normal" or a special case that `drawing` knows.
        target: "labels", integers (N, *spatial); "soft", probabilities (N, C, *spatial); "bits",
            integers 0 and 1 (N, C, *spatial); "none", for a teacher without labels. One class has
            two more: "labels with a channel", integers (N, 1, *spatial), and "soft without a
            channel", probabilities (N, *spatial).
        target_dtype: None means int64 for integers and float32 for probabilities.
        target_layout: as `layout`.
        drawn: how labels are drawn. "uniform": every pixel by itself. "blocks": constant on 3 x 3
            pixels, so that not every pixel is at a boundary. "blocks in one half": constant in the
            other half of the rows. "constant": one label everywhere. "no class 1": one is absent.
        ignored: the share of integer targets that is ignore_index.
        masked: the share of pixels that the mask takes out; None means that there is no mask.
        mask_layout: as `layout`.
        full_size: the spatial sizes of target and mask, with the option upsample; None means that
            they are the logits'.
        teacher: what the logits of a teacher are like, as `values`, where the loss has one.
        teacher_size: their spatial sizes; None means that they are the logits'.
        teacher_dtype: None means the dtype of the logits.
        teacher_layout: as `layout`.

    These say what is computed:
        loss: a name of `losses.LOSSES`. It is what `jml-kernels check` computes; tests compute
            all overlaps and all statistics on the inputs of an overlap loss.
        weights: which of "class_weights" and "ce_class_weights" the loss is given.
        options: of the loss.
        finite: whether the loss is a number.

    And these say who runs it:
        checked: it is part of `jml-kernels check`, for which one case of each idea is enough.
        quick: it is part of `jml-kernels check --quick` too.
        interpreted: it runs in Triton's interpreter, which takes a fifth of a second for a step,
            however small. False where it is large, or repeats for one kind of load what other
            cases show.
        slow: it is left to `make test-slow`.
    """

    name: str
    why: str
    shape: tuple[int, ...] = (2, 5, 6, 7)
    dtype: torch.dtype = torch.float32
    layout: str = "contiguous"
    values: str = "normal"
    target: str = "labels"
    target_dtype: torch.dtype | None = None
    target_layout: str = "contiguous"
    drawn: str = "uniform"
    ignored: float = 0.0
    masked: float | None = None
    mask_layout: str = "contiguous"
    full_size: tuple[int, ...] | None = None
    teacher: str = "normal"
    teacher_size: tuple[int, ...] | None = None
    teacher_dtype: torch.dtype | None = None
    teacher_layout: str = "contiguous"
    loss: str = "JML1"
    weights: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    finite: bool = True
    checked: bool = False
    quick: bool = False
    interpreted: bool = True
    slow: bool = False

    @property
    def target_options(self) -> dict[str, object]:
        """The options that `class_statistics` takes too."""
        return {name: self.options[name] for name in TARGET_OPTIONS if name in self.options}

    @property
    def has_teacher(self) -> bool:
        return self.loss == "distillation"

    @property
    def activation(self) -> str:
        return self.options.get("activation", "softmax")

    @property
    def ignore_index(self) -> int:
        return self.options.get("ignore_index", -100)

    @property
    def upsamples(self) -> bool:
        return "upsample" in self.options

    @property
    def target_shape(self) -> tuple[int, ...]:
        """(N, C, *spatial) of a dense target, at full size."""
        return self.shape if self.full_size is None else (*self.shape[:2], *self.full_size)

    @property
    def elements(self) -> int:
        """At full size."""
        return math.prod(self.target_shape)

    @property
    def pixels(self) -> int:
        """The number of pixels of the whole batch, at full size."""
        return self.elements // self.shape[1]

    @property
    def label_shape(self) -> tuple[int, ...]:
        """(N, *spatial)"""
        return (self.shape[0], *self.target_shape[2:])

    @property
    def teacher_shape(self) -> tuple[int, ...]:
        return self.shape if self.teacher_size is None else (*self.shape[:2], *self.teacher_size)

    @property
    def num_labels(self) -> int:
        """How many different labels there are: one class of independent ones has two."""
        is_binary = self.shape[1] == 1 and self.activation != "softmax"
        return 2 if is_binary or self.target == "bits" else self.shape[1]


# ---- what many lists share -----------------------------------------------------------------------

#: Label smoothing of every pixel, and of those at a boundary.
LS = {"label_smoothing": 0.1}
BLS = {"label_smoothing": 0.2, "boundary_size": 3}
SIGMOID = {"activation": "sigmoid"}
NONE = {"activation": "none"}
WEIGHTS = ("class_weights", "ce_class_weights")
#: Several tiles, of which the last one is not whole.
TILES = (1, 11, 43, 59)
BINARY = (2, 1, 6, 7)
