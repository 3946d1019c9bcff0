"""The Triton kernels: what can be counted of them as they are compiled, without a GPU."""

from __future__ import annotations

from jml_kernels.backend.triton import why_not_compiled
from jml_kernels.bench.timing import BACKWARD, FORWARD

from .kernels import kernels_of
from .static import counted

TARGET = "sm_90"
_KINDS = ("labels", "boundary", "soft", "distillation")


def table() -> dict[str, dict[str, dict[str, object]]]:
    """By call and pass; empty where there is no Triton."""
    if why_not_compiled() is not None:
        return {}
    from jml_kernels.triton_kernels import resources  # noqa: PLC0415  # it needs Triton

    calls = [
        call
        for call in resources.SAMPLE_CALLS
        if call.classes in (2, 19, 150)
        and call.kind in _KINDS
        and call.size > 1
        and call.images > 1
    ]
    return {call.name: _of_call(call, resources) for call in calls}


def _of_call(call, resources) -> dict[str, dict[str, object]]:
    found = {}
    for name, launch in call.launches():
        if name not in (FORWARD, BACKWARD):
            continue
        with resources.compiling_for(TARGET):
            compiled = launch.kernel.warmup(**launch.arguments, grid=(launch.programs,))
        (kernel,) = kernels_of(compiled.asm["cubin"])
        metadata = compiled.metadata
        found[name] = {
            "warps": metadata.num_warps,
            "shared bytes": metadata.shared,
            **counted(kernel),
        }
    return found
