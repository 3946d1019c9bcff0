"""Writes the figures of results/*.json into README.md, docs/performance.md and docs/scale.md,
between comments that name a section:

    <!-- figures: jml warm -->
    ...
    <!-- end of figures -->
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from jml_kernels.bench.competitors import COMPILED, CROSS_ENTROPY, EAGER, FULL_SIZE, INTERPOLATED
from jml_kernels.bench.growth import BATCH, LETTERS, RATIO, growths, largest_batch, place
from jml_kernels.bench.peers import PEERS
from jml_kernels.bench.report import number
from jml_kernels.bench.timing import BACKWARD, FORWARD, STEP

from .cpu import JUDGED, RESULTS
from .goals import summary
from .gpu.cases import CUDA, TRITON
from .sass import document
from .sass.measured import shares as measured_shares
from .sass.rows import UPSAMPLED
from .scale.sections import SECTIONS as SCALE
from .suites import CPU, CPU_FULL_SIZE, CPU_IN_PLACE, CPU_INTERPOLATED, NNUNET, SUITES

ROOT = Path(__file__).parents[1]
#: The newest last: its name is that of the GPU alone.
GPU_RESULTS = sorted(RESULTS.parent.glob("gpu-*.json"))
SCALE_RESULTS = RESULTS.with_name("scale.json")
PAGES = (ROOT / "README.md", ROOT / "docs" / "performance.md", ROOT / "docs" / "scale.md")
#: As it stands in a page.
SECTION = re.compile(
    r"(?P<begin><!-- figures: (?P<name>[\w, +]+) -->\n).*?(?P<end><!-- end of figures -->)", re.S
)

_HEADS = {
    CPU_IN_PLACE: "in place",
    CPU_INTERPOLATED: "ours, interpolated before",
    CPU_FULL_SIZE: "ours alone, at full size",
    EAGER: "naive, eager",
    COMPILED: "naive, `torch.compile`",
    CROSS_ENTROPY: "`cross_entropy`",
    NNUNET: "nnU-Net's Dice",
}
#: A column: its head, and its cell of a row.
Column = tuple[str, Callable[[dict], str]]


def table(rows: list[dict], columns: list[Column]) -> str:
    lines = [
        f"| | {' | '.join(head for head, _ in columns)} |",
        f"|---|{'--:|' * len(columns)}",
    ]
    before = None
    for row in rows:
        case = row["case"]
        form = f"{_sizes(case['size'])} {case['form'].removeprefix('float32').strip()}".strip()
        name = case["kind"] if form == before else f"{form}, {case['kind']}"
        before = form
        lines.append(f"| {name} | {' | '.join(cell(row) for _, cell in columns)} |")
    return "\n".join(lines)


def _sizes(size: str) -> str:
    return size.replace("x", "×")  # noqa: RUF001


def over_floor(row: dict) -> str:
    return number(row["over floor"]["median"])


def times(name: str, part: str = STEP) -> Callable[[dict], str]:
    """The time of a competitor, as a multiple of that of our loss."""

    def cell(row: dict) -> str:
        of = row["figures"].get(name, {}).get(part)
        if of is None or name in row["wrong"]:
            return ""
        return f"{number(of['times']['median'])}×"  # noqa: RUF001

    return cell


def memory(name: str) -> Callable[[dict], str]:
    def cell(row: dict) -> str:
        of = row["figures"].get(name)
        return number(of["peak / logits"]) if of else ""

    return cell


def shares(part: str, name: str = CPU) -> Callable[[dict], str]:
    """The speed of our loss, as a share of that of a copy."""
    return lambda row: f"{row['figures'][name][part]['share']:.0%}"


def columns(*names: str) -> list[Column]:
    return [("ours / floor", over_floor), *((_HEADS[name], times(name)) for name in names)]


def rows_of(results: dict, suite: str, allocator: str = "warm", drawn: bool = False) -> list[dict]:
    """Rows without labels that are drawn pixel by pixel, unless these are asked for (`drawn`)."""
    return [
        row
        for row in results[suite]["rows"]
        if row["allocator"] == allocator and (drawn or row["case"]["labels"] == "regions")
    ]


# ---- sections ------------------------------------------------------------------------------------


def machine(results: dict) -> str:
    """The machine of the suite of JML, and of every other that does not say its own."""
    return _measured_on(results["jml"])


def _measured_on(suite: dict) -> str:
    processor, versions = suite["machine"]["processor"], suite["machine"]["versions"]
    return (
        f"Measured on {processor['cores']} cores of an {processor['model']} "
        f"({processor['instruction set of torch']}), {suite['threads']} threads, torch "
        f"{versions['torch']}, medians of {suite['rounds']} rounds."
    )


def costs(results: dict) -> str:
    """The small table of README.md."""
    return table(rows_of(results, "jml"), columns(EAGER, COMPILED, CROSS_ENTROPY, NNUNET))


def jml(results: dict) -> str:
    """The same with the hard labels and with both settings of the allocator."""
    parts = []
    for allocator in ("warm", "default"):
        rows = rows_of(results, "jml", allocator, drawn=True)
        every = columns(CPU_IN_PLACE, EAGER, COMPILED, CROSS_ENTROPY, NNUNET)
        parts.append(f"{allocator.capitalize()} allocator:\n\n{table(rows, every)}")
    return "\n\n".join(parts)


def limit(results: dict) -> str:
    """How far our loss is from the floor, in the forward and in the backward."""
    heads = [(part, shares(part)) for part in (FORWARD, BACKWARD)]
    both: list[Column] = [*heads, ("both", shares(STEP))]
    return table(rows_of(results, "jml", drawn=True), both)


def peaks(results: dict) -> str:
    names = (CPU, CPU_IN_PLACE, EAGER, COMPILED, CROSS_ENTROPY, NNUNET)
    heads = [(_HEADS.get(name, "ours"), memory(name)) for name in names]
    rows = [*rows_of(results, "jml"), *rows_of(results, "objectives")]
    return table(rows, heads)


def objectives(results: dict) -> str:
    warm, default = (rows_of(results, "objectives", how) for how in ("warm", "default"))
    by_name = {row["name"]: row for row in default}

    def by_default(name: str) -> Callable[[dict], str]:
        return lambda row: times(name)(by_name[row["name"]])

    beside = [
        ("default: eager", by_default(EAGER)),
        ("`torch.compile`", by_default(COMPILED)),
    ]
    return table(warm, [*columns(EAGER, COMPILED), *beside])


def forms(results: dict) -> str:
    return table(rows_of(results, "forms"), [*columns(EAGER), ("memory of naive", memory(EAGER))])


def peers(results: dict) -> str:
    """A line for each library that ran; the cases are the columns."""
    rows = rows_of(results, "peers")
    names = dict.fromkeys(name for row in rows for name in row["figures"] if name != CPU)
    cases = [f"{_sizes(row['case']['size'])}, {row['case']['kind']}" for row in rows]
    lines = [
        f"| | {' | '.join(cases)} | memory |",
        f"|---|{'--:|' * (len(cases) + 1)}",
    ]
    for name in names:
        part = STEP if any(STEP in row["figures"].get(name, {}) for row in rows) else FORWARD
        cells = [times(name, part)(row) for row in rows]
        held = next(filter(None, map(memory(name), rows)), "")
        lines.append(f"| `{name}` | {' | '.join(cells)} | {held} |")
    installed = results["peers"]["machine"].get("peers", {})
    releases = ", ".join(f"{package} {release}" for package, release in installed.items())
    return "\n".join(lines) + (f"\n\nReleases: {releases}." if releases else "")


def described(results: dict) -> str:
    """What each library computes."""
    return "\n".join(f"- `{name}`: {peer.what}." for name, peer in PEERS.items())


def growth(results: dict) -> str:
    of_axes = results["growth"]["growth"]
    return "\n\n".join(_along(of_axes[axis], axis) for axis in SUITES["growth"].axes)


def _along(rows: list[dict], axis: str) -> str:
    letter = LETTERS[axis]
    by_name = growths(rows, axis)
    heads = {name: "ours" if name == CPU else _HEADS[name] for name in by_name}
    lines = [f"| {axis} | {' | '.join(heads.values())} |", f"|--:|{'--:|' * len(heads)}"]
    first = {name: rows[0]["figures"][name][STEP]["seconds"]["median"] for name in by_name}
    for row in rows:
        steps = {name: row["figures"][name][STEP]["seconds"]["median"] for name in by_name}
        cells = [f"{number(steps[name] / first[name])}×" for name in by_name]  # noqa: RUF001
        lines.append(f"| {place(axis, row)} | {' | '.join(cells)} |")
    cells = [f"{letter}^{of.exponent:.2f}" for of in by_name.values()]
    lines.append(f"| grows as | {' | '.join(cells)} |")
    cells = [
        f"{of.fixed / first[name]:.2g} + {of.each / first[name]:.2g}·{letter}"
        for name, of in by_name.items()
    ]
    lines.append(f"| fitted | {' | '.join(cells)} |")
    return "\n".join(lines)


def capacity(results: dict) -> str:
    """The largest batch that fits where the memory has room for nothing but the loss."""
    return _capacity(results["growth"]["growth"][BATCH])


def _capacity(rows: list[dict]) -> str:
    memories = (8, 16, 24, 80)
    lines = [
        f"| | {' | '.join(f'{gib} GiB' for gib in memories)} |",
        f"|---|{'--:|' * len(memories)}",
    ]
    for name in rows[0]["figures"]:
        cells = [str(largest_batch(rows, name, gib * 2**30)) for gib in memories]
        lines.append(f"| {'ours' if name == CPU else _HEADS[name]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def upsampling(results: dict) -> str:
    """Logits of lower resolution, against PyTorch's interpolation and whatever loss."""
    names = (CPU_INTERPOLATED, CPU_FULL_SIZE, EAGER, COMPILED, CROSS_ENTROPY)
    parts = [_measured_on(results["upsample"])]
    for allocator in ("warm", "default"):
        rows = rows_of(results, "upsample", allocator, drawn=True)
        every = [(_HEADS[name], times(name)) for name in names]
        parts.append(f"{allocator.capitalize()} allocator:\n\n{table(rows, every)}")
    rows = rows_of(results, "upsample", drawn=True)
    heads = [(_HEADS.get(name, "ours"), memory(name)) for name in (CPU, *names)]
    parts.append(f"Memory, as a multiple of the low-resolution logits:\n\n{table(rows, heads)}")
    of_axes = results["upsample"]["growth"]
    parts += [_along(of_axes[RATIO], RATIO), _capacity(of_axes[BATCH])]
    return "\n\n".join(parts)


