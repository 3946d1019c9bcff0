"""One case: check, time, weigh."""

from __future__ import annotations

from dataclasses import asdict

import torch

import jml_kernels as jml
from jml_kernels.memory import peak_memory

from . import accuracy
from .cases import Case, build
from .competitors import (
    COMPETITORS,
    COMPILED,
    FLOOR,
    FUSED,
    IN_PLACE,
    LABELS_ONLY,
    SAME_LOSS,
    NotAvailableError,
)
from .goals import Goal, goals, memory_goal
from .timing import Step, interleave, ratio

MEMORY = "peak memory"


def _prepared(case: Case, names: tuple[str, ...]) -> tuple[dict[str, Step], dict, dict]:
    """Steps of the competitors that run and are right, their errors, and why others are left out.

    Raises:
        ArithmeticError: for a loss or gradient that is wrong.
    """
    logits, *targets = build(case)
    logits.requires_grad_()
    expected = accuracy.oracle(case, logits, *targets)
    counted = accuracy.untied(case, logits, *targets)
    steps, errors, left_out = {}, {}, {}
    for name in names:
        if name in LABELS_ONLY and case.target == "soft":
            continue
        try:
            step = _step(name, case, logits, *targets)
            found = step.run()
        except NotAvailableError as error:
            left_out[name] = str(error)
            continue
        if name in SAME_LOSS:
            errors[name] = accuracy.errors(found, expected, counted)
            accuracy.check(f"{case.name}, {name}", errors[name], _allowed(name, case))
        steps[name] = step
    copy, source = torch.empty_like(logits), logits.detach()
    steps[FLOOR] = Step(lambda: copy.copy_(source))
    return steps, errors, left_out


def _allowed(name: str, case: Case) -> tuple[float, float]:
    if name in (FUSED, IN_PLACE):
        return accuracy.LOSS_TOLERANCE[case.dtype], accuracy.GRADIENT_TOLERANCE[case.dtype]
    return accuracy.NAIVE_LOSS_TOLERANCE, accuracy.NAIVE_GRADIENT_TOLERANCE


def _step(name: str, case: Case, logits: torch.Tensor, *targets: torch.Tensor) -> Step:
    loss = COMPETITORS[name](case)
    if name == IN_PLACE:
        source, logits = logits.detach(), logits.detach().clone().requires_grad_()

        @torch.no_grad()
        def restore():
            logits.copy_(source)

        return Step(lambda: accuracy.answer(loss, logits, *targets), restore)
    if name == COMPILED:
        try:
            accuracy.answer(loss, logits, *targets)
        except Exception as error:  # of a compiler that is not there, or one of many others
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise NotAvailableError(reason[0]) from error
    return Step(lambda: accuracy.answer(loss, logits, *targets))


def measure(
    case: Case, names: tuple[str, ...], allocator: str, rounds: int, judged: bool
) -> dict[str, object]:
    """Everything about one case, ready for JSON.

    Returns:
        "rows", each a line of the table: "name", "ratio" with "low" and "high", "goal", "met",
        "peak" in units of the logits' bytes, "note"; None where there is no such thing. And what
        they come from: "case", "allocator", "seconds" of every turn, "errors".
    """
    steps, errors, left_out = _prepared(case, names)
    seconds = interleave(steps, rounds)
    peaks = {}
    for name in steps:
        if name != FLOOR:
            steps[name].prepare()
            peaks[name] = peak_memory(steps[name].run) / case.bytes

    reach = goals(case, allocator) if judged else {}
    rows = [_memory_row(case, peaks[FUSED], judged)]
    # A copy reads and writes every byte of the logits once.
    per_copy = case.traffic / (2 * case.bytes)
    floor = [per_copy * turn for turn in seconds[FLOOR]]
    rows.append(_row(FLOOR, ratio(seconds[FUSED], floor), reach.get(FLOOR)))
    for name in names:
        if name == FUSED:
            continue
        if name in left_out:
            rows.append(_row(name, note=left_out[name]))
        elif name in steps:
            times = ratio(seconds[name], seconds[FUSED])
            rows.append(_row(name, times, reach.get(name), peaks[name]))
    return {
        "name": case.name,
        "case": asdict(case) | {"size": case.size, "form": case.form, "kind": case.kind},
        "allocator": allocator,
        "rows": rows,
        "share of boundary pixels": _boundary_share(case),
        "errors": {n: {"loss": e[0], "gradient": e[1]} for n, e in errors.items()},
        "seconds": seconds,
    }


def _row(name, times=None, goal: Goal | None = None, peak=None, note="") -> dict[str, object]:
    return {
        "name": name,
        "ratio": times and times.median,
        "low": times and times.low,
        "high": times and times.high,
        "goal": goal and str(goal),
        "met": goal.met(times.median) if goal and times else None,
        "peak": peak,
        "note": note,
    }


def _memory_row(case: Case, peak: float, judged: bool) -> dict[str, object]:
    goal = memory_goal(case) if judged else None
    return _row(MEMORY, peak=peak) | {
        "goal": goal and f"≤ {goal.limit:.2f}",
        "met": goal.met(peak) if goal else None,
    }


def _boundary_share(case: Case) -> float | None:
    if case.target == "soft":
        return None
    _, labels, *_ = build(case)
    return jml.boundary_mask(labels, 3).float().mean().item()
