"""Jaccard Metric Losses and their family, fused: straight from logits, in one pass."""

import importlib
from types import ModuleType

from . import functional
from .accumulation import accumulate
from .backend import backends
from .functional import active_classes, class_statistics
from .jdt import JDTLoss
from .lovasz.modules import LovaszHingeLoss, LovaszSoftmaxLoss
from .modules import (
    DiceSemimetricLoss,
    JaccardCrossEntropyLoss,
    JaccardDistillationLoss,
    JaccardMetricLoss,
    SoftDiceLoss,
    SoftJaccardLoss,
    TverskyMetricLoss,
)
from .statistics import ClassStatistics
from .supervision import DeepSupervision
from .targets import boundary_mask, smooth_labels

__version__ = "0.1.0"

__all__ = [
    "ClassStatistics",
    "DeepSupervision",
    "DiceSemimetricLoss",
    "JDTLoss",
    "JaccardCrossEntropyLoss",
    "JaccardDistillationLoss",
    "JaccardMetricLoss",
    "LovaszHingeLoss",
    "LovaszSoftmaxLoss",
    "SoftDiceLoss",
    "SoftJaccardLoss",
    "TverskyMetricLoss",
    "accumulate",
    "active_classes",
    "backends",
    "boundary_mask",
    "class_statistics",
    "functional",
    "smooth_labels",
]


def __getattr__(name: str) -> ModuleType:
    """`metrics` is imported when it is asked for: it needs torchmetrics."""
    if name == "metrics":
        return importlib.import_module(f"{__name__}.metrics")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
