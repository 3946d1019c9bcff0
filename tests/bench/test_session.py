"""A run: workers one after the other, and all that they say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jml_kernels.bench import session
from jml_kernels.bench.cases import BenchmarkCase
from jml_kernels.bench.growth import along
from jml_kernels.bench.session import Results, run
from jml_kernels.bench.worker import Settings, WorkerError

CASES = [BenchmarkCase((2, 3, 8, 8)), BenchmarkCase((2, 3, 8, 8), "soft")]
GIVEN = Settings(CASES, ["cpu", "eager"], rounds=5, threads=2)


@pytest.fixture
def told(monkeypatch) -> list[Settings]:
    """What workers were told; they measure nothing."""
    found: list[Settings] = []

    def messages(settings: Settings) -> Iterator[dict]:
        found.append(settings)
        yield {"machine": {"number": len(found)}}
        for case in settings.cases:
            yield {"doing": case.name}
            yield {"result": {"name": case.name, "allocator": settings.allocator}}

    monkeypatch.setattr(session, "messages", messages)
    return found


def names(cases: list[BenchmarkCase]) -> list[str]:
    return [case.name for case in cases]


def test_allocators_and_sweeps(told):
    """Sweeps are from the first case, under the first setting."""
    found = []
    results = run(GIVEN, ["warm", "default"], ["batch", "classes"], on_row=found.append)
    sweeps = [along("batch", CASES[0]), along("classes", CASES[0])]
    expected = [("warm", [*CASES, *sweeps[0], *sweeps[1]]), ("default", CASES)]
    assert [(settings.allocator, settings.cases) for settings in told] == expected
    for settings in told:
        assert (settings.names, settings.device, settings.rounds, settings.threads) == (
            ["cpu", "eager"],
            "cpu",
            5,
            2,
        )
    assert [(row["allocator"], row["name"]) for row in results.rows] == [
        (allocator, name) for allocator in ("warm", "default") for name in names(CASES)
    ]
    assert {axis: [row["name"] for row in rows] for axis, rows in results.sweeps.items()} == {
        "batch": names(sweeps[0]),
        "classes": names(sweeps[1]),
    }
    assert found == results.rows
    assert list(results.every_row()) == [
        *results.rows,
        *results.sweeps["batch"],
        *results.sweeps["classes"],
    ]
    assert results.machine == {"number": 2}


def test_progress(told):
    """Done so far, of all that there is."""
    seen = []
    run(GIVEN, ["default"], ["batch"], progress=lambda *what: seen.append(what))
    doing = names([*CASES, *along("batch", CASES[0])])
    assert seen == [(name, i, len(doing)) for i, name in enumerate(doing)]


def test_a_worker_that_fails_ends_the_run(monkeypatch):
    """What came before was told."""

    def messages(settings: Settings) -> Iterator[dict]:
        yield {"result": {"name": "first"}}
        raise WorkerError("why")

    monkeypatch.setattr(session, "messages", messages)
    found, results = [], Results()
    with pytest.raises(WorkerError, match="why"):
        run(GIVEN, ["default"], [], on_row=found.append, results=results)
    assert found == results.rows == [{"name": "first"}]
