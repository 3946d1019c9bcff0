"""What the compiler makes of the kernels: registers, spills and shared memory of every kind of
call, for any GPU and without one.

Kernels are compiled as a launch would compile them, with a driver that only names the target.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from ..checks import ACTIVATIONS, ACTIVE_CLASSES, REDUCTIONS
from ..objective import ACTIVE_COLUMNS
from ..overlaps import OVERLAPS, overlap_columns
from ..packing import FormulaFloats, FormulaInts, TallyInts, TargetFloats, TargetInts
from ..statistics import ClassStatistics, column_bits
from .formula_launch import formula_launch
from .inputs import FormulaInputs, Inputs
from .launch import Launch, backward_launch, forward_launches
from .tally_launch import tally_launches

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
#: Bytes that a group of warps may have.
SHARED_LIMIT = {"sm_80": 163 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024, "gfx942": 64 * 1024}

_LOSS = overlap_columns(OVERLAPS["metric1"]) | ACTIVE_COLUMNS["label"]
_CROSS_ENTROPY = column_bits("cross_entropy", "cross_entropy_weight")

#: A formula with every part of it at once.
_FORMULA = FormulaInputs(
    class_weights=None,
    class_mask=None,
    ints=FormulaInts(
        log_loss=1,
        label_active=ACTIVE_CLASSES.index("label"),
        dense_active=ACTIVE_CLASSES.index("both"),
        is_divergence=1,
        has_inactive_loss=1,
        weighted_mean=1,
        reduction=REDUCTIONS.index("mean"),
    ),
    floats=FormulaFloats(
        alpha=0.5,
        beta=0.5,
        gamma=1.5,
        smooth_numerator=0.1,
        smooth_denominator=0.2,
        index_floor=1e-7,
        inactive_loss=0.5,
        dataset=0.5,
        image=0.3,
        per_class=0.2,
        active_threshold=0.01,
        label_ce_weight=0.1,
        dense_ce_weight=0.2,
        label_overlap_weight=0.3,
        dense_overlap_weight=0.4,
    ),
    overlap=OVERLAPS["soft1"],
)


@dataclass(frozen=True)
class SampleCall:
    """A call of the operators, of tensors without memory.

    Attributes:
        kind: "labels"; "boundary", with smoothing; "soft", probabilities; "objective", labels and
            cross-entropy; "distillation", labels and a teacher, cross-entropy against both;
            "statistics", every column that users ask for; "multi-label", 0 and 1 of each class;
            "tally", what metrics count.
        ratio: of the full size to that of the logits, which are interpolated where it is not 1. A
            teacher has half as many rows and columns again.
    """

    classes: int
    dtype: torch.dtype = torch.float32
    layout: str = "contiguous"
    kind: str = "labels"
    images: int = 4
    size: int = 512
    ratio: int = 1

    @property
    def name(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        shape = f"{self.images}x{self.classes}x{self.size}x{self.size}"
        upsampled = "" if self.ratio == 1 else f", ratio {self.ratio}"
        return f"{shape} {dtype} {self.layout}, {self.kind}{upsampled}"

    def launches(self) -> Iterator[tuple[str, Launch]]:
        """Its kernels by name."""
        if self.kind == "tally":
            for launch in self._tally_launches():
                yield launch.kernel.__name__.removesuffix("_kernel"), launch
            return
        inputs = self._inputs()
        (forward, finish), statistics = forward_launches(inputs)
        formula, (loss, *grads) = formula_launch(inputs, _FORMULA, statistics)
        grad = torch.empty_like(inputs.logits)
        yield "forward", forward
        yield "finish", finish
        yield "formula", formula
        yield "backward", backward_launch(*grads, inputs, loss, grad)

    def _tally_launches(self) -> list[Launch]:
        ints = TallyInts(
            activation=ACTIVATIONS.index("softmax"),
            bins=10,
            boundary_size=3,
            ignore_index=-100,
            upsample=int(self.ratio > 1),
            align_corners=0,
            calibration=1,
            classwise=1,
        )
        logits = self._empty(self.size // self.ratio)
        return tally_launches(logits, self._labels(), None, ints)[0]

    def _labels(self) -> torch.Tensor:
        return torch.empty(self.images, self.size, self.size, dtype=torch.int64, device="meta")

    def _inputs(self) -> Inputs:
        labels = self._labels()
        logits, dense = self._empty(self.size // self.ratio), self._empty(self.size)
        columns = _LOSS
        if self.kind in ("objective", "distillation"):
            columns |= _CROSS_ENTROPY
        if self.kind == "statistics":
            columns = column_bits(*ClassStatistics._fields)
        is_boundary = self.kind == "boundary"
        activation, teacher_temperature = "softmax", 0.0
        if self.kind == "multi-label":
            labels, dense, activation = None, dense.to(torch.uint8), "sigmoid"
        elif self.kind in ("soft", "statistics"):
            labels = None
        elif self.kind == "distillation":
            teacher_temperature = 2.0
            if self.ratio > 1:
                dense = self._empty(self.size // (2 * self.ratio))
        else:
            dense = None
        return Inputs(
            logits,
            labels,
            dense,
            mask=None,
            ce_class_weights=None,
            ints=TargetInts(
                label_columns=columns,
                dense_columns=columns,
                activation=ACTIVATIONS.index(activation),
                boundary_size=3 if is_boundary else 0,
                ignore_index=-100,
                upsample=int(self.ratio > 1),
                align_corners=0,
            ),
            floats=TargetFloats(
                label_smoothing=0.1 if is_boundary else 0.0,
                teacher_temperature=teacher_temperature,
                student_temperature=1.0,
            ),
        )

    def _empty(self, size: int) -> torch.Tensor:
        memory = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
        return torch.empty(
            (self.images, self.classes, size, size),
            dtype=self.dtype,
            device="meta",
            memory_format=memory[self.layout],
        )


_HALF, _SINGLE, _DOUBLE = torch.float16, torch.float32, torch.float64
_LAST = "channels_last"
#: One call for each way of the table through the kernels: numbers of classes that fill a tile,
#: leave it half empty and need chunks; the sizes of dtypes; both layouts; every kind of target.
SAMPLE_CALLS = (
    *[SampleCall(classes) for classes in (2, 19, 64, 150, 256, 1000)],
    *[SampleCall(classes, layout=_LAST) for classes in (2, 19, 64, 150, 1000)],
    *[SampleCall(classes, _HALF) for classes in (19, 150, 1000)],
    *[SampleCall(classes, torch.bfloat16, _LAST) for classes in (19, 150)],
    *[SampleCall(classes, _DOUBLE) for classes in (19, 150, 1000)],
    *[
        SampleCall(classes, kind=kind)
        for kind in ("boundary", "soft", "objective", "distillation", "statistics", "multi-label")
        for classes in (19, 150)
    ],
    SampleCall(19, _DOUBLE, _LAST, "distillation"),
    SampleCall(19, _HALF, _LAST, "distillation"),
    SampleCall(1000, _HALF, _LAST, "distillation"),
    SampleCall(1000, _SINGLE, "contiguous", "statistics"),
    *[SampleCall(classes, ratio=4) for classes in (2, 19, 150, 1000)],
    SampleCall(19, _HALF, _LAST, ratio=8),
    SampleCall(150, kind="boundary", ratio=8),
    SampleCall(19, kind="distillation", ratio=4),
    *[SampleCall(classes, kind="tally") for classes in (2, 19, 150, 1000)],
    SampleCall(19, _HALF, _LAST, "tally"),
    SampleCall(150, _DOUBLE, _LAST, "tally"),
    SampleCall(19, kind="tally", ratio=4),
    # Arguments that are 1 become constants.
    SampleCall(19, images=1),
    SampleCall(19, images=1, size=1, kind="distillation"),
    SampleCall(1, images=1, size=1, kind="multi-label"),
)


class Resources(NamedTuple):
    registers: int
    spills: int
    """registers, or bytes on the stack of a thread"""
    shared: int
    """bytes"""
    warps: int


class _Driver:
    """Says for which GPU to compile, and runs nothing."""

    def __init__(self, name: str):
        self.name = name

    def get_current_target(self) -> GPUTarget:
        return TARGETS[self.name]

    def get_current_device(self) -> str:
        return self.name  # compiled kernels are kept by it

    def get_current_stream(self, device: object) -> int:
        return 0


@contextlib.contextmanager
def compiling_for(target: str) -> Iterator[None]:
    """Let Triton compile for a name of `TARGETS`."""
    driver.set_active(_Driver(target))
    try:
        yield
    finally:
        if torch.cuda.is_available():  # else there is none to go back to
            driver.reset_active()


def resources(launch: Launch, target: str) -> Resources:
    """What a kernel takes on a GPU that need not be there.

    Raises:
        triton.CompilationError and others of the compiler: where it does not compile.
    """
    with compiling_for(target):
        kernel = launch.kernel.warmup(**launch.arguments, grid=(launch.programs,))
    shared, warps = kernel.metadata.shared, kernel.metadata.num_warps
    if "amdgcn" in kernel.asm:
        counts = dict(re.findall(r"\.(vgpr_count|vgpr_spill_count): +(\d+)", kernel.asm["amdgcn"]))
        return Resources(int(counts["vgpr_count"]), int(counts["vgpr_spill_count"]), shared, warps)
    usage = _resource_usage(kernel.asm["cubin"])
    registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", usage).groups())
    return Resources(registers, stack, shared, warps)


def _resource_usage(cubin: bytes) -> str:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "kernel.cubin")
        Path(file).write_bytes(cubin)
        done = subprocess.run(
            [tool, "-res-usage", file], capture_output=True, text=True, check=True
        )
    return done.stdout


def table(target: str) -> Iterator[tuple[str, str, Resources]]:
    """(call, kernel, resources) of every kernel that a call of `SAMPLE_CALLS` launches."""
    for call in SAMPLE_CALLS:
        for name, launch in call.launches():
            yield call.name, name, resources(launch, target)
