"""Tiles: how many classes and pixels a program holds at once, and on how many warps. A fixed table:
choosing at run time would change the order of sums, and so the bits.

A tile is BLOCK_C x BLOCK_P, both powers of two. Reasons, in registers and bytes:

- A thread holds at most 32 elements of a float32 tile, 16 of a float64 one (32 registers each):
  with the exponentials and, folded by 4, three accumulators that is 130 to 150 registers, so that
  three or four groups of 4 warps live on a multiprocessor and cover one another's loads. A pixel's
  own numbers (label, softmax state) count as 6 classes more, which is felt with 2 classes.
- It holds half as many for each of: elements that each need an address of their own (rows that are
  no aligned vectors, as 19 classes in channels_last), a dense target, more than four accumulators,
  more than ten, windows of boundary smoothing, classes in chunks. Twice as many spilled, or left
  one group to a multiprocessor (`jml-kernels info --kernels`).
- 8 warps leave a thread up to 255 registers, 16 no more than 128. A tile that asks for more than 8
  gets shorter rows instead, until they are as short as may be: only then 16, and never of float64,
  whose exponential alone takes more.
- A row of a tile, BLOCK_P pixels of one class side by side, is never shorter than 64 bytes, two
  sectors of DRAM; that leaves 256 classes at most in one tile. More classes go in chunks of 128: 64
  bytes of each of 1000 classes are 64 KB, and with a program or two on each multiprocessor they are
  still in L1 or L2 when they are read again. Chunks of 256 spilled in float16.
- channels_last takes tiles of the same shape: its pixels lie one after another, so a tile is one
  segment of memory whatever its shape.
- FOLD = 4 pixels are added up before they meet an accumulator. They are one vector load where
  pixels lie side by side and aligned, else a quarter of the tile apart: one thread holds them in
  both cases.
- A tile of cells of logits that are interpolated (`tile_of_cells`) stays beside its nodes, and in
  the backward beside six sums: a thread holds 8 elements of float32, where 16 took all its
  registers. A row of 2^n nodes has 2^n + 1 cells, so that tiles of 16 cells compute the fewest
  pixels of the usual sizes; of 8 cells where 16 warps are too few. Sums are not folded: a thread
  has one pixel of a class.
- MAX_GROUP tiles are added up in float32 at most, before float64 takes over: 16 x FOLD terms, with
  an error of some 1e-7 that is smaller still once rows of a tile are added up as a tree.
"""

from __future__ import annotations

from dataclasses import dataclass

FOLD = 4
MAX_GROUP = 16
MAX_BLOCK_C = 256
MAX_BLOCK_P = 1024
MIN_BLOCK_P = 16
MIN_ELEMENTS = 1024
MIN_ROW_BYTES = 64
#: Of a tile of cells: four for each thread of a warp.
MIN_CELL_ELEMENTS = 128
MAX_WARPS = 8
#: As how many classes more what is one number for each pixel counts.
PIXEL_NUMBERS = 6
#: What the partial sums take at most, whatever the size of the input (O(N C) where images alone
#: exceed it).
PARTIAL_BYTES = 4 * 2**20
#: How many programs a multiprocessor gets: as many as live there at a time, so that none has to
#: wait for another to end.
PROGRAMS = 4
#: How many pixels of a cell are added up at most before others, for the same reason as MAX_GROUP.
MAX_CELL_PIXELS = 64
#: The fewest rows of nodes of a patch: one row of cells more is computed.
MIN_BAND = 8


@dataclass(frozen=True)
class Tile:
    """The shape of the tiles that a kernel is compiled for."""

    block_c: int
    """classes of a tile"""
    chunks: int
    """how many tiles it takes to get through all classes"""
    block_p: int
    """pixels of a tile"""
    warps: int


def power_of_two(least: int) -> int:
    return 1 << max(least - 1, 0).bit_length()


def tile(classes: int, itemsize: int, is_row: bool, halvings: int) -> Tile:
    """The tile of a kernel.

    Args:
        itemsize: the size of a logit in bytes.
        is_row: whether pixels of a class lie side by side.
        halvings: how often to halve what a thread holds, for the reasons above.
    """
    block_c, elements = _block_c(classes), _elements(itemsize)
    least = MIN_ROW_BYTES // itemsize if is_row else MIN_BLOCK_P
    block_p = max(min(elements // block_c, MAX_BLOCK_P), least)
    per_warp = elements // 4 >> halvings
    warps = power_of_two((block_c + PIXEL_NUMBERS) * block_p // per_warp + 1) // 2
    while warps > MAX_WARPS and block_p > least and block_c * block_p > MIN_ELEMENTS:
        block_p, warps = block_p // 2, warps // 2
    most = MAX_WARPS if itemsize == 8 else 2 * MAX_WARPS
    return Tile(block_c, -(-classes // block_c), block_p, min(max(warps, 1), most))


def tile_of_cells(classes: int, itemsize: int, halvings: int, cells: int, halo: int) -> Tile:
    """The tile of a kernel that interpolates the cells of a row, one pixel of each at a time
    (upsampled_forward.py, upsampled_backward.py): the one that computes the fewest pixels.

    Args:
        cells: how many are shared out among tiles.
        halo: how many of its cells a tile computes for another.
    """
    block_c, per_warp = _block_c(classes), _elements(itemsize) // 4 >> halvings
    most = MAX_WARPS if itemsize == 8 else 2 * MAX_WARPS

    def warps(block_p: int) -> int:
        held = (min(classes, block_c) + PIXEL_NUMBERS) * block_p
        return power_of_two(-(-held // per_warp))

    def computed(block_p: int) -> int:
        return -(-cells // (block_p - halo)) * block_p

    widths = [MIN_BLOCK_P << i for i in range(MAX_BLOCK_P.bit_length())]
    fitting = [p for p in widths if block_c * p >= MIN_CELL_ELEMENTS and warps(p) <= most]
    block_p = min(fitting, key=computed, default=MIN_BLOCK_P // 2)
    return Tile(block_c, -(-classes // block_c), block_p, min(warps(block_p), most))


def _block_c(classes: int) -> int:
    block_c = min(power_of_two(classes), MAX_BLOCK_C)
    return block_c // 2 if classes > MAX_BLOCK_C else block_c


def _elements(itemsize: int) -> int:
    """As many as four warps hold, before anything is halved."""
    return 2048 if itemsize == 8 else 4096
