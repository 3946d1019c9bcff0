"""A run of the benchmark: workers one after the other, what they say as it comes, all of it in the
end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from .cases import BenchmarkCase
from .growth import along
from .worker import Settings, messages


@dataclass
class Results:
    """What came of a run, ready for JSON.

    Attributes:
        machine: see `machine.describe`.
        rows: of the cases, see `figures.row`.
        sweeps: by axis, of the cases along it.
    """

    machine: dict[str, dict[str, str]] = field(default_factory=dict)
    rows: list[dict] = field(default_factory=list)
    sweeps: dict[str, list[dict]] = field(default_factory=dict)

    def every_row(self) -> Iterator[dict]:
        yield from self.rows
        for rows in self.sweeps.values():
            yield from rows


#: Told what is measured next, how many cases are done, and of how many.
Progress = Callable[[str, int, int], None]


def run(
    settings: Settings,
    allocators: list[str],
    axes: list[str],
    progress: Progress = lambda doing, done, total: None,
    on_row: Callable[[dict], None] = lambda row: None,
    results: Results | None = None,
) -> Results:
    """Measure all cases under each setting of the allocator, and sweeps from the first case under
    the first.

    Args:
        axes: of `growth.AXES`.
        on_row: called with every row of `settings.cases` as it comes.
        results: to fill and return; they hold what came before a worker failed.

    Raises:
        WorkerError: where a worker failed.
    """
    results = Results() if results is None else results
    cases: list[BenchmarkCase] = settings.cases
    jobs = [(allocator, case, results.rows) for allocator in allocators for case in cases]
    for axis in axes:
        rows = results.sweeps.setdefault(axis, [])
        jobs += [(allocators[0], case, rows) for case in along(axis, cases[0])]
    done = 0
    for allocator in allocators:  # a process each
        left = [(case, rows) for how, case, rows in jobs if how == allocator]
        told = replace(settings, allocator=allocator, cases=[case for case, _ in left])
        for message in messages(told):
            results.machine = message.get("machine", results.machine)
            if "doing" in message:
                progress(message["doing"], done, len(jobs))
            if "result" in message:
                done += 1
                _, rows = left.pop(0)
                rows.append(message["result"])
                if rows is results.rows:
                    on_row(message["result"])
    return results
