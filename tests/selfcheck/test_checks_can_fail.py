"""Every check of `jml-kernels check` finds the fault that it is there for: each is planted in the
operator of the CPU."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from needs import cpu_kernels
from parametrize import each

from jml_kernels import ops
from jml_kernels.memory import allowed_beside
from jml_kernels.selfcheck import bad_input, memory_bound, on_gpu, runner
from jml_kernels.selfcheck.corpus.steps import ON_GPU, UPSAMPLED_MEMORY
from jml_kernels.selfcheck.report import rows_and_failures, to_json
from jml_kernels.selfcheck.results import Measure, Mismatch, Report, Row, Subject, Trial

CPU = Subject("cpu", quick=True)
pytestmark = cpu_kernels
OPERATOR = ops.LOSSES["cpu"]
numbers = itertools.count()


def right(*arguments):
    """The loss alone, of what the operator returns."""
    return OPERATOR(*arguments)[0]


def plant(monkeypatch, fault) -> None:
    monkeypatch.setitem(ops.LOSSES, "cpu", lambda *arguments: (fault(*arguments),))


def too_large(*arguments):
    return right(*arguments) * (1 + 1e-4)


def no_gradient_of_all(*arguments):
    logits = arguments[0]
    return right(*arguments) + 1e-2 * logits.detach().to(torch.float64).mean()


def never_the_same(*arguments):
    return right(*arguments) * (1 + 1e-6 * next(numbers))


def other_with_other_threads(*arguments):
    return right(*arguments) * (1 + 1e-6 * torch.get_num_threads())


def anything_goes(*arguments):
    return torch.zeros(())


def other_in_a_graph(*arguments):
    return right(*arguments) * (1.01 if torch.compiler.is_compiling() else 1)


def a_graph_break(*arguments):
    torch._dynamo.graph_break()
    return right(*arguments)


def a_copy(*arguments):
    return right(*arguments) + torch.zeros_like(arguments[0]).flatten()[0]


def a_gradient_elsewhere(*arguments):
    logits, *others = arguments
    return right(logits.clone(), *others)


def an_exception(*arguments):
    raise KeyError("planted")


@pytest.mark.parametrize(
    ("check", "fault", "found"),
    [
        ("parity", too_large, "loss error"),
        ("parity", too_large, "gradient error"),
        ("parity", an_exception, "KeyError: 'planted'"),
        ("gradcheck", no_gradient_of_all, "Jacobian mismatch"),
        ("same bits", never_the_same, "1 of 1 numbers of the loss differ"),
        ("any threads", other_with_other_threads, "with 2 threads and with 1"),
        ("bad input", anything_goes, "loss 0.0"),
        ("torch.compile", other_in_a_graph, "loss error"),
        ("torch.compile", a_graph_break, "Unsupported"),
        ("memory", a_copy, "bytes "),
        ("memory", a_gradient_elsewhere, "a gradient elsewhere"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_fault_is_found(check, fault, found, monkeypatch):
    trials = runner.CHECKS[check](CPU)[:5]
    row, failures = runner.try_all(CPU, check, trials, runner.Silent())
    assert (row.passed, row.failed, failures) == (len(trials), 0, [])
    plant(monkeypatch, fault)
    row, failures = runner.try_all(CPU, check, trials, runner.Silent())
    assert row.failed > 0
    assert row.passed + row.failed == len(trials)
    assert any(found in failure.found for failure in failures)
    assert {failure.case for failure in failures} <= {trial.case for trial in trials}


def test_bad_labels_and_numbers_are_each_looked_at(monkeypatch):
    """What is refused before any kernel runs does not depend on one."""
    plant(monkeypatch, anything_goes)
    others = {trial.name for trial in (*bad_input.REFUSALS, *bad_input.NO_PROBABILITIES)}
    trials = [trial for trial in bad_input.trials(CPU) if trial.case not in others]
    row, failures = runner.try_all(CPU, "bad input", trials, runner.Silent())
    assert row.passed == 0
    assert {failure.expected.split(" that")[0] for failure in failures} == {"an IndexError", "nan"}


def test_a_call_that_is_not_refused_is_found(monkeypatch):
    """Nor one that is refused in words of no use."""
    monkeypatch.setattr(bad_input, "jaccard_metric_loss", lambda *_, **__: torch.zeros(()))
    raised = [trial.error for trial in bad_input.REFUSALS]
    raised += [ValueError for _ in bad_input.NO_PROBABILITIES]
    trials = bad_input.trials(CPU)[-len(raised) :]
    row, failures = runner.try_all(CPU, "bad input", trials, runner.Silent())
    assert row.passed == 0
    assert {failure.found for failure in failures} == {"loss 0.0"}

    def without_words(*_, **__):
        raise next(errors)

    monkeypatch.setattr(bad_input, "jaccard_metric_loss", without_words)
    errors = (error("no") for error in raised)
    row, failures = runner.try_all(CPU, "bad input", trials, runner.Silent())
    assert row.passed == 0
    assert all(failure.found.endswith("Error: no") for failure in failures)


# ---- what becomes of a trial ---------------------------------------------------------------------


def judged(*measures: Measure):
    return runner.try_all(CPU, "parity", [Trial("a case", lambda: measures)], runner.Silent())


def test_what_is_no_number_fails():
    row, (failure,) = judged(Measure("error", math.nan, 1.0))
    assert (row.passed, row.failed) == (0, 1)
    assert (failure.found, failure.expected) == ("error nan", "at most 1e+00")


def test_an_exception_is_a_failure():
    def run():
        raise RuntimeError(999 * "long ")

    row, (failure,) = runner.try_all(CPU, "parity", [Trial("a case", run)], runner.Silent())
    assert (row.failed, failure.expected) == (1, "no exception")
    assert failure.found.startswith("RuntimeError: long long")
    assert "test_checks_can_fail.py:" in failure.found
    assert len(failure.found) < 600


def test_the_worst_is_kept():
    measures = [Measure("error", 0.5, 1.0), Measure("error", 0.03, 0.01), Measure("bytes", 3, 4)]
    row, failures = judged(*measures)
    assert row.worst == (measures[1], measures[2])
    assert [failure.found for failure in failures] == ["error 3e-02"]


def test_two_things_wrong_with_a_case_are_one_failed_case():
    row, failures = judged(Measure("a", 2.0, 1.0), Measure("b", 2.0, 1.0))
    assert (row.failed, len(failures)) == (1, 2)


def test_json_there_and_back():
    report = Report()
    report.add(*judged(Measure("error", math.nan, 1.0), Measure("bytes", 3, 4)))
    report.add(Row("cpu", "on the CPU", "memory", skipped="no"))
    found = to_json(report, {}, False, 1.0)
    assert found["rows"][0]["worst"][0]["found"] is None
    again = Report()
    for row, failures in rows_and_failures(found):
        again.add(row, failures)
    assert again.failures == report.failures
    assert str(again.rows) == str(report.rows)  # NaN is not NaN


# ---- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("trial", memory_bound.trials(Subject("cpu")), ids=lambda trial: trial.case)
def test_a_second_gradient_would_exceed_what_is_allowed(trial):
    """Else the check could not fail."""
    case, subject = trial.run.args
    gradient = math.prod(case.shape) * case.dtype.itemsize
    assert gradient > 2 * allowed_beside(case.shape, subject.device)


@each(UPSAMPLED_MEMORY)
def test_logits_of_full_size_would_exceed_what_is_allowed(case):
    full = case.elements * case.dtype.itemsize
    assert full > 2 * allowed_beside(case.shape, "cpu", upsamples=True)


def test_a_backend_that_makes_them_is_found():
    (measure,) = memory_bound.measure(UPSAMPLED_MEMORY[-1], Subject("reference"))
    assert measure.share > 2


# ---- what a GPU does, without one ----------------------------------------------------------------


def test_nothing_of_a_gpu_runs_without_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for check in ("host never waits", "CUDA graph", "side streams"):
        assert runner.CHECKS[check](CPU) == "no GPU here"


class Now:
    """Streams and graphs of a GPU that does everything at once, and replays nothing."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def wait_stream(self, stream):
        pass

    def replay(self):
        pass


@pytest.fixture
def gpu_of_the_cpu(monkeypatch):
    for name in ("Stream", "CUDAGraph", "stream", "graph", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, Now)
    for name in ("synchronize", "set_sync_debug_mode", "_sleep"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)


@each(ON_GPU)
def test_steps_of_a_gpu(case, gpu_of_the_cpu):
    """As far as they can go here: a graph that replays nothing is found."""
    assert on_gpu._never_waits(case, CPU) == []
    assert on_gpu._on_side_streams(case, CPU) == []
    with pytest.raises(Mismatch, match="differ in a graph"):
        on_gpu._captured(case, CPU)


def test_an_input_that_comes_late_is_missed(gpu_of_the_cpu, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "copy_", lambda self, other: self)
    with pytest.raises(Mismatch, match="differ on a side stream"):
        on_gpu._on_side_streams(ON_GPU[0], CPU)
