"""Every kind of kernel that the tile table can choose, compiled for GPUs that need not be here."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="there is no Triton to compile with")

from jml_kernels.triton_kernels.resources import SAMPLE_CALLS, SHARED_LIMIT, SampleCall, resources

from jml_kernels.backend.triton import INTERPRETED

pytestmark = [
    pytest.mark.skipif(INTERPRETED, reason="interpreted kernels are not compiled"),
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),
]

#: The bytes of the stack that ptxas may take. It takes a few by its own choice, where that lets one
#: more group of warps live on a multiprocessor; a tile that is too large takes hundreds.
MAX_SPILLS = 16

#: A compiler is asked for every call on one GPU; on others, in `make test-slow`, for those that
#: every user has and for what takes the most: chunks, two tiles, float64.
USUAL = "4x19x512x512 float32 contiguous, labels"
USUAL_UPSAMPLED = f"{USUAL}, ratio 4"
LARGEST = (
    USUAL,
    USUAL_UPSAMPLED,
    "4x1000x512x512 float32 channels_last, labels",
    "4x19x512x512 float64 channels_last, distillation",
    "4x1000x512x512 float16 channels_last, distillation",
    "4x19x512x512 float32 contiguous, tally",
)
assert set(LARGEST) <= {call.name for call in SAMPLE_CALLS}
TARGETS = {"sm_90": SAMPLE_CALLS} | {
    name: [call for call in SAMPLE_CALLS if call.name in LARGEST]
    for name in ("sm_80", "sm_100", "gfx942")
}


def is_slow(target: str, call: SampleCall) -> bool:
    return target != "sm_90" or (call.ratio > 1 and call.name != USUAL_UPSAMPLED)


@pytest.mark.parametrize(
    ("target", "call"),
    [
        pytest.param(
            target,
            call,
            id=f"{target}-{call.name}",
            marks=[pytest.mark.slow] if is_slow(target, call) else [],
        )
        for target, calls in TARGETS.items()
        for call in calls
    ],
)
def test_fits(target, call):
    for name, launch in call.launches():
        used = resources(launch, target)
        assert used.spills <= MAX_SPILLS, (name, used)
        assert used.shared <= SHARED_LIMIT[target], (name, used)
