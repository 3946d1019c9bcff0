"""Arguments of the operators, for tests that call them past every check in Python."""

from __future__ import annotations

import torch
from cases import Case
from inputs import build
from objective_cases import ObjectiveCase, build_teacher, class_weights
from torch import Tensor

from jml_kernels.functional import TargetOptions
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


def arguments_of(case: Case, device: str) -> dict[str, object]:
    """Those of a case, whose target is labels or dense."""
    logits, target, mask = build(case, device)
    options = TargetOptions(**case.target_options)
    dense = target.is_floating_point() or case.target == "bits"
    return operator_arguments(
        logits.detach(),
        None if dense else target,
        target if dense else None,
        mask,
        activation=options.activation,
        label_smoothing=options.label_smoothing,
        boundary_size=options.boundary_size or 0,
        ignore_index=options.ignore_index,
    )


def arguments_of_objective(case: ObjectiveCase, device: str) -> dict[str, object]:
    """Those of a case with a teacher: both targets."""
    teacher = {
        "teacher_temperature": float(case.objective.get("temperature", 1.0)),
        "student_temperature": float(case.objective.get("student_temperature", 1.0)),
        "dense": build_teacher(case, device),
        "ce_class_weights": class_weights(case, "ce_class_weights"),
    }
    if case.unlabeled:
        teacher["labels"] = None
    if teacher["ce_class_weights"] is not None:
        teacher["ce_class_weights"] = teacher["ce_class_weights"].to(device)
    return {**arguments_of(case, device), **teacher}


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
