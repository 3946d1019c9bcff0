"""The tables of docs/scale.md, from results/scale.json."""

from __future__ import annotations

from collections.abc import Iterable

from jml_kernels.bench.report import number


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], words: int = 1) -> str:
    """
    Args:
        words: columns at the left that hold words; the others hold numbers.
    """
    heads = list(heads)
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * words}{'--:|' * (len(heads) - words)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


#: Digits of an exponent.
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _small(value: float) -> str:
    """A rounding error, in one digit."""
    if value == 0:
        return "0"
    digit, exponent = f"{value:.0e}".split("e")
    return f"{digit}·10{str(int(exponent)).translate(_RAISED)}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def local_losses(results: dict) -> str:
    rows = results["scale"]["local losses"]
    batches = [key for key in rows[0] if key != "loss"]
    heads = ["", *(head for batch in batches for head in (f"{batch}: mean / loss", "gradient"))]
    lines = []
    for row in rows:
        cells = [row["loss"]]
        for batch in batches:
            of = row[batch]
            cells.append(f"{of['mean of local losses'] / of['loss']:.2f}")
            cells.append(_away(of["gradient away"]))
        lines.append(cells)
    return table(heads, lines)


def _away(share: float) -> str:
    return "the same" if share < 1e-12 else f"{100 * share:.0f} % away"


def bits(results: dict) -> str:
    found = results["scale"]
    rows = found["agreement"]
    heads = [
        *("", "aggregation", "numbers", "sums", "loss", "gradient"),
        *("loss, one process", "gradient, one process"),
    ]
    before, lines = None, []
    for row in rows:
        between, other = row["between orders"], row["from one process"]
        lines.append(
            [
                "" if row["objective"] == before else row["objective"],
                row["aggregation"],
                str(row["numbers"]),
                *(_small(between[what]) for what in ("sums", "loss", "gradient")),
                *(_small(other[what]) for what in ("loss", "gradient")),
            ]
        )
        before = row["objective"]
    same = sum(row["losses in float32"] == 1 for row in rows)
    text = (
        f"{found['ranks']} ranks, {rows[0]['orders']} orders "
        f"({rows[0]['orders of gradients']} of them for gradients). The bound for the sums is "
        f"{_small(found['bound'])}. Rounded to float32, the loss has the same bits in every order "
        f"and in one process in {same} of {len(rows)} rows."
    )
    return f"{text}\n\n{table(heads, lines, words=2)}"


def handed(results: dict) -> str:
    rows = results["scale"]["traffic"]
    classes = list(rows[0]["bytes"])
    heads = ["", "aggregation", *(f"{count} classes" for count in classes)]
    before, lines = None, []
    for row in rows:
        name = "" if row["objective"] == before else row["objective"]
        before = row["objective"]
        cells = [f"{sum(row['bytes'][count]['forward']):,}" for count in classes]
        lines.append([name, row["aggregation"], *cells])
    return table(heads, lines, words=2)


def operations(results: dict) -> str:
    counts = ("operations", "operations without a group")
    lines = [
        [row["objective"], row["aggregation"], *(str(row[count]) for count in counts)]
        for row in results["scale"]["traffic"]
        if row["aggregation"] in {"dataset", "image"}
    ]
    return table(["", "aggregation", "with a group", "without"], lines, words=2)


def latency(results: dict) -> str:
    rows = results["scale"]["latency"]
    ranks = list(next(iter(rows.values())))
    heads = ["classes", *(f"{count} GPUs" for count in ranks)]
    lines = [[classes, *(f"{of[r]:.0f} µs" for r in ranks)] for classes, of in rows.items()]
    return table(heads, lines)


def held_out(results: dict) -> str:
    heads = ["GPUs", "nodes", "link, network", "bytes", "published", "model"]
    lines = []
    for part, note in (("measured", ""), ("elsewhere", "another network: ")):
        for row in results["scale"]["held out"][part]:
            lines.append(
                [
                    f"{row['ranks']} {row['gpus']}",
                    str(row["nodes"]),
                    f"{note}{row['link']}, {row['network']}",
                    str(row["bytes"]),
                    f"[{number(row['published'])} µs]({row['source']})",
                    f"{number(row['model'])} µs",
                ]
            )
    return table(heads, lines, words=3)


def shares(results: dict) -> str:
    """Beside steps of training, and beside the loss's own kernels."""
    found = results["scale"]["shares"]
    ranks = list(found["steps"][0]["share"])
    heads = ["", "time", *(f"{count} GPUs" for count in ranks)]
    steps = [
        [row["what"], f"{1e3 * row['seconds']:.0f} ms"]
        + [_percent(row["share"][count]) for count in ranks]
        for row in found["steps"]
    ]
    own = [
        [
            f"{'×'.join(map(str, row['shape']))}, {row['device'].removeprefix('NVIDIA ')}, "  # noqa: RUF001
            f"{row['how']}",
            f"{number(1e6 * row['seconds'])} µs",
        ]
        + [f"{row['beside'][count]:.2f}" for count in ranks]
        for row in found["losses"]
    ]
    return (
        f"Share of a step of training:\n\n{table(heads, steps)}\n\n"
        f"As multiples of the loss's own kernels, forward and backward:\n\n{table(heads, own)}"
    )


def sources(results: dict) -> str:
    return "\n".join(
        f"- {source['who']}, {source['when']}: [{source['what']}]({source['where']})."
        for source in results["scale"]["sources"]
    )


SECTIONS = {
    "scale, local losses": local_losses,
    "scale, bits": bits,
    "scale, bytes": handed,
    "scale, operations": operations,
    "scale, latency": latency,
    "scale, held out": held_out,
    "scale, shares": shares,
    "scale, sources": sources,
}
