"""The launcher of the operator that finishes a loss: three kernels; the backward is the fourth."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks
from ..checks import result_dtype
from ..formulas import OVERLAPS
from .arguments import Formula, Rule, check_formula
from .formula import formula_kernel
from .statistics import Launch, on_device, statistics
from .tiles import power_of_two

_BLOCK = 1024  # numbers that the program holds of each column


def loss(logits: Tensor, *arguments) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, grad_sums, grad_totals): `formulas.objective_loss` on the statistics, 0-dim, and its
    gradients by them. The last argument, inplace_backward, is autograd's."""
    rule = Rule(*arguments[: len(Rule._fields)])
    formula = Formula(*arguments[len(rule) : len(rule) + len(Formula._fields)])
    check_formula(logits, formula)
    sums, extrema, totals = statistics(logits, *rule)
    launch, outputs = formula_launch(logits, rule, formula, sums, extrema, totals)
    with on_device(logits):
        launch.run()
    return outputs


def formula_launch(
    logits: Tensor, rule: Rule, formula: Formula, sums: Tensor, extrema: Tensor, totals: Tensor
) -> tuple[Launch, tuple[Tensor, Tensor, Tensor]]:
    """The kernel of the formula, and what it fills."""
    images, classes = logits.shape[:2]
    value = torch.empty((), dtype=result_dtype(logits), device=logits.device)
    outputs = (value, torch.empty_like(sums), torch.empty_like(totals))
    has_labels, has_dense = rule.labels is not None, rule.dense is not None

    def of_targets(of_labels, of_dense) -> tuple:
        return (of_labels,) * has_labels + (of_dense,) * has_dense

    weights = formula.class_weights
    block_c = power_of_two(classes)
    arguments = {
        "loss": value,
        "grad_sums": outputs[1],
        "grad_totals": outputs[2],
        "sums": sums,
        "extrema": extrema,
        "totals": totals,
        "class_weights": None if weights is None else weights.contiguous(),
        "images": images,
        "alpha": formula.alpha,
        "beta": formula.beta,
        "gamma": formula.gamma,
        "smooth": formula.smooth,
        "dataset": formula.dataset,
        "image": formula.image,
        "per_class": formula.per_class,
        "threshold": formula.active_threshold,
        "label_ce": formula.label_ce,
        "dense_ce": formula.dense_ce,
        "label_overlap": formula.label_overlap,
        "dense_overlap": formula.dense_overlap,
        "OVERLAP": list(OVERLAPS).index(formula.overlap),
        "LOG_LOSS": formula.log_loss,
        "CLAMPED": formula.alpha == formula.beta or formula.gamma != 1,
        "POWER": formula.gamma != 1,
        "OF_IMAGES": formula.image > 0 or formula.per_class > 0,
        "HAS_LABELS": has_labels,
        "HAS_CE": of_targets(formula.label_ce > 0, formula.dense_ce > 0),
        "HAS_OVERLAP": of_targets(formula.label_overlap > 0, formula.dense_overlap > 0),
        "DIVERGENCE": of_targets(False, formula.divergence),
        "ACTIVE": of_targets(
            checks.ACTIVE_CLASSES.index(formula.label_active),
            checks.ACTIVE_CLASSES.index(formula.dense_active),
        ),
        "TARGETS": len(sums),
        "CLASSES": classes,
        "BLOCK_N": max(min(power_of_two(images), _BLOCK // block_c), 1),
        "BLOCK_C": block_c,
        "num_warps": 4,
    }
    return Launch(formula_kernel, 1, arguments), outputs
