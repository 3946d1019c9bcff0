"""The CPU kernels ask for huge pages for the memory of a large gradient, and only there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from judges import assert_loss
from needs import cpu_kernels

from jml_kernels.selfcheck.corpus.case import LossCase

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")

#: Variables of the environment that choose another allocator, or let it ask for huge pages itself.
OTHER_ALLOCATORS = ("GLIBC_TUNABLES", "LD_PRELOAD", "THP_MEM_ALLOC_ENABLE")

pytestmark = cpu_kernels

#: Prints whether huge pages are asked for at the start and in the middle of the gradient of logits
#: (1, 16, height, 256). Each height needs a new process: what an allocator keeps stays asked for.
SCRIPT = """
import sys
from pathlib import Path
import torch
import jml_kernels as jml

def is_asked_for(address):
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *values = line.split()
        if not name.endswith(":"):  # a new mapping: 7f0000000000-7f0000400000
            begin, end = (int(part, 16) for part in name.split("-"))
            inside = begin <= address < end
        elif inside and name == "VmFlags:":
            return "hg" in values

height = int(sys.argv[1])
logits = torch.zeros(1, 16, height, 256, requires_grad=True)
labels = torch.zeros(1, height, 256, dtype=torch.int64)
loss = jml.JaccardMetricLoss(backend="cpu")(logits, labels)
(gradient,) = torch.autograd.grad(loss, logits)
assert gradient.data_ptr() % 2**21, "the start of the gradient is one of a huge page"
print(*(is_asked_for(gradient.data_ptr() + offset) for offset in (0, gradient.nbytes // 2)))
"""


def refusal() -> str | None:
    """Why this system gives no huge pages, or does not say so."""
    if not SETTING.exists():
        return f"this system has no {SETTING}"
    setting = SETTING.read_text().strip()
    if re.search(r"\[(madvise|always)\]", setting) is None:
        return f"huge pages are switched off: {setting}"
    smaps = Path("/proc/self/smaps")
    if not smaps.exists() or "VmFlags:" not in smaps.read_text():
        return "this system does not tell the flags of memory"
    return None


@pytest.mark.parametrize(
    ("height", "asked"),
    [
        pytest.param(255, False, id="just below 4 MiB"),
        pytest.param(256, True, id="4 MiB"),
        pytest.param(1001, True, id="15.6 MiB"),
    ],
)
def test_who_asks(height, asked, tmp_path):
    """The middle of a large gradient, and never memory that the gradient shares a page with."""
    why_not = refusal()
    if why_not is not None:
        pytest.skip(why_not)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(height)],
        env={name: value for name, value in os.environ.items() if name not in OTHER_ALLOCATORS},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", str(asked)]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_large_gradient_is_right(dtype, layout):
    """Twice: the second one may find the memory of the first."""
    case = LossCase("large", "", (2, 16, 256, 257), dtype, layout)  # 4 MiB in bfloat16 too
    for _ in range(2):
        assert_loss(case, "metric1", "cpu", "cpu")
