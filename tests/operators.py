"""Arguments of the operators, for tests that call them past every check in Python."""

from __future__ import annotations

import torch
from torch import Tensor

from jml_kernels.functional import TargetOptions
from jml_kernels.selfcheck.corpus.case import LossCase
from jml_kernels.selfcheck.corpus.drawing import class_weights, shared
from jml_kernels.statistics import ALL_COLUMNS, SUMS, TOTALS


def operator_arguments(
    logits: Tensor,
    labels: Tensor | None = None,
    dense: Tensor | None = None,
    mask: Tensor | None = None,
    **changed,
) -> dict[str, object]:
    """By name, in the schema's order: every column, no smoothing, no teacher."""
    arguments = {
        "logits": logits,
        "labels": labels,
        "dense": dense,
        "mask": mask,
        "ce_class_weights": None,
        "label_columns": ALL_COLUMNS,
        "dense_columns": ALL_COLUMNS,
        "activation": "softmax",
        "label_smoothing": 0.0,
        "boundary_size": 0,
        "ignore_index": -100,
        "teacher_temperature": None,
        "student_temperature": 1.0,
    }
    assert set(changed) <= set(arguments)
    return {**arguments, **changed}


def formula_arguments(**changed) -> dict[str, object]:
    """Those of a loss beyond the statistics', by name: every part of the formula."""
    arguments = {
        "class_weights": None,
        "overlap": "metric1",
        "alpha": 0.7,
        "beta": 0.4,
        "gamma": 1.5,
        "smooth": 0.1,
        "log_loss": False,
        "dataset": 0.5,
        "image": 0.3,
        "per_class": 0.2,
        "active_threshold": 0.01,
        "label_active": "label",
        "dense_active": "both",
        "label_ce": 0.2,
        "dense_ce": 0.3,
        "label_overlap": 0.4,
        "dense_overlap": 0.1,
        "divergence": True,
    }
    assert set(changed) <= set(arguments)
    return {**arguments, **changed}


def arguments_of(case: LossCase, device: str) -> dict[str, object]:
    """Those of a case: the target is labels or dense, and with a teacher there may be both."""
    logits, target, teacher, mask = shared(case, device)
    options = TargetOptions(**case.target_options)
    is_dense = target is not None and (target.is_floating_point() or case.target == "bits")
    found = operator_arguments(
        logits.detach(),
        None if is_dense else target,
        target if is_dense else None,
        mask,
        activation=options.activation,
        label_smoothing=options.label_smoothing,
        boundary_size=options.boundary_size or 0,
        ignore_index=options.ignore_index,
    )
    if teacher is None:
        return found
    weights = class_weights(case).get("ce_class_weights")
    return found | {
        "teacher_temperature": float(case.options.get("temperature", 1.0)),
        "student_temperature": float(case.options.get("student_temperature", 1.0)),
        "dense": teacher,
        "ce_class_weights": None if weights is None else weights.to(device),
    }


def gradients(arguments: dict[str, object]) -> dict[str, Tensor]:
    """Of sums and totals, as the backward operators take them."""
    targets = sum(arguments[name] is not None for name in ("labels", "dense"))
    logits = arguments["logits"]
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator).to(logits.device)

    return {
        "grad_sums": draw(targets, len(SUMS), *logits.shape[:2]),
        "grad_totals": draw(targets, len(TOTALS), logits.shape[0]),
    }
