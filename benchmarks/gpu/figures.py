"""Which of the kernels for GPUs are ahead. Pure: nothing here needs a GPU."""

from __future__ import annotations

from jml_kernels.bench.figures import compare
from jml_kernels.bench.timing import BACKWARD, FORWARD, STEP

from ..sass.document import predicted
from .cases import BACKENDS, CUDA, TRITON


def compared(row: dict) -> dict[str, object]:
    """A row of `jml_kernels.bench.figures`, with the times of CUDA's kernels as multiples of
    Triton's, part by part, and who is ahead; None where one of them did not run."""
    times = compare(row, CUDA, TRITON)
    ahead = times and {part: TRITON if of["median"] > 1 else CUDA for part, of in times.items()}
    return row | {"cuda / triton": times, "ahead": ahead}


def triton_ahead(rows: list[dict]) -> list[dict]:
    """The rows where a step of Triton's takes less time than one of CUDA's."""
    return [
        {
            "name": row["name"],
            "cuda / triton": {part: of["median"] for part, of in row["cuda / triton"].items()},
        }
        for row in rows
        if row["ahead"] and row["ahead"][STEP] == TRITON
    ]


def with_prediction(row: dict, device: str) -> dict[str, object]:
    """A row with the shares that the model of the machine code predicts for the CUDA kernels on
    that GPU (benchmarks/sass); None where it has no such row."""
    return row | {"predicted": predicted(device).get(row["name"])}


def line(row: dict) -> str:
    """A row for the eyes."""
    parts = []
    for name, of in row["figures"].items():
        seconds = (1e3 * of[part]["seconds"]["median"] for part in (FORWARD, BACKWARD))
        text = f"{name} {' + '.join(f'{ms:.3f}' for ms in seconds)} ms"
        if name not in BACKENDS:
            text += f" ({of[STEP]['times']['median']:.1f} times {row['subject']})"
        else:
            text += f" ({of[FORWARD]['share']:.0%}, {of[BACKWARD]['share']:.0%})"
        if name == CUDA and row.get("predicted"):
            shares = row["predicted"]
            text += f" predicted ({shares[FORWARD]:.0%}, {shares[BACKWARD]:.0%})"
        parts.append(text)
    if row["ahead"]:
        parts.append(f"ahead {row['ahead'][STEP]}")
    parts += [f"{name} WRONG: {why}" for name, why in row["wrong"].items()]
    parts += [f"{name} failed: {why}" for name, why in row["left out"].items()]
    return f"{row['name']}: {', '.join(parts)}"
