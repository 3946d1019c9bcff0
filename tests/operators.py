"""Arguments of the operators, for tests that call them past every check in Python."""

from __future__ import annotations

import torch
from torch import Tensor

from jml_kernels import checks
from jml_kernels.options import TargetOptions
from jml_kernels.overlaps import OVERLAPS
from jml_kernels.packing import FormulaFloats, FormulaInts, TargetFloats, TargetInts
from jml_kernels.selfcheck.corpus.case import LossCase
from jml_kernels.selfcheck.corpus.drawing import class_weights, shared
from jml_kernels.statistics import ALL_COLUMNS, SUMS, TOTALS

TARGET = TargetInts(ALL_COLUMNS, ALL_COLUMNS, 0, 0, -100, 0, 0)._asdict() | (
    TargetFloats(label_smoothing=0.0, teacher_temperature=0.0, student_temperature=1.0)._asdict()
)
FORMULA = {
    "log_loss": 0,
    "label_active": "label",
    "dense_active": "both",
    "is_divergence": 1,
    "has_inactive_loss": 0,
    "weighted_mean": 0,
    "reduction": 0,
    "alpha": 0.7,
    "beta": 0.4,
    "gamma": 1.5,
    "smooth_numerator": 0.1,
    "smooth_denominator": 0.1,
    "index_floor": 1e-7,
    "inactive_loss": 0.0,
    "dataset": 0.5,
    "image": 0.3,
    "per_class": 0.2,
    "active_threshold": 0.01,
    "label_ce_weight": 0.2,
    "dense_ce_weight": 0.3,
    "label_overlap_weight": 0.4,
    "dense_overlap_weight": 0.1,
}


def _indices(options: dict[str, object], choices: tuple[str, ...]) -> dict[str, object]:
    """Words that are one of `choices` as the numbers that they travel as."""
    return {k: choices.index(v) if isinstance(v, str) else v for k, v in options.items()}


def _lists(kinds: tuple[type, type], options: dict[str, object]) -> tuple[tuple, tuple]:
    """The integers and the floating numbers of options by their names."""
    ints, floats = ({name: options[name] for name in kind._fields} for kind in kinds)
    assert set(options) == set(ints) | set(floats)
    return tuple(map(int, ints.values())), tuple(map(float, floats.values()))


def operator_arguments(
    logits: Tensor,
    labels: Tensor | None = None,
    dense: Tensor | None = None,
    mask: Tensor | None = None,
    ce_class_weights: Tensor | None = None,
    **options,
) -> dict[str, object]:
    """By name, in the schema's order: every column, no smoothing, no teacher.

    Args:
        options: names of `packing.TargetInts` and `TargetFloats`; the activation may be a word.
    """
    options = _indices({**TARGET, **options}, checks.ACTIVATIONS)
    ints, floats = _lists((TargetInts, TargetFloats), options)
    return {
        "logits": logits,
        "labels": labels,
        "dense": dense,
        "mask": mask,
        "ce_class_weights": ce_class_weights,
        "target_ints": ints,
        "target_floats": floats,
    }


def formula_arguments(
    class_weights: Tensor | None = None,
    class_mask: Tensor | None = None,
    overlap: str = "metric1",
    **options,
) -> dict[str, object]:
    """Those of a loss beyond the statistics', by name: every part of the formula.

    Args:
        options: names of `packing.FormulaInts` and `FormulaFloats`; active classes may be words.
    """
    options = _indices({**FORMULA, **options}, checks.ACTIVE_MODES)
    ints, floats = _lists((FormulaInts, FormulaFloats), options)
    return {
        "class_weights": class_weights,
        "class_mask": class_mask,
        "formula_ints": ints,
        "formula_floats": floats,
        "overlap": tuple(float(number) for row in OVERLAPS[overlap] for number in row),
    }


def arguments_of(case: LossCase, device: str, **changed) -> dict[str, object]:
    """Those of a case: the target is labels or dense, and with a teacher there may be both.

    Args:
        changed: options of `operator_arguments`.
    """
    logits, target, teacher, mask = shared(case, device)
    options = TargetOptions(**case.target_options)
    is_dense = target is not None and (target.is_floating_point() or case.target == "bits")
    of_teacher = {}
    if teacher is not None:
        weights = class_weights(case).get("ce_class_weights")
        of_teacher = {
            "ce_class_weights": None if weights is None else weights.to(device),
            "teacher_temperature": float(case.options.get("temperature", 1.0)),
            "student_temperature": float(case.options.get("student_temperature", 1.0)),
        }
    of_target = {
        "activation": options.activation,
        "label_smoothing": options.label_smoothing,
        "boundary_size": options.boundary_size or 0,
        "ignore_index": options.ignore_index,
        "upsample": int(options.upsample is not None),
        "align_corners": int(options.align_corners),
    }
    return operator_arguments(
        logits.detach(),
        None if is_dense else target,
        target if is_dense else teacher,
        mask,
        **{**of_target, **of_teacher, **changed},
    )


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
