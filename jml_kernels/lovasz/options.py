"""The options of the Lovász losses, checked when they are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .. import option_checks
from ..options import TargetOptions

#: Which classes the mean is over, beside a list of them.
CLASSES = ("present", "all")
#: Options of other losses that have no meaning here.
WITHOUT = ("label_smoothing", "boundary_size", "activation", "inplace_backward")


@dataclass(frozen=True)
class HingeOptions(TargetOptions):
    """The options of the Lovász hinge, on top of `TargetOptions`.

    Attributes:
        per_image: a loss of each image, and the mean over the images in which a pixel counts; else
            one loss of the pixels of all images.
    """

    per_image: bool = False

    def __post_init__(self):
        super().__post_init__()
        self._check("per_image", option_checks.boolean)


@dataclass(frozen=True)
class SoftmaxOptions(HingeOptions):
    """The options of the Lovász-Softmax loss, on top of `HingeOptions`.

    Attributes:
        classes: which classes the mean is over: "present", those of the labels of the image or the
            batch; "all"; or a list of indices, or a bool tensor (C,), that names them, present or
            not. The loss of a class that has no label is the largest probability that it is given.
    """

    classes: str | Sequence[int] | Tensor = "present"

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.classes, str):
            option_checks.check_choice("classes", self.classes, CLASSES)
        elif self.classes is None:
            option_checks.check_choice("classes", None, CLASSES)
        else:
            self._check("classes", option_checks.classes)
        if isinstance(self.classes, Tensor):
            # Looked at once, and not in a call, where a GPU would be waited for.
            self._check("classes", _Flags)

    def classes_of(self, num_classes: int) -> list[int]:
        """Those that may count."""
        if isinstance(self.classes, str):
            return list(range(num_classes))
        if isinstance(self.classes, _Flags):
            return self.classes.indices(num_classes)
        if max(self.classes) >= num_classes:
            raise ValueError(
                f"classes={self.classes!r}: expected indices below {num_classes}, the classes of "
                "logits"
            )
        return sorted(self.classes)


class _Flags(tuple):
    """A bool for each class, of a tensor."""

    def __new__(cls, name: str, tensor: Tensor) -> _Flags:
        return super().__new__(cls, tensor.tolist())

    def indices(self, num_classes: int) -> list[int]:
        if len(self) != num_classes:
            raise ValueError(
                f"classes has shape ({len(self)},): expected ({num_classes},), one for each class "
                "of logits"
            )
        return [c for c, is_named in enumerate(self) if is_named]
