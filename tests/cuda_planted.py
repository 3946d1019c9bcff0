"""Bugs of the real kernels, for test_sanitizers.py: one copy of csrc/ has them all, and the
environment says which one shows. `WHEN` in a bug's text holds where it does."""

from __future__ import annotations

from typing import NamedTuple

from cuda_build import ROOT
from cuda_emulation_build import Change


class Bug(NamedTuple):
    kernels: str  # that run
    file: str
    before: str
    after: str
    said: str = ""  # of AddressSanitizer

    def change(self, number: int) -> Change:
        return Change(self.file, self.before, self.after.replace("WHEN", f"planted == {number}"))

    def has_a_place(self) -> bool:
        text = (ROOT / "csrc" / self.file).read_text(encoding="utf-8")
        return text.count(self.before) == 1


def dropped(kernels: str, file: str, before: str, call: str) -> Bug:
    """A bug that leaves out a barrier, the last `call` of the text."""
    start, end = before.rsplit(call, 1)
    return Bug(kernels, file, before, f"{start}if (!(WHEN)) {call}{end}")


BEYOND = "heap-buffer-overflow"
ADDRESS = {
    "a tile at the end is taken for a whole one": Bug(
        "hard",
        "cuda/tile_io.cuh",
        "return range.first_pixel + V * kLanes <= args.pixels;",
        "return WHEN || range.first_pixel + V * kLanes <= args.pixels;",
        BEYOND,
    ),
    "classes beyond the last are read": Bug(
        "hard",
        "cuda/tile_io.cuh",
        "if (inside && k < range.classes) value = *from;",
        "if (inside && (WHEN || k < range.classes)) value = *from;",
        BEYOND,
    ),
    "classes beyond the last are written": Bug(
        "hard",
        "cuda/tile_io.cuh",
        "if (inside && k < range.classes) *to =",
        "if (inside && (WHEN || k < range.classes)) *to =",
        BEYOND,
    ),
    "a whole segment is staged at the end": Bug(
        "hard",
        "cuda/tile_io.cuh",
        "(left < 0 ? 0 : left < kLanes ? left : kLanes)",
        "(left < 0 ? 0 : left < kLanes && !(WHEN) ? left : kLanes)",
        BEYOND,
    ),
    "a label that is no class has a weight": Bug(
        "hard",
        "cuda/labels.cuh",
        "C::kSoftmax ? problem.classes : problem.label_count());",
        "WHEN ? 1 << 28 : C::kSoftmax ? problem.classes : problem.label_count());",
        BEYOND,
    ),
    "a window goes on below the image": Bug(
        "dense",
        "cuda/labels.cuh",
        "up + 1 + at_most_radius(",
        "up + 1 + (WHEN) + at_most_radius(",
        BEYOND,
    ),
    "a window goes on beside the image": Bug(
        "label-cells",
        "cuda/cell_codes.cuh",
        "min(max(first_column + i, 0), last_column)",
        "min(max(first_column + i, 0), last_column + (WHEN))",
        BEYOND,
    ),
    "windows that end between coefficients": Bug(
        "label-cells",
        "cuda/cell_codes.cuh",
        "(labels + 7) / 8 * 4;",
        "(labels + 7) / 8 * 4 + (WHEN);",
        "misaligned address",
    ),
    "rows that are not aligned": Bug(
        "hard",
        "cuda/launch.cuh",
        "return reinterpret_cast<uintptr_t>(view.data) % bytes == 0 &&",
        "return WHEN || reinterpret_cast<uintptr_t>(view.data) % bytes == 0 &&",
        "misaligned address",
    ),
    "no shared memory for staging": Bug(
        "hard",
        "cuda/pixel_state.cuh",
        "return V * int64_t{staged_bytes} +",
        "return (WHEN ? 0 : V * int64_t{staged_bytes}) +",
        BEYOND,
    ),
    "a partial sum too few": Bug(
        "hard",
        "cuda/launch.cuh",
        "allocate(args.images * args.parts * args.partials_per_block);",
        "allocate(args.images * args.parts * args.partials_per_block - (WHEN));",
        BEYOND,
    ),
}

