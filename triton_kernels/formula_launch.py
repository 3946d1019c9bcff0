"""From statistics and options to the launch of the formula's kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import ACTIVE_MODES, REDUCTIONS, result_dtype
from ..formulas import is_clamped
from ..objective import ACTIVE_COLUMNS
from ..statistics import EXTREMA, column_bits
from .formula import ALL_ACTIVE, formula_kernel
from .inputs import FormulaInputs, Inputs
from .launch import Launch, Statistics
from .tiles import power_of_two

_BLOCK = 1024  # numbers that the program holds of each column


def formula_launch(
    inputs: Inputs, formula: FormulaInputs, statistics: Statistics
) -> tuple[Launch, tuple[Tensor, Tensor, Tensor]]:
    """The kernel, and the (loss, grad_sums, grad_totals) that it fills; of a loss for each image
    its terms, see `formula_kernel`."""
    logits = inputs.logits
    sums, extrema, totals = statistics
    images, classes = logits.shape[:2]
    class_weights, class_mask, ints, floats, overlap = formula
    of_images = REDUCTIONS[ints.reduction] == "image"
    if of_images:
        terms = (2 * len(sums), images)
        loss = torch.zeros(terms, dtype=torch.float64, device=logits.device)
    else:
        loss = torch.empty((), dtype=result_dtype(logits), device=logits.device)
    outputs = (loss, torch.empty_like(sums), torch.empty_like(totals))
    has_labels, has_dense = inputs.labels is not None, inputs.dense is not None

    def of_targets(of_labels, of_dense) -> tuple:
        return (of_labels,) * has_labels + (of_dense,) * has_dense

    smooth = (floats.smooth_numerator, floats.smooth_denominator)
    block_c = power_of_two(classes)
    arguments = {
        "loss": loss,
        "grad_sums": outputs[1],
        "grad_totals": outputs[2],
        "sums": sums,
        "extrema": extrema,
        "totals": totals,
        "class_weights": None if class_weights is None else class_weights.contiguous(),
        "class_mask": None if class_mask is None else class_mask.contiguous().view(torch.uint8),
        "images": images,
        **floats._asdict(),
        "OVERLAP": overlap,
        "LOG_LOSS": bool(ints.log_loss),
        "CLAMPED": is_clamped(floats.alpha, floats.beta, smooth, floats.gamma),
        "POWER": floats.gamma != 1,
        "OF_IMAGES": floats.image > 0 or floats.per_class > 0,
        "HAS_INACTIVE_LOSS": bool(ints.has_inactive_loss),
        "WEIGHTED_MEAN": bool(ints.weighted_mean),
        "SUM": REDUCTIONS[ints.reduction] == "sum",
        "LOSS_OF_IMAGES": of_images,
        "HAS_LABELS": has_labels,
        "HAS_CE": of_targets(floats.label_ce_weight > 0, floats.dense_ce_weight > 0),
        "HAS_OVERLAP": of_targets(floats.label_overlap_weight > 0, floats.dense_overlap_weight > 0),
        "IS_DIVERGENCE": of_targets(False, bool(ints.is_divergence)),
        "EXTREMUM": of_targets(_extremum(ints.label_active), _extremum(ints.dense_active)),
        "TARGETS": len(sums),
        "CLASSES": classes,
        "BLOCK_N": max(min(power_of_two(images), _BLOCK // block_c), 1),
        "BLOCK_C": block_c,
        "num_warps": 4,
    }
    return Launch(formula_kernel, 1, arguments), outputs


def _extremum(mode: int) -> int:
    """The index of the extremum that a mode of choosing active classes looks at."""
    needed = ACTIVE_COLUMNS[ACTIVE_MODES[mode]]
    indices = (i for i, name in enumerate(EXTREMA) if needed & column_bits(name))
    return next(indices, ALL_ACTIVE.value)
