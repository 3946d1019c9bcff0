"""The report of the assembler, read; and warps that live at once, by NVIDIA's rules."""

from __future__ import annotations

import pytest

from jml_kernels.cuda_resources import (
    Resources,
    instructions,
    parse,
    readable,
    warnings,
    warps,
)

# As nvcc 13.0 writes it, and c++filt: a function that was not inlined, a stack, spills.
SAMPLE = """\
ptxas info    : 28 bytes gmem, 224 bytes cmem[4]
ptxas info    : Compiling entry function 'jml::cuda::(anonymous namespace)::calls(float const*, \
float*, int)' for 'sm_80'
ptxas info    : Function properties for jml::cuda::(anonymous namespace)::calls(float const*, \
float*, int)
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers, 256 bytes cumulative stack size, 372 bytes \
cmem[0]
ptxas info    : Compile time = 17.119 ms
ptxas info    : Function properties for jml::cuda::other(float const*, int)
    256 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Compiling entry function 'void jml::cuda::forward_kernel<jml::cuda::Config<float, \
24, 4, (jml::cuda::Layout)1> >(float const*, float*)' for 'sm_90a'
ptxas info    : Function properties for void jml::cuda::forward_kernel<jml::cuda::Config<float, \
24, 4, (jml::cuda::Layout)1> >(float const*, float*)
    16 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 14 registers, used 1 barriers, 512 bytes smem
ptxas info    : Compile time = 1.584 ms
"""


def test_parse():
    assert parse(SAMPLE) == [
        Resources("calls", "sm_80", 32, 256, 0, 0, 0),
        Resources("other", "sm_80", None, 256, 4, 8, 0),
        Resources("forward_kernel<Config<float, 24, 4, (Layout)1>>", "sm_90a", 14, 16, 12, 20, 512),
    ]
    assert [kernel.spills for kernel in parse(SAMPLE)] == [0, 12, 32]
    assert parse("") == []


def test_warnings():
    assert warnings(SAMPLE) == []
    said = "ptxas warning : Local memory used for function 'f'"
    assert warnings(f"{SAMPLE}{said}\n") == [said]


@pytest.mark.parametrize(
    ("signature", "name"),
    [
        ("jml::cuda::finish(jml::Params)", "finish"),
        ("void jml::cuda::k<(jml::Active)2, 3u, true>(int)", "k<(Active)2, 3u, true>"),
        ("void k<A<B<C<1> > > >(int)", "k<A<B<C<1>>>>"),
        ("_ZN3jml4cuda5otherEPKfi", "_ZN3jml4cuda5otherEPKfi"),  # nobody knew to read it
    ],
)
def test_readable(signature, name):
    assert readable(signature) == name


@pytest.mark.parametrize(
    ("target", "registers", "threads", "shared", "expected"),
    [
        ("sm_90", 32, None, 0, 64),
        ("sm_90", 33, None, 0, 48),  # 40 of each thread: 12.8 warps in a quarter
        ("sm_80", 168, None, 0, 12),
        ("sm_100", 255, None, 0, 8),
        ("sm_89", 32, None, 0, 48),
        ("sm_90a", 128, None, 0, 16),
        ("sm_90", 168, 256, 0, 8),  # 12 warps have room, but not half a block
        ("sm_90", 56, 96, 0, 36),  # of 36 warps, 12 blocks
        ("sm_90", 32, 32, 0, 32),  # 32 blocks at most
        ("sm_90", 32, 256, 100 * 1024, 16),  # two of them fill the shared memory
        ("sm_90", 32, 256, 227 * 1024, 8),
        ("sm_75", 32, None, 0, None),
    ],
)
def test_warps(target, registers, threads, shared, expected):
    assert warps(target, registers, threads, shared) == expected


def test_instructions(tmp_path):
    """Of a library that was built where there is one; nothing where there is none."""
    assert instructions(tmp_path / "none.so", "sm_90") == {}
