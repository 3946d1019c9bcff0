"""Which columns the forward adds up, and where they lie in a program's row of partial sums."""

from __future__ import annotations

from typing import NamedTuple

from ..statistics import EXTREMA, SUMS, TOTALS, column_bits
from .finish import NO_SLOT, SLOT_OF_VALID

CLASS_COLUMNS = SUMS + EXTREMA

#: What each column of a hard target is made of (p is in [0, 1]): the sum of p at the label is the
#: intersection too, and with the sum of 1 - p there it is the number of labels, above 0 if there is
#: one.
HARD_SOURCES = {
    "intersection": ("true_positive",),
    "target_squared": ("true_positive", "false_negative"),
    "target_max": ("true_positive", "false_negative"),
    "present": ("true_positive", "false_negative"),
}


class TargetColumns(NamedTuple):
    """What is requested of one target."""

    columns: int
    """as bits"""
    is_hard: bool = False
    """whether the target is 0 or 1, see `HARD_SOURCES`"""
    is_teacher: bool = False
    has_weight_sum: bool = False
    """whether its cross-entropy is divided by a sum of weights, and not by the number of pixels or
    elements"""

    def requests(self, name: str) -> bool:
        return bool(self.columns & column_bits(name))

    def sources(self, name: str) -> tuple[str, ...]:
        """The columns that the forward adds up to make one that is requested."""
        return HARD_SOURCES.get(name, (name,)) if self.is_hard else (name,)

    def added(self) -> int:
        """All of these and the totals, as bits."""
        requested = filter(self.requests, CLASS_COLUMNS)
        names = {source for name in requested for source in self.sources(name)}
        return column_bits(*names) | self.columns & column_bits(*TOTALS)


class Slots(NamedTuple):
    """Where each column of a call's targets lies in a row of partial sums, in the order of the
    kernel: sums of all targets, maxima of all targets, totals. See `finish.finish_kernel`."""

    sums: int
    """how many there are"""
    maxima: int
    totals: int
    of_columns: tuple[int, ...]
    second: tuple[int, ...]
    of_totals: tuple[int, ...]


def slots(targets: list[TargetColumns]) -> Slots:
    added = [target.added() for target in targets]
    slot_of = {}
    for names in (SUMS, EXTREMA):
        for t, bits in enumerate(added):
            for name in names:
                if bits & column_bits(name):
                    slot_of[t, name] = len(slot_of)
    n_sums = sum((bits & column_bits(*SUMS)).bit_count() for bits in added)
    of_columns, second = [], []
    for t, target in enumerate(targets):
        for name in CLASS_COLUMNS:
            sources = target.sources(name) if target.requests(name) else ()
            source_slots = [slot_of[t, source] for source in sources]
            first_two = (*source_slots, NO_SLOT.value, NO_SLOT.value)[:2]
            of_columns.append(first_two[0])
            second.append(first_two[1])
    of_totals, n_totals = _total_slots(targets)
    return Slots(
        n_sums, len(slot_of) - n_sums, n_totals, tuple(of_columns), tuple(second), of_totals
    )


def _total_slots(targets: list[TargetColumns]) -> tuple[tuple[int, ...], int]:
    """(the slot of each total of each target, how many slots there are)"""
    of_totals, used = [], 0
    for target in targets:
        for name in TOTALS[:-1]:
            slot = NO_SLOT.value
            if target.requests(name):
                if name == "cross_entropy_weight" and not target.has_weight_sum:
                    slot = SLOT_OF_VALID.value
                elif name != "target_entropy" or target.is_teacher:
                    slot, used = used, used + 1
            of_totals.append(slot)
        of_totals.append(None)  # the last total is `valid`, which all targets share
    return tuple(used if slot is None else slot for slot in of_totals), used + 1
