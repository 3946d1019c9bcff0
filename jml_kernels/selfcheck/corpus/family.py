"""Every loss of the package against every kind of target: all but distillation, which has a list of
its own."""

from __future__ import annotations

from .case import BLS, NONE, SIGMOID, LossCase
from .losses import FAMILY

_LOSSES = tuple(loss for loss in FAMILY if loss != "distillation")
_WITHOUT_JDT = tuple(loss for loss in _LOSSES if loss != "JDT")
#: Losses that are no other one with other options.
_DISTINCT = ("JML1", "JML2", "soft Jaccard L1", "soft Jaccard L2", "cross-entropy")

EVERY_LOSS = [
    *[
        LossCase(f"{loss}, labels", "every loss takes labels", loss=loss, drawn="blocks",
                 ignored=0.1 if loss != "JDT" else 0.0, checked=True,
                 quick=loss in ("JML1", "JDT"), interpreted=loss in ("JML1", "statistics"))
        for loss in _LOSSES
    ],
    *[
        LossCase(f"{loss}, soft", "terms differ against probabilities", loss=loss,
                 target="soft", masked=0.2, checked=True,
                 quick=loss in (*_DISTINCT, "statistics"),
                 interpreted=loss not in ("soft Jaccard L1", "cross-entropy", "JDT"))
        for loss in _LOSSES
    ],
    *[
        LossCase(f"{loss}, boundary", "terms differ against smoothed labels", loss=loss,
                 drawn="blocks", options=BLS, checked=True,
                 quick=loss in ("JML1", "cross-entropy", "statistics"),
                 interpreted=loss in (*_DISTINCT[:-1], "statistics"))
        for loss in _WITHOUT_JDT
    ],
    *[
        LossCase(f"{loss}, multi-label", "classes may be independent", loss=loss, target="bits",
                 options=SIGMOID, ignored=0.1, checked=True, interpreted=False)
        for loss in _WITHOUT_JDT
    ],
    *[
        LossCase(f"{loss}, none", "probabilities may be given as they are", loss=loss,
                 target="soft", options=NONE, checked=True, interpreted=False)
        for loss in _WITHOUT_JDT
    ],
]  # fmt: skip
