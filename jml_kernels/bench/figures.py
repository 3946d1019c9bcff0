"""From the seconds of every turn to a row of the results. Nothing here measures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict

from .cases import METRICS, BenchmarkCase
from .timing import BACKWARD, FORWARD, STEP, Turns, ratio, spread

#: Copies logits into a tensor that exists.
COPY = "copy"


def bytes_of(case: BenchmarkCase) -> dict[str, int]:
    """What each part cannot avoid to read or write, labels not counted; "labels": what forward and
    backward each read of them besides; "inputs": what is there before."""
    return {
        "logits": case.bytes,
        FORWARD: case.forward_traffic,
        BACKWARD: case.backward_traffic,
        STEP: case.traffic,
        "labels": case.label_bytes,
        "inputs": case.input_bytes,
    }


def whole(row: dict) -> str:
    """What is compared of those in a row: a step, or of metrics, which have no backward, the
    forward."""
    return FORWARD if row["case"]["objective"] == METRICS else STEP


def bandwidth(case: BenchmarkCase, copies: list[float]) -> float:
    """Bytes read and written in a second, by copying such logits into a tensor that exists."""
    return 2 * case.bytes / statistics.median(copies)


def share(
    case: BenchmarkCase, part: str, seconds: float, speed: float, with_labels: bool = False
) -> float:
    """The share of a bandwidth that was reached: the time that the bytes of `bytes_of` take at that
    speed, over the time that was measured."""
    counted = bytes_of(case)
    labels = counted["labels"] * (2 if part == STEP else 1) * with_labels
    return (counted[part] + labels) / speed / seconds


def of_competitor(
    case: BenchmarkCase, turns: Turns, subject: Turns, copies: list[float], peak: int | None
) -> dict[str, object]:
    """One competitor's line of a row."""
    counted, speed = bytes_of(case), bandwidth(case, copies)
    line: dict[str, object] = {}
    for part, seconds in turns.items():
        median = statistics.median(seconds)
        line[part] = {
            "seconds": asdict(spread(seconds)),
            "times": asdict(ratio(seconds, subject[part])) if part in subject else None,
            "bytes per second": counted[part] / median,
            "share": share(case, part, median, speed),
            "share, labels counted": share(case, part, median, speed, with_labels=True),
        }
    line["peak bytes"] = peak
    line["peak / logits"] = None if peak is None else peak / case.bytes
    return line


def row(
    case: BenchmarkCase,
    device: str,
    turns: Mapping[str, Turns],
    peaks: Mapping[str, int],
    errors: Mapping[str, Mapping[str, float]],
    wrong: Mapping[str, str],
    left_out: Mapping[str, str],
) -> dict[str, object]:
    """A case of the results, ready for JSON.

    Args:
        turns: of all who ran, and of `COPY`. The first is what others are compared with.
        peaks: extra bytes at the worst moment of a step, the gradient included.
        errors: against the oracle, by "loss" and "gradient", of who computes our loss; of others
            the distance from it, which is no error.
        wrong: why what is wrong is.
        left_out: why who did not run did not.

    Returns:
        "figures": by competitor and part "seconds" and "times" (of the first's) with quartiles,
        "bytes per second" of those that cannot be avoided, and their "share" of the bandwidth that
        a copy reaches, "peak bytes" and "peak / logits"; "over floor" of the first; and what they
        come from.
    """
    turns = dict(turns)
    copies = turns.pop(COPY)[FORWARD]
    subject = next(iter(turns), None)
    has_step = subject is not None and STEP in turns[subject]
    return {
        "name": case.name,
        "case": asdict(case) | {"size": case.size, "form": case.form, "kind": case.kind},
        "device": device,
        "subject": subject,
        "bytes": bytes_of(case),
        "copy bytes per second": bandwidth(case, copies),
        "over floor": over_floor(case, turns[subject][STEP], copies) if has_step else None,
        "figures": {
            name: of_competitor(case, parts, turns[subject], copies, peaks.get(name))
            for name, parts in turns.items()
        },
        "errors": {name: _numbers(of) for name, of in errors.items()},
        "wrong": dict(wrong),
        "left out": dict(left_out),
        "turns": turns | {COPY: {FORWARD: copies}},
    }


def _numbers(of: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN: None in its place."""
    return {what: error if math.isfinite(error) else None for what, error in of.items()}


def compare(row: dict, one: str, other: str) -> dict[str, dict[str, float]] | None:
    """Part by part, the time of one as a multiple of the other's; None where either did not run."""
    turns = row["turns"]
    if one not in turns or other not in turns:
        return None
    return {
        part: asdict(ratio(turns[one][part], turns[other][part]))
        for part in turns[one]
        if part in turns[other]
    }


def over_floor(case: BenchmarkCase, steps: list[float], copies: list[float]) -> dict[str, float]:
    """A step as a multiple of the floor: the time in which this machine copies as many bytes as
    cannot be avoided."""
    per_copy = case.traffic / (2 * case.bytes)
    return asdict(ratio(steps, [per_copy * copy for copy in copies]))