def upsampling_saves(results: dict) -> str:
    """A sentence for the first lines of README.md."""
    rows = rows_of(results, "upsample", drawn=True)

    def least_and_most(of: Callable[[dict, str], float], name: str) -> str:
        found = [of(row, name) for row in rows]
        return f"{number(min(found))} to {number(max(found))} times"

    def time(row: dict, name: str) -> float:
        return row["figures"][name][STEP]["times"]["median"]

    def held(row: dict, name: str) -> float:
        return row["figures"][name]["peak / logits"] / row["figures"][CPU]["peak / logits"]

    return (
        "Logits of a quarter or an eighth of the labels' size are interpolated there too: at full "
        "size they never exist. PyTorch's interpolation before our own loss takes "
        f"{least_and_most(time, CPU_INTERPOLATED)} as long and holds "
        f"{least_and_most(held, CPU_INTERPOLATED)} as much memory on a CPU, and before naive code "
        f"{least_and_most(time, EAGER)} as long and {least_and_most(held, EAGER)} as much."
    )


def upsampled_costs(results: dict) -> str:
    """The small table of README.md for logits of lower resolution."""
    names = (CPU_INTERPOLATED, EAGER, COMPILED, CROSS_ENTROPY)
    held = [("memory", memory(CPU)), ("of naive, eager", memory(EAGER))]
    every = [*((_HEADS[name], times(name)) for name in names), *held]
    return table(rows_of(results, "upsample"), every)


