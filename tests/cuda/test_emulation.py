"""The emulation of CUDA that the kernels' tests run on: it computes what a GPU would, and sees
what a GPU would not show."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from cuda_emulation_build import COMPILER, ENVIRONMENT, SANITIZERS, require

EMULATION = Path(__file__).parents[1] / "cuda_emulation"
FLAGS = [
    *("-x", "c++", "-std=c++17", "-O1", "-DJML_CUDA_EMULATION", f"-I{EMULATION / 'include'}"),
    *("-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"),
]


def compile_program(source: Path, folder: Path, sanitizer: str) -> Path:
    """The emulation's program of a .cu file; skips where a compiler or a runtime is missing."""
    require(sanitizer)
    program = folder / source.stem
    subprocess.run(
        [COMPILER, *FLAGS, *SANITIZERS[sanitizer], str(source), "-o", str(program)], check=True
    )
    return program


def run(
    program: Path, *arguments, stdin: bytes = b"", **environment
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(program), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env=ENVIRONMENT | environment,
        check=False,
    )


#: Without a sanitizer in `make test`, with both in `make test-slow`.
WITH_SANITIZERS = [
    "none",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("address", "thread")),
]


@pytest.fixture(scope="module", params=WITH_SANITIZERS)
def program(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"self_test_{request.param}")
    return compile_program(EMULATION / "self_test.cu", folder, request.param)


@pytest.fixture
def compute(program):
    """compute(name, numbers, dtype of the results): one of the self-test's kernels."""

    def call(name, numbers=(), dtype=np.float32, arguments=(), **environment):
        done = run(program, name, *arguments, stdin=np.asarray(numbers).tobytes(), **environment)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stderr == b""
        return np.frombuffer(done.stdout, dtype)

    return call


# ---- blocks --------------------------------------------------------------------------------------

ORDERS = ["forward", "reverse", "1", "2"]


@pytest.mark.parametrize("order", ORDERS)
def test_a_reduction(compute, order):
    numbers = (np.arange(1000) % 17).astype(np.float32)
    sums = np.pad(numbers, (0, 56)).reshape(-1, 96).sum(axis=1)
    got = compute("reduce", numbers, JML_CUDA_EMULATION_ORDER=order)
    np.testing.assert_array_equal(got, sums)


@pytest.mark.parametrize("threads", [1, 32, 50, 256])
def test_dynamic_shared_memory(compute, threads):
    numbers = np.arange(3 * threads, dtype=np.int32)
    got = compute("reverse", numbers, np.int32, arguments=(threads, 7))
    np.testing.assert_array_equal(got.reshape(3, -1), numbers.reshape(3, -1)[:, ::-1])


def test_a_block_finds_poison_in_its_shared_memory(compute):
    np.testing.assert_array_equal(compute("unwritten", dtype=np.uint32), np.full(80, 2**32 - 1))


def test_indices(compute):
    got = compute("indices", dtype=np.uint32).reshape(2, 3, 2, 3, 2, 5, 2, 3)
    z, y, x = np.indices((2, 3, 2))
    np.testing.assert_array_equal(got[:, :, :, 0, 0, 0, 0], np.stack([x, y, z], axis=-1))
    assert (got[..., 0, :] == got[:, :, :, :1, :1, :1, 0, :]).all()
    z, y, x = np.indices((3, 2, 5))
    assert (got[..., 1, :] == np.stack([x, y, z], axis=-1)).all()


def test_barriers_that_count(compute):
    got = compute("counts", dtype=np.int32).reshape(45, 4)
    assert (got[:, 0] == 15).all()
    assert (got[::2, 1:] == [8, 1, 1]).all()  # of the 23 even threads
    assert (got[1::2, 1:] == 0).all()


