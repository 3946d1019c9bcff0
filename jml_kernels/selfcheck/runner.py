"""Runs the checks of backends, and keeps what they find."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from ..backend import BY_NAME, NAMES, backends
from . import (
    bad_input,
    compilation,
    gradients,
    memory_bound,
    on_gpu,
    parity,
    repeatability,
    stand_in,
)
from .report import number
from .results import RUNS, Failure, Measure, Mismatch, Report, Row, Subject, Trial

#: Name -> the trials of a backend, or why there are none; in the order in which they run.
CHECKS: dict[str, Callable[[Subject], list[Trial] | str]] = {
    "gradcheck": gradients.trials,
    "parity": parity.trials,
    "same bits": repeatability.twice,
    "any threads": repeatability.any_threads,
    "bad input": bad_input.trials,
    "torch.compile": compilation.trials,
    "memory": memory_bound.trials,
    "memory, upsample": memory_bound.upsampled_trials,
    "host never waits": on_gpu.host_never_waits,
    "CUDA graph": on_gpu.cuda_graph,
    "side streams": on_gpu.side_streams,
}
#: Characters of an exception.
MOST_SAID = 500


class Progress(Protocol):
    """Who is told how far the checks are."""

    def start(self, what: str, count: int | None) -> None:
        """`count` trials begin; None: nobody knows how many."""

    def step(self, case: str) -> None:
        """A trial begins."""

    def done(self, row: Row) -> None:
        """A check has ended."""


class Silent:
    """A progress that nobody watches."""

    def start(self, what: str, count: int | None) -> None:
        pass

    def step(self, case: str) -> None:
        pass

    def done(self, row: Row) -> None:
        pass


def run(asked: Sequence[str], quick: bool, progress: Progress) -> Report:
    """All checks of the backends asked for; of all that run here where none is.

    A backend that was asked for and cannot run is a failure, unless its kernels run without their
    hardware in a process of their own: Triton's, through its interpreter.
    """
    report = Report()
    for backend in asked or NAMES:
        reason = backends()[backend]
        if reason is None:
            check_backend(Subject(backend, quick), report, progress)
        elif backend in asked and has_stand_in(backend):
            progress.start(f"{backend}, {BY_NAME[backend].stand_in.how}", None)
            for row, failures in stand_in.check(BY_NAME[backend], quick):
                report.add(row, failures)
                progress.done(row)
        else:
            row, failures = cannot_run(backend, reason, backend in asked)
            report.add(row, failures)
            progress.done(row)
    return report


def has_stand_in(backend: str) -> bool:
    """Whether a process can be started that runs its kernels without their hardware."""
    stand_in = BY_NAME[backend].stand_in
    return stand_in is not None and stand_in.reason is None


def cannot_run(backend: str, reason: str, is_asked: bool) -> tuple[Row, list[Failure]]:
    if is_asked:
        failure = Failure(backend, RUNS, "", reason, "a backend that runs here")
        return Row(backend, "", RUNS, failed=1, skipped=reason), [failure]
    if has_stand_in(backend):
        how = BY_NAME[backend].stand_in.how
        reason += f"; --backend {backend} runs its kernels {how}, without a GPU"
    return Row(backend, "", RUNS, skipped=reason), []


def check_backend(subject: Subject, report: Report, progress: Progress) -> None:
    for check, trials_of in CHECKS.items():
        trials = trials_of(subject) or "its cases are left to the run without --quick"
        if isinstance(trials, str):
            row, failures = Row(subject.backend, subject.where, check, skipped=trials), []
        else:
            progress.start(f"{subject.backend}: {check}", len(trials))
            row, failures = try_all(subject, check, trials, progress)
        report.add(row, failures)
        progress.done(row)


def try_all(
    subject: Subject, check: str, trials: list[Trial], progress: Progress
) -> tuple[Row, list[Failure]]:
    failures, worst, passed = [], {}, 0
    for trial in trials:
        progress.step(trial.case)
        measures, wrong = attempt(trial)
        passed += not wrong
        failures += [Failure(subject.backend, check, trial.case, *words) for words in wrong]
        for measure in measures:
            before = worst.setdefault(measure.what, measure)
            worst[measure.what] = max(before, measure, key=lambda one: one.share)
    failed = len(trials) - passed
    row = Row(subject.backend, subject.where, check, passed, failed, tuple(worst.values()))
    return row, failures


def attempt(trial: Trial) -> tuple[list[Measure], list[tuple[str, str]]]:
    """(what was measured, what is wrong with it: found and expected, in words)"""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Triton's interpreter divides by 0 as a GPU does
            measures = list(trial.run())
    except Mismatch as mismatch:
        return [], [(mismatch.found, mismatch.expected)]
    except Exception as error:
        return [], [(_described(error), "no exception")]
    wrong = [
        (f"{measure.what} {number(measure.found)}", f"at most {number(measure.allowed)}")
        for measure in measures
        if not measure.holds
    ]
    return measures, wrong


def _described(error: Exception) -> str:
    """What it says, if not at any length, and where it comes from."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error)
    shown = text if len(text) <= MOST_SAID else f"{text[:MOST_SAID]}..."
    return f"{type(error).__name__}: {shown} ({Path(where.filename).name}:{where.lineno})"