def goals(results: dict) -> str:
    """How many goals are met, and which are not."""
    rows = [row for suite in JUDGED if suite in results for row in results[suite]["rows"]]
    first, *missed = summary(rows)
    return "\n".join([f"{first}{':' if missed else '.'}", "", *(f"- {line}" for line in missed)])


def gpus(results: dict) -> str:
    """Tables for each GPU: of all that was measured, also where others are ahead."""
    return "\n\n".join(_on_a_gpu(found) for found in results["gpu"])


def _on_a_gpu(found: dict) -> str:
    versions, gpu = found["machine"]["versions"], found["machine"]["GPU"]
    tested = ", ".join(
        f"{of['passed']} passed and {of['failed']} failed of `{group}`"
        for group, of in found["tests"].items()
    )
    of_cuda = [(f"`cuda` {part}", shares(part, CUDA)) for part in (FORWARD, BACKWARD)]
    others = [(name, times(name)) for name in (TRITON, EAGER, COMPILED)]
    heads = [(_HEADS.get(name, f"`{name}`"), cell) for name, cell in others]
    held = [("memory", memory(CUDA)), ("of naive, eager", memory(EAGER))]
    full = [row for row in found["cases"] if not _is_upsampled(row)]
    lower = [row for row in found["cases"] if _is_upsampled(row)]
    parts = [
        f"{gpu['model']}, driver {gpu['driver']}, torch {versions['torch']}, Triton "
        f"{versions['Triton']}, commit {found['commit'][:10]}"
        f"{' and what was changed since' if found['changed'] else ''}. Tests: {tested}.",
        table(full, [*of_cuda, *heads, *held]),
    ]
    if lower:
        names = (CUDA + INTERPOLATED, CUDA + FULL_SIZE, EAGER, COMPILED, CROSS_ENTROPY)
        heads = [(_HEADS[name.replace(CUDA, CPU)], times(name)) for name in names]
        parts += ["Of logits of lower resolution:", table(lower, [*heads, *held])]
    return "\n\n".join(parts)


