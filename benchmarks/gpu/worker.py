"""A process that measures: a kernel that fails, or never ends, takes the process with it and
nothing else.

    python -m benchmarks.gpu.worker '{"entries": [0, 1], ...}'

Every line it prints is JSON: {"doing": competitor, "entry": i}, {"result": row, "entry": i},
{"failed": why, "entry": i} where nothing of a case was measured, {"lost": why} where the GPU is
lost to it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field

from jml_kernels.bench.measure import DeviceLostError, first_line, measure, release_memory

from .cases import DEVICE, ENTRIES, quick
from .figures import compared
from .prepare import prepare

LOST = 3


@dataclass
class Settings:
    """What a worker is told.

    Attributes:
        entries: of `cases.ENTRIES`, in this order.
        rounds: of which every figure is the median; 0: nothing is timed, only compiled.
        until: no case begins after it, in seconds since 1970.
        quick: see `cases.quick`.
        without: by entry, who is left out and why. JSON has no integer keys.
    """

    entries: list[int]
    rounds: int
    until: float
    quick: bool = False
    without: dict[str, dict[str, str]] = field(default_factory=dict)

    def json(self) -> str:
        return json.dumps(asdict(self))


def work(settings: Settings, say) -> None:
    for index in settings.entries:
        if time.time() >= settings.until:
            return
        entry = (quick(ENTRIES[index]) if settings.quick else ENTRIES[index]).here()

        def doing(what: str, index: int = index) -> None:
            say(doing=what, entry=index)

        try:
            if settings.rounds == 0:
                doing("compile")
                prepare(entry)
            else:
                without = settings.without.get(str(index), {})
                names = list(entry.competitors)
                row = measure(entry.case, names, DEVICE, settings.rounds, doing, without)
                say(result=compared(row), entry=index)
        except DeviceLostError:
            raise
        except Exception as error:  # whatever it is, it is this case's
            say(failed=first_line(error), entry=index)
        release_memory(DEVICE)


def main() -> None:
    # What others print goes where it is not taken for a message.
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**message: object) -> None:
        print(json.dumps(message), file=messages, flush=True)

    try:
        work(Settings(**json.loads(sys.argv[1])), say)
    except DeviceLostError as error:
        say(lost=str(error))
        sys.exit(LOST)


if __name__ == "__main__":
    main()
