"""What a step takes by the model: times as multiples of the floor, which is the time in which the
device copies the bytes that the pass cannot avoid (docs/performance.md)."""

from __future__ import annotations

from jml_kernels.bench.timing import BACKWARD, FORWARD

from .devices import SCHEDULERS, Device
from .replay import Replay, issues, replay
from .rows import Row
from .steps import FINISH, FORMULA, Step

#: The kernels of a pass.
PASSES = {FORWARD: (FORWARD, FINISH, FORMULA), BACKWARD: (BACKWARD,)}
#: Seconds from the end of a kernel to the start of the next in a stream. Assumed: it is about that
#: on NVIDIA's GPUs, and nothing in the large rows, which are those that were measured.
LAUNCH_GAP = 1.5e-6


def predictions(step: Step, name: str, row: Row, device: Device) -> dict[str, float]:
    """Of the forward or the backward.

    Returns:
        "memory", with labels, and "issue", both by themselves; "finishing", what the kernels behind
        the forward take; "simulated", all of the pass; "share", its reciprocal: how much of the
        speed of a copy it reaches, as benchmarks.gpu measures it. "slot": cycles of an issue slot.
    """
    case = row.case
    traffic = case.forward_traffic if name == FORWARD else case.backward_traffic
    floor = traffic / device.copy_bytes_per_second
    hertz = device.gigahertz * 1e9
    replays = {kernel: replayed(step, kernel, device) for kernel in PASSES[name]}
    main, rest = replays[name], [of for kernel, of in replays.items() if kernel != name]
    finishing = sum(of.cycles / hertz + LAUNCH_GAP for of in rest)
    simulated = main.cycles / hertz + LAUNCH_GAP + finishing
    return {
        "memory": 1 + case.label_bytes / traffic,
        "issue": _issue_seconds(step, name, device) / floor,
        "finishing": finishing / floor,
        "simulated": simulated / floor,
        "share": floor / simulated,
        "slot": main.cycles_per_slot,
    }


def _issue_seconds(step: Step, name: str, device: Device) -> float:
    """Where every scheduler issues in every cycle, and blocks are shared out evenly."""
    recorded = step.kernels[name]
    issued = sum(len(warp.trace) for warp in recorded.block.warps) * recorded.launch.blocks
    return issued / (device.multiprocessors * SCHEDULERS * device.gigahertz * 1e9)


def replayed(step: Step, name: str, device: Device) -> Replay:
    """A kernel on the multiprocessor that has the most blocks."""
    recorded = step.kernels[name]
    launch = recorded.launch
    traces = [
        issues(recorded.kernel, warp.trace, step.is_in_memory) for warp in recorded.block.warps
    ]
    blocks = -(-launch.blocks // device.multiprocessors)
    return replay(traces, blocks, recorded.resident, device, blocks / launch.blocks)