def _is_upsampled(row: dict) -> bool:
    return row["case"].get("upsample", 1) > 1  # results from before there was a ratio have none


def gpu_costs(results: dict) -> str:
    """A sentence for README.md: steps in float32 and NCHW, as the newest results have them."""
    newest = max(results["gpu"], key=lambda found: found["settings"]["started"])
    rows = [row for row in newest["cases"] if row["case"]["form"] == "float32"]
    full = [row for row in rows if not _is_upsampled(row)]
    lower = [row for row in rows if _is_upsampled(row)]

    def least_and_most(name: str, rows: list[dict]) -> str:
        times = [
            row["figures"][name][STEP]["times"]["median"] for row in rows if name in row["figures"]
        ]
        return f"{number(min(times))} to {number(max(times))} times"

    text = (
        f"On an {newest['machine']['GPU']['model']} naive code takes {least_and_most(EAGER, full)} "
        f"as long as ours, and {least_and_most(COMPILED, full)} with `torch.compile`."
    )
    if not lower:
        return text
    hard = [row for row in lower if row["case"]["kind"] == "labels"]
    others = ", ".join(
        f"{times(CUDA + INTERPOLATED)(row)} with {row['case']['kind'].removesuffix(', labels')}"
        for row in lower
        if row not in hard
    )
    return (
        f"{text} Of logits of lower resolution PyTorch's interpolation before our own loss takes "
        f"{least_and_most(CUDA + INTERPOLATED, hard)} as long there with hard labels ({others}), "
        f"and before naive code {least_and_most(EAGER, hard)}."
    )