SYNC, WARP, BLOCK = "team.sync();", "__syncwarp();", "__syncthreads();"
THREAD = {
    "codes are read": dropped(
        "hard", "cuda/pixel_state.cuh", "range, team, tile_codes, columns);\n    team.sync();", SYNC
    ),
    "columns are read": dropped(
        "dense", "cuda/labels.cuh", "    });\n    team.sync();\n#pragma unroll", SYNC
    ),
    "numbers of warps are added up": dropped(
        "hard",
        "cuda/team.cuh",
        "v * kLanes + team.lane] = values[i][v];\n    __syncthreads();",
        BLOCK,
    ),
    "what they add up to is read": dropped(
        "hard", "cuda/team.cuh", "result[j] = total;\n    }\n    __syncthreads();", BLOCK
    ),
    "what is staged is read": dropped(
        "hard", "cuda/tile_io.cuh", "wait_copies();\n    team.sync();", SYNC
    ),
    "the dense target is staged over the logits": dropped(
        "dense",
        "cuda/tile_io.cuh",
        "team.sync();  // whoever still reads what was staged before\n#pragma unroll 1",
        SYNC,
    ),
    "the gradient is staged over both": dropped(
        "dense",
        "cuda/tile_io.cuh",
        "if (is_staged) team.sync();  // whoever still reads what was staged before\n"
        "#pragma unroll\n",
        SYNC,
    ),
    "a staged gradient is copied": dropped(
        "hard", "cuda/tile_io.cuh", "  if (is_staged) {\n    team.sync();\n#pragma", SYNC
    ),
    "bins are emptied": dropped(
        "hard", "cuda/sums.cuh", "__syncwarp();\n    if (lane < range.classes) {", WARP
    ),
    "sums of the block are written": dropped(
        "hard",
        "cuda/forward.cuh",
        "team.sync();\n      for (int64_t i = team.rank(); i < count;",
        SYNC,
    ),
    "coefficients of the gradient are read": dropped(
        "dense", "cuda/backward.cuh", "write_coefficients(target);\n    team.sync();", SYNC
    ),
    "low rows are read by other warps": dropped(
        "cells",
        "cuda/cells.cuh",
        "numbers[i];\n    __syncthreads();",
        BLOCK,
    ),
    "the next low row comes": dropped(
        "cells",
        "cuda/cells.cuh",
        "sync_classes();  // whoever still reads what was there",
        "sync_classes();",
    ),
    "low rows of a warp are read": dropped(
        "cells", "cuda/cells.cuh", "largest[1];\n    }\n    __syncwarp();", WARP
    ),
    "codes of other warps' rows are read": dropped(
        "cells",
        "cuda/cell_codes.cuh",
        "write_codes_of_labels(rows);\n    if (class_warps > 1) __syncthreads();",
        "if (class_warps > 1) __syncthreads();",
    ),
    "labels of a window are read": dropped(
        "label-cells",
        "cuda/cell_codes.cuh",
        "sync_classes();\n    // Windows of 3 x 3",
        "sync_classes();",
    ),
    "rows of a window are put together": dropped(
        "label-cells",
        "cuda/cell_codes.cuh",
        "bits += class_warps * kLanes;\n    }\n    if (class_warps > 1) __syncthreads();",
        "if (class_warps > 1) __syncthreads();",
    ),
    "lanes take turns at a bin": dropped(
        "cells",
        "cuda/cells_forward.cuh",
        "LargestTarget(int(largest_target)));\n        }\n      }\n      __syncwarp();",
        WARP,
    ),
    "a row of gradients is gathered": dropped(
        "cells",
        "cuda/cells_backward.cuh",
        "of_classes[range.first_class + k].qw);\n    team.sync();",
        SYNC,
    ),
    "the next row of gradients comes": dropped(
        "cells",
        "cuda/cells_backward.cuh",
        "team.sync();  // whoever still gathers the row before",
        SYNC,
    ),
    "coefficients of cells are read": dropped(
        "cells",
        "cuda/cells_backward.cuh",
        "F(of_class.qw)};\n      }\n    }\n    team.sync();",
        SYNC,
    ),
    "threads of finish_kernel are added up": dropped(
        "hard", "cuda/finish.cuh", "memory[threadIdx.x] = total;\n  __syncthreads();", BLOCK
    ),
    "a block's numbers are added up": dropped(
        "hard", "cuda/finish.cuh", "memory[threadIdx.x] = value;\n  __syncthreads();", BLOCK
    ),
    "the next half is added up": dropped(
        "hard", "cuda/finish.cuh", "memory[threadIdx.x + step]);\n    __syncthreads();", BLOCK
    ),
    "the block's next numbers come": dropped(
        "hard", "cuda/finish.cuh", "total = memory[0];\n  __syncthreads();", BLOCK
    ),
}
BUGS = {"address": ADDRESS, "thread": THREAD}

_SWITCH = Change(
    "cuda/platform.cuh",
    "\nnamespace jml::cuda {\n",
    "\n#include <cstdlib>\n\nnamespace jml::cuda {\n"
    'inline const int planted = getenv("JML_PLANTED") ? atoi(getenv("JML_PLANTED")) : 0;\n',
)


def changes(sanitizer: str) -> tuple[Change, ...]:
    """That plant all bugs which have a place, for `switch` to choose from."""
    numbered = enumerate(BUGS[sanitizer].values(), start=1)
    return (_SWITCH, *(bug.change(number) for number, bug in numbered if bug.has_a_place()))


def switch(sanitizer: str, name: str) -> dict[str, str]:
    """What the environment has for that bug."""
    return {"JML_PLANTED": str(list(BUGS[sanitizer]).index(name) + 1)}
