"""What warps issue, as it is written down."""

from __future__ import annotations

from typing import NamedTuple


class Access(NamedTuple):
    """What an instruction asked of memory."""

    address: int
    """of the first lane"""
    bytes: int
    """that its lanes asked for"""
    sectors: int
    """global: how many of 32 bytes they lie in; shared: how often the banks are read"""
    new_sectors: int
    """global: those of them that the block touches for the first time"""


class Event(NamedTuple):
    """An instruction that a warp issued."""

    address: int
    lanes: int
    """that it was executed for"""
    access: Access | None = None