def model(results: dict) -> str:
    """What the model of the machine code counts and predicts, beside the newest measurements."""
    devices = ("NVIDIA H100", "NVIDIA H200")
    heads = [
        *("instructions", "of them ALU"),
        *(f"{device.removeprefix('NVIDIA ')}, predicted" for device in devices),
        "H200, measured",
    ]
    lines = [f"| forward / backward | {' | '.join(heads)} |", "|---|" + "--:|" * len(heads)]
    told = measured_shares(devices[-1])
    for row in results["model"]["rows"]:
        if row["name"] in {lower.name for lower in UPSAMPLED}:
            continue
        cells = [
            _both(row, lambda of: f"{of['instructions']:.0f}"),
            _both(row, lambda of: f"{of['by pipe']['alu']:.0f}"),
            *(
                _both(row["predicted"].get(device), lambda of: f"{of['share']:.0%}")
                for device in devices
            ),
            _both(told.get(row["name"]), lambda share: f"{share:.0%}"),
        ]
        size, rest = row["name"].split(" ", 1)
        name = f"{_sizes(size)} {rest.removeprefix('float32, ')}"
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def model_of_upsampling(results: dict) -> str:
    """The same for logits of lower resolution, as multiples of the time in which the memory moves
    what an interpolation and a loss of full size read and write."""
    devices = ("NVIDIA H100", "NVIDIA H200")
    heads = [
        "instructions",
        *(f"{device.removeprefix('NVIDIA ')}, predicted" for device in devices),
    ]
    lines = [f"| forward / backward | {' | '.join(heads)} |", "|---|" + "--:|" * len(heads)]
    found = {row["name"]: row for row in results["model"]["rows"]}
    for case in (lower.case for lower in UPSAMPLED):
        row = found[case.name]
        # The forward writes and reads the full size, the backward reads it, writes the gradient and
        # reads that.
        traffic = {FORWARD: case.forward_traffic, BACKWARD: case.backward_traffic}
        unfused = {FORWARD: 2 * case.full_bytes, BACKWARD: 3 * case.full_bytes}
        cells = [_both(row, lambda of: f"{of['instructions']:.0f}")]
        for device in devices:
            times = {
                part: traffic[part] / row["predicted"][device][part]["share"] / unfused[part]
                for part in (FORWARD, BACKWARD)
            }
            cells.append(_both(times, lambda time: f"{time:.2f}"))
        lines.append(f"| {_sizes(case.name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _both(of: dict | None, cell: Callable[[object], str]) -> str:
    """Of both passes; empty where there is nothing."""
    return "" if of is None else f"{cell(of[FORWARD])} / {cell(of[BACKWARD])}"


SECTIONS: dict[str, Callable[[dict], str]] = {
    "machine": machine,
    "costs": costs,
    "jml": jml,
    "limit": limit,
    "memory": peaks,
    "objectives": objectives,
    "forms": forms,
    "peers": peers,
    "what peers compute": described,
    "growth": growth,
    "capacity": capacity,
    "upsampling": upsampling,
    "upsampling saves": upsampling_saves,
    "upsampled costs": upsampled_costs,
    "goals": goals,
    "GPU": gpus,
    "GPU costs": gpu_costs,
    "model": model,
    "model of upsampling": model_of_upsampling,
    **SCALE,
}


def measured() -> dict:
    """All results: by suite those of the CPU, under "gpu" those of each GPU, under "model" what is
    predicted for GPUs, and under "scale" what is of many ranks."""
    others = {
        "gpu": [json.loads(file.read_text()) for file in GPU_RESULTS],
        "model": document.read(),
        "scale": json.loads(SCALE_RESULTS.read_text()),
    }
    return json.loads(RESULTS.read_text()) | others


def render(page: str, results: dict) -> str:
    """A page with its sections written anew.

    Raises:
        KeyError: for a section of a name that is not in `SECTIONS`.
    """

    def section(match: re.Match) -> str:
        return f"{match['begin']}{SECTIONS[match['name']](results).strip()}\n{match['end']}"

    return SECTION.sub(section, page)


def main() -> None:
    results = measured()
    for page in PAGES:
        page.write_text(render(page.read_text(), results))
        print(f"written: {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
