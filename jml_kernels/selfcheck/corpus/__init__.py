"""The corpus: what every backend is tested and checked on, each case with the reason why it is
there. It needs nothing but PyTorch.

    case.py                             what a case is
    drawing.py, layouts.py, dtypes.py   its tensors
    losses.py                           its loss
    shapes.py, logits.py, labels.py,    inputs of every overlap loss, one subject at a time
    soft.py, smoothing.py,
    activations.py, values.py,
    options.py
    upsampling.py                       logits of lower resolution, of overlap losses and objectives
    family.py                           every loss, against every kind of target
    cross_entropy.py, distillation.py   objectives
    gradients.py                        small cases for finite differences
    steps.py                            cases that are repeated, compiled, measured
"""

from __future__ import annotations

from .activations import ACTIVATIONS
from .case import LossCase  # noqa: F401, for whoever tests with it
from .cross_entropy import CROSS_ENTROPY
from .distillation import DISTILLATION
from .family import EVERY_LOSS
from .labels import LABELS
from .logits import DTYPES_AND_LAYOUTS, LOGITS
from .options import OPTIONS, OTHER_OPTIONS
from .shapes import SHAPES
from .smoothing import SMOOTHED
from .soft import SOFT
from .upsampling import UPSAMPLED, UPSAMPLED_OBJECTIVES
from .values import NOT_FINITE, VALUES

#: Inputs of every overlap loss, whose value is a number.
INPUTS = [
    *SHAPES, *LOGITS, *LABELS, *SOFT, *SMOOTHED, *ACTIVATIONS, *VALUES, *OPTIONS, *UPSAMPLED,
]  # fmt: skip
OBJECTIVES = [*CROSS_ENTROPY, *DISTILLATION, *UPSAMPLED_OBJECTIVES]
#: Inputs of the one loss that they name.
OF_ONE_LOSS = [*EVERY_LOSS, *DTYPES_AND_LAYOUTS, *OTHER_OPTIONS]
CASES = [*INPUTS, *OBJECTIVES, *OF_ONE_LOSS, *NOT_FINITE]
BY_NAME = {case.name: case for case in CASES}