def test_the_order_of_turns(compute):
    """Any order is one of the GPU's; by default it is that of the threads."""
    forward, reverse, *shuffled = (
        compute("tickets", dtype=np.uint32, JML_CUDA_EMULATION_ORDER=order) for order in ORDERS
    )
    np.testing.assert_array_equal(forward, np.arange(120))
    np.testing.assert_array_equal(reverse, np.arange(120)[::-1])
    assert len({tuple(order) for order in (forward, reverse, *shuffled)}) == len(ORDERS)
    for order in shuffled:
        assert sorted(order) == list(range(120))
        # A block after another one, whichever is first.
        assert all(len({ticket // 40 for ticket in block}) == 1 for block in order.reshape(3, 40))


# ---- warps ---------------------------------------------------------------------------------------

THREADS = 45  # the last warp has 13 lanes


def shuffled(numbers):
    """What self_test.cu's shuffle_row gives each thread: all ones where CUDA leaves it open."""
    open_bits = np.full(1, 255, np.uint8).repeat(numbers.itemsize).view(numbers.dtype)[0]
    rows = []
    for thread in range(len(numbers)):
        warp, lane = numbers[thread // 32 * 32 :][:32], thread % 32
        sources = [
            3,
            lane // 8 * 8 + 11 % 8,
            lane - 2 if lane >= 2 else lane,
            lane - 3 if lane % 4 >= 3 else lane,
            lane + 1 if lane % 4 < 3 else lane,
            lane ^ 1,
            lane ^ 9 if (lane ^ 9) // 8 <= lane // 8 else lane,
        ]
        rows.append([warp[s] if s < len(warp) else open_bits for s in sources])
    return np.array(rows, numbers.dtype)


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
def test_shuffles(compute, dtype):
    bits = np.random.default_rng(0).integers(0, 2**63, THREADS)
    numbers = (bits % 2**31 if dtype == "int32" else bits).astype(dtype)
    got = compute(f"shuffles of {dtype}", numbers, dtype).reshape(THREADS, 7)
    np.testing.assert_array_equal(got, shuffled(numbers))


@pytest.mark.parametrize("order", ORDERS)
def test_votes(compute, order):
    yes = np.random.default_rng(1).integers(0, 2, THREADS).astype(np.int32) * 5
    yes[32:] = 1
    got = compute("votes", yes, np.uint32, JML_CUDA_EMULATION_ORDER=order).reshape(THREADS, 6)
    for thread in range(THREADS):
        warp, lane = yes[thread // 32 * 32 :][:32], thread % 32

        def ballot(lanes, warp=warp, no=0):
            return sum(1 << i for i in lanes if i < len(warp) and bool(warp[i]) != bool(no))

        half = range(16, 32) if lane >= 16 else range(16)
        expected = [ballot(range(32)), warp.any(), warp.all()]
        expected += [ballot(half) if lane >= 16 else 0, ballot(half, no=1)]
        expected += [ballot(range(8)) if lane < 8 else 0]
        assert got[thread].tolist() == expected


@pytest.mark.parametrize("order", ORDERS)
def test_groups(compute, order):
    numbers = np.random.default_rng(6).integers(-2, 3, THREADS).astype(np.int32)
    got = compute("groups", numbers, np.uint32, JML_CUDA_EMULATION_ORDER=order)
    for thread, row in enumerate(got.reshape(THREADS, 4).tolist()):
        warp = numbers[thread // 32 * 32 :][:32].tolist()
        same = [lane for lane, number in enumerate(warp) if number == numbers[thread]]
        mask = sum(1 << lane for lane in same)
        sum_of_group = len(same) * (int(numbers[thread]) + 1)
        assert row == [mask, mask, sum(warp) % 2**32, sum_of_group % 2**32]


# ---- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", ["uint4", "float2", "double2"])
def test_loads_and_stores_of_vectors(compute, vector):
    numbers = np.random.default_rng(2).integers(0, 256, 101 * 16).astype(np.uint8)
    np.testing.assert_array_equal(compute(f"copy of {vector}", numbers, np.uint8), numbers)


def test_atomics(program):
    done = run(program, "atomics")
    assert done.stdout == b"780 39 -39 -1 40 5 7 20 10\n", done.stderr.decode()


# ---- numbers -------------------------------------------------------------------------------------


def test_every_half(compute):
    every = np.arange(2**16).astype(np.uint16)
    half, bfloat = compute("halves", every).reshape(-1, 2).T
    np.testing.assert_array_equal(half, every.view(np.float16).astype(np.float32))
    bits = torch.from_numpy(every.view(np.int16)).view(torch.bfloat16)
    np.testing.assert_array_equal(bfloat, bits.float().numpy())
    for numbers in (half, bfloat):
        assert np.signbit(numbers[0x8000])


def test_floats_to_halves(compute):
    """Any bits, and all there is at and between two halves: ties, subnormal numbers, overflow."""
    every = np.arange(2**16).astype(np.uint16)
    with np.errstate(invalid="ignore"):
        halves = every.view(np.float16).astype(np.float32).view(np.uint32)
    bfloats = every.astype(np.uint32) << 16
    bits = [np.random.default_rng(3).integers(0, 2**32, 2**16).astype(np.uint32)]
    bits += [halves + np.uint32(d) for d in (0, 1, 0xFFF, 0x1000, 0x1001)]
    bits += [bfloats + np.uint32(d) for d in (1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]
    scale = np.float32(2.0**-25)  # half of the smallest subnormal number
    bits += [(np.arange(2**12).astype(np.float32) * scale).view(np.uint32)]
    numbers = np.concatenate(bits).view(np.float32)

    half, bfloat = compute("to halves", numbers, np.uint16).reshape(-1, 2).T
    tensor = torch.from_numpy(numbers)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = numbers.astype(np.float16).view(np.uint16)
    number = ~np.isnan(numbers)
    np.testing.assert_array_equal(half[number], expected[number])
    expected = tensor.bfloat16().view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(bfloat[number], expected[number])
    assert (half[~number] == 0x7FFF).all()  # what a GPU makes of NaN
    assert (bfloat[~number] == 0x7FFF).all()


def signed(bits):
    return bits - 2**32 if bits >= 2**31 else bits


def test_functions_of_bits(compute):
    pairs = np.random.default_rng(4).integers(0, 2**32, (60, 2)).astype(np.uint32)
    pairs[:4] = [[0, 0], [0, 2**31], [2**31, 1], [2**32 - 1, 0]]
    got = compute("bits", pairs, np.uint32).reshape(-1, 20)
    for (x, y), row in zip(pairs.tolist(), got.tolist(), strict=True):
        wide, funnel = x << 32 | y, y << 32 | x
        data = funnel.to_bytes(8, "little")
        picked = bytes(data[i] for i in (5, 1, 7, 3))
        assert row == [
            x.bit_count(),
            wide.bit_count(),
            32 - x.bit_length(),
            64 - wide.bit_length(),
            (x & -x).bit_length(),
            (wide & -wide).bit_length(),
            int(f"{x:032b}"[::-1], 2),
            int.from_bytes(picked, "little"),
            funnel << 5 >> 32 & 0xFFFFFFFF,
            funnel >> 5 & 0xFFFFFFFF,
            x * y >> 32,
            signed(x) * signed(y) >> 32 & 0xFFFFFFFF,
            wide * wide >> 96,
            min(x, y),
            max(x, y),
            min(signed(x), signed(y)) & 0xFFFFFFFF,
            min(x, y),
            max(x, y),
            x,
            y,
        ]


def test_functions_of_floats(compute):
    pairs = np.random.default_rng(5).normal(0, 20, (60, 2)).astype(np.float32)
    special = [0, -0.0, 1, 0.5, 1.5, 2.5, -2.5, np.inf, -np.inf, np.nan, 3e9, -3e9]
    pairs[: len(special), 0] = special
    pairs[-1] = [1, np.nan]
    got = compute("functions", pairs).reshape(-1, 20).T
    x, y = pairs.T.astype(np.float64)
    with np.errstate(all="ignore"):
        rounded = [f(np.nan_to_num(x)).clip(-(2**31), 2**31 - 1) for f in (np.rint, np.trunc)]
        rounded += [np.floor(np.nan_to_num(x)).clip(-(2**31), 2**31 - 1)]
        expected = [
            *(np.exp2(x), np.log2(x), np.exp(x), np.log(x), x / y, 1 / np.sqrt(x), 1 / x),
            *(np.fmax(x, y), np.fmin(x, y), np.fmax(x, y), np.fmin(x, y)),
            *(np.nan_to_num(x).clip(0, 1), x * y, x + y, np.abs(x)),
            *(*rounded, 1 / np.sqrt(x), np.fmax(x, y)),
        ]
        expected = np.array(expected).astype(np.float32)
    np.testing.assert_allclose(got, expected, rtol=3e-7, atol=1e-38)


# ---- launches ------------------------------------------------------------------------------------


def test_launches_that_a_gpu_refuses(program):
    """Codes of CUDA: 1 is an invalid argument, 9 an invalid configuration."""
    done = run(program, "refusals")
    assert done.stdout == b"0 9 9 9 9 9 1 1 0 0 1 1 1\n", done.stderr.decode()


# ---- planted errors ------------------------------------------------------------------------------

# The sanitizer that sees it and what is said, of each kernel of planted.cu.
PLANTED = {
    "beyond_global": ("address", "heap-buffer-overflow"),
    "beyond_shared": ("address", "heap-buffer-overflow"),
    "beyond_shared_array": ("address", "global-buffer-overflow"),
    "misaligned": ("address", "misaligned address"),
    "no_barrier": ("thread", "data race"),
    "no_second_barrier": ("thread", "data race"),
    "no_warp_barrier": ("thread", "data race"),
    "warp_barrier_only": ("thread", "data race"),
    "half_a_warp_barrier": ("thread", "data race"),
    "shuffle_and_vote_only": ("thread", "data race"),
    "no_atomic": ("thread", "data race"),
    "different_barriers": ("none", "block (0, 0, 0): threads meet at different barriers: 7 at"),
    "lane_missing": ("none", "block (0, 0, 0): 64 of 64 threads wait for ever:\n  33 at a barrier"),
    "lane_outside_mask": ("none", "lane 28 calls a shuffle with mask 0fffffff"),
    "different_exchanges": ("none", "ffffffff, meet in __syncwarp and a shuffle"),
}


@pytest.fixture(scope="module", params=WITH_SANITIZERS)
def planted(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"planted_{request.param}")
    return request.param, compile_program(EMULATION / "planted.cu", folder, request.param)


def test_planted_errors_are_seen(planted):
    sanitizer, program = planted
    for name, (seen_by, said) in PLANTED.items():
        if seen_by != sanitizer:
            continue
        done = run(program, name, 1)
        assert done.returncode != 0, name
        assert said in done.stderr.decode(), name
        assert "planted.cu:" in done.stderr.decode(), name


def test_their_clean_twins_pass(planted):
    for name in PLANTED:
        done = run(planted[1], name, 0)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"ended\n", b""), name


# ---- real CUDA -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["self_test.cu", "planted.cu"])
def test_the_emulation_takes_nothing_that_nvcc_does_not(name, tmp_path):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    command = [nvcc, "-std=c++17", "-arch=sm_90", "-c", str(EMULATION / name)]
    subprocess.run([*command, "-o", str(tmp_path / "object.o")], check=True)
