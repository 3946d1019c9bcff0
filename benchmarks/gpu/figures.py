"""From the seconds of every turn to a row of the results. Pure: nothing here needs a GPU."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict

from ..cases import Case
from ..timing import ratio
from .cases import BACKENDS, CUDA, NAIVE, TRITON

FORWARD, BACKWARD, STEP = "forward", "backward", "step"
PARTS = (FORWARD, BACKWARD, STEP)

#: Seconds of every round by competitor and part.
Turns = dict[str, dict[str, list[float]]]


def with_backward(turns: Turns) -> Turns:
    """The backward of who is timed by forward and step alone is their difference: the graph of a
    compiled function cannot be kept for a second backward."""
    found = {}
    for name, parts in turns.items():
        difference = [s - f for s, f in zip(parts[STEP], parts[FORWARD], strict=True)]
        found[name] = {BACKWARD: difference, **parts}
    return found


def bytes_of(case: Case) -> dict[str, int]:
    """What each part cannot avoid to read or write, labels not counted; "labels": what forward and
    backward each read of them besides."""
    return {
        "logits": case.bytes,
        FORWARD: case.forward_traffic,
        BACKWARD: case.backward_traffic,
        STEP: case.traffic,
        "labels": case.label_bytes,
    }


def bandwidth(case: Case, copies: list[float]) -> float:
    """Bytes read and written in a second, by copying such logits into a tensor that exists."""
    return 2 * case.bytes / statistics.median(copies)


def shares(
    case: Case, copies: list[float], turns: Turns, with_labels: bool = False
) -> dict[str, dict[str, float]]:
    """Which share of the copy's bandwidth each backend reaches, part by part: the time that the
    bytes of `bytes_of` take at that bandwidth, over the time it took."""
    counted, speed = bytes_of(case), bandwidth(case, copies)
    reads = {FORWARD: 1, BACKWARD: 1, STEP: 2}  # of the labels
    found = {}
    for name in _backends(turns):
        found[name] = {}
        for part in PARTS:
            size = counted[part] + with_labels * reads[part] * counted["labels"]
            found[name][part] = size / speed / statistics.median(turns[name][part])
    return found


def ratios(turns: Turns) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """others -> backend -> part -> time of the other as a multiple of the backend's."""
    return {
        other: {name: _ratios(turns[other], turns[name]) for name in _backends(turns)}
        for other in NAIVE
        if other in turns
    }


def _ratios(one: Mapping[str, list[float]], other: Mapping[str, list[float]]) -> dict:
    return {part: asdict(ratio(one[part], other[part])) for part in PARTS}


def _backends(turns: Turns) -> list[str]:
    return [name for name in turns if name not in NAIVE]


def cuda_over_triton(turns: Turns) -> dict[str, dict[str, float]] | None:
    """Part by part, above 1 where Triton is ahead; None where one of them did not run."""
    if not set(BACKENDS) <= turns.keys():
        return None
    return _ratios(turns[CUDA], turns[TRITON])


def ahead(compared: dict[str, dict[str, float]] | None) -> dict[str, str] | None:
    """Which backend is ahead, part by part."""
    if compared is None:
        return None
    return {part: TRITON if r["median"] > 1 else CUDA for part, r in compared.items()}


def row(
    case: Case,
    turns: Turns,
    copies: list[float],
    peaks: dict[str, int],
    errors: dict[str, dict[str, float]],
    wrong: dict[str, str],
    failed: dict[str, str],
) -> dict[str, object]:
    """A case of the results, ready for JSON.

    Args:
        turns: of who ran; backends with all parts, others with forward and step.
        peaks: extra bytes at the worst moment of a step, the gradient included.
        errors, wrong: of the backends that were checked; why what is wrong is.
        failed: why who did not run did not.
    """
    turns = with_backward(turns)
    compared = cuda_over_triton(turns)
    return {
        "name": case.name,
        "case": asdict(case) | {"size": case.size, "form": case.form, "kind": case.kind},
        "bytes": bytes_of(case),
        "copy bytes per second": bandwidth(case, copies),
        "seconds": {
            name: {part: statistics.median(parts[part]) for part in PARTS}
            for name, parts in turns.items()
        },
        "share of copy bandwidth": shares(case, copies, turns),
        "share, labels counted": shares(case, copies, turns, with_labels=True),
        "times of": ratios(turns),
        "cuda / triton": compared,
        "ahead": ahead(compared),
        "peak bytes": peaks,
        "peak / logits": {name: peak / case.bytes for name, peak in peaks.items()},
        "errors": errors,
        "wrong": wrong,
        "failed": failed,
        "turns": {name: dict(parts) for name, parts in turns.items()} | {"copy": copies},
    }


def triton_ahead(rows: list[dict]) -> list[dict]:
    """The rows where a step of Triton's takes less time than one of CUDA's."""
    return [
        {
            "name": r["name"],
            "cuda / triton": {p: c["median"] for p, c in r["cuda / triton"].items()},
        }
        for r in rows
        if r["ahead"] and r["ahead"][STEP] == TRITON
    ]


def line(found: dict) -> str:
    """A row for the eyes."""
    parts = []
    for name, seconds in found["seconds"].items():
        text = f"{name} {1e3 * seconds[FORWARD]:.3f} + {1e3 * seconds[BACKWARD]:.3f} ms"
        share = found["share of copy bandwidth"].get(name)
        if share:
            text += f" ({share[FORWARD]:.0%}, {share[BACKWARD]:.0%})"
        parts.append(text)
    for other, by_backend in found["times of"].items():
        for name, ratio_of in by_backend.items():
            parts.append(f"{other} / {name} {ratio_of[STEP]['median']:.1f}")
    if found["ahead"]:
        parts.append(f"ahead {found['ahead'][STEP]}")
    parts += [f"{name} WRONG: {why}" for name, why in found["wrong"].items()]
    parts += [f"{name} failed: {why}" for name, why in found["failed"].items()]
    return f"{found['name']}: {', '.join(parts)}"
