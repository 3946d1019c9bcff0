"""The benchmark on a GPU, but for the GPU: what is counted and compared, how long it takes, what is
written, and that it goes on after what goes wrong."""

from __future__ import annotations

import ast
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import jml_kernels as jml

ROOT = Path(__file__).parents[1]
# Last: an installed package must not be hidden by its sources.
sys.path.append(str(ROOT))

from benchmarks.gpu import __main__ as main  # noqa: E402
from benchmarks.gpu import (  # noqa: E402
    document,
    figures,
    prepare,
    profile,
    tests,
    worker,
    workers,
)
from benchmarks.gpu.budget import Budget  # noqa: E402
from benchmarks.gpu.cases import (  # noqa: E402
    BATCHES,
    BYTES,
    CLASSES,
    DTYPES,
    ENTRIES,
    LAYOUTS,
    QUICK,
    Entry,
    quick,
)
from jml_kernels.bench.cases import DISTILLATION, BenchmarkCase  # noqa: E402
from jml_kernels.bench.competitor import Competitor  # noqa: E402
from jml_kernels.bench.competitors import COMPILED, EAGER  # noqa: E402
from jml_kernels.bench.figures import row as row_of  # noqa: E402

# ---- cases and bytes -----------------------------------------------------------------------------


def test_every_class_dtype_and_layout_is_there():
    names = [entry.case.name for entry in ENTRIES]
    assert len(set(names)) == len(names)
    labels = {
        (entry.case.shape[1], entry.case.dtype, entry.case.layout)
        for entry in ENTRIES
        if entry.case.kind == "labels"
    }
    assert labels >= set(itertools.product(CLASSES, DTYPES, LAYOUTS))
    kinds = {entry.case.kind for entry in ENTRIES if EAGER in entry.competitors}
    assert kinds == {
        "labels",
        "boundary smoothing",
        "CE + JML, labels",
        "soft target",
        "distillation, labels",
    }
    assert sum(map(len, BATCHES)) == len(ENTRIES)


def test_sizes():
    for entry in ENTRIES:
        small = entry.case.shape[2] < 512 or entry.case.upsample > 1
        assert small or 0.7 * BYTES < entry.case.bytes <= BYTES
    for entry in (quick(ENTRIES[index]) for index in QUICK):
        assert entry.case.bytes <= 2**25
        assert COMPILED not in entry.competitors


# ---- figures -------------------------------------------------------------------------------------

CASE = BenchmarkCase((1, 2, 512, 512))  # 2 MiB of logits, and 2 MiB of labels
SIZE = CASE.bytes
COPIES = [2.0, 2.0, 3.0]  # a byte of a copy takes 1 / SIZE


def turns(cuda=(1.25, 2.5), triton=(2.0, 2.0)) -> dict:
    def of(forward, backward):
        parts = {"forward": forward, "backward": backward, "step": forward + backward}
        return {part: [value] * 3 for part, value in parts.items()}

    found = {"cuda": of(*cuda), "triton": of(*triton), EAGER: of(10.0, 30.0)}
    found = {name: parts for name, parts in found.items() if parts["forward"][0]}
    return found | {"copy": {"forward": COPIES}}


def row(**changed) -> dict:
    arguments = {
        "case": CASE,
        "device": "cuda",
        "turns": turns(),
        "peaks": {"cuda": SIZE, EAGER: 5 * SIZE},
        "errors": {},
        "wrong": {},
        "left_out": {},
    }
    return figures.compared(row_of(**arguments | changed))


def test_who_is_ahead():
    found = row()
    assert found["ahead"] == {"forward": "cuda", "backward": "triton", "step": "cuda"}
    assert figures.triton_ahead([found]) == []
    other = row(turns=turns(cuda=(3.0, 3.0)))
    assert other["ahead"]["step"] == "triton"
    assert figures.triton_ahead([found, other]) == [
        {
            "name": CASE.name,
            "cuda / triton": {"forward": 1.5, "backward": 1.5, "step": 1.5},
        }
    ]


def test_one_backend_is_ahead_of_nobody():
    found = row(turns=turns(cuda=(0.0, 0.0)), left_out={"cuda": "why"})
    assert found["ahead"] is None
    assert found["cuda / triton"] is None
    assert figures.triton_ahead([found]) == []
    assert "cuda failed: why" in figures.line(found)


def test_where_nothing_ran():
    found = row(turns={"copy": {"forward": COPIES}}, left_out={"cuda": "why"})
    assert found["subject"] is None
    assert found["figures"] == {}
    assert figures.line(found) == f"{CASE.name}: cuda failed: why"


def test_a_row_is_json():
    found = row()
    assert json.loads(json.dumps(found, allow_nan=False))["turns"] == found["turns"]
    line = figures.line(found)
    assert "cuda 1250.000 + 2500.000 ms (80%, 80%)" in line
    assert f"{EAGER} 10000.000 + 30000.000 ms (10.7 times cuda)" in line
    assert "ahead cuda" in line


def test_predictions_stand_beside_measurements():
    known = row() | {"name": "53x19x512x512 float32, labels"}
    found = figures.with_prediction(known, "NVIDIA H200")
    assert set(found["predicted"]) == {"forward", "backward"}
    assert "(80%, 80%) predicted (" in figures.line(found)
    for other in (
        figures.with_prediction(row(), "NVIDIA H200"),
        figures.with_prediction(known, ""),
    ):
        assert other["predicted"] is None
        assert "predicted" not in figures.line(other)


# ---- time ----------------------------------------------------------------------------------------


class Clock:
    def __init__(self, now: float = 1000.0):
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_budget():
    clock = Clock()
    budget = Budget(2, now=clock)
    assert budget.end == 1120
    assert budget.left() == 120
    assert budget.left(reserve=0.25) == 90
    assert budget.at_most(0.5) == 60
    clock.now = 1100
    assert budget.left() == 20
    assert budget.at_most(0.5) == 20
    clock.now = 2000
    assert budget.left() == 0


def test_a_budget_may_have_begun_before():
    assert Budget(1, started=970, now=Clock()).left() == 30


# ---- one case ------------------------------------------------------------------------------------


def test_compiling_needs_no_more_than_blank_inputs(monkeypatch):
    called = []

    def find(name):
        def loss(logits, *targets):
            called.append((name, logits.shape, logits.stride(), len(targets)))
            if name == "triton":
                raise ValueError("what fails is told when it is measured")
            return logits.sum()

        return Competitor("made up", lambda case: loss)

    monkeypatch.setattr(prepare, "DEVICE", "cpu")
    monkeypatch.setattr(prepare, "find", find)
    case = BenchmarkCase((2, 3, 8, 8), "soft", DISTILLATION, layout="channels_last")
    prepare.prepare(Entry(case, ("cuda", "triton", EAGER, COMPILED)))
    strides = (192, 1, 24, 3)
    assert called == [(name, case.shape, strides, 2) for name in ("triton", COMPILED)]


# ---- processes -----------------------------------------------------------------------------------


def process(code: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def test_messages_of_a_worker():
    assert list(workers.messages(process("print('{\"a\": 1}')"))) == [{"a": 1}]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import os; os._exit(7)", "status 7"),
        ("import time; time.sleep(60)", "silent for 0.5 s"),
        ('print(\'{"lost": "a kernel failed"}\')', "a kernel failed"),
    ],
)
def test_a_worker_is_lost(code, why):
    with pytest.raises(workers.WorkerLostError, match=why):
        list(workers.messages(process(code), patience=30 if "sleep" not in code else 0.5))


def test_after_a_worker_that_dies_the_next_leaves_out_who_was_at_work():
    begun = []

    def run(settings):
        begun.append(settings)
        for index in settings.entries:
            for name in ("inputs", "cuda", "triton"):
                if name in settings.without.get(str(index), {}):
                    continue
                yield {"doing": name, "entry": index}
                if (index, name) in ((1, "cuda"), (2, "inputs")):
                    raise workers.WorkerLostError("died")
            yield {"result": index, "entry": index}

    settings = worker.Settings([0, 1, 2, 3], 3, 0.0)
    assert list(workers.measured(settings, run)) == [
        {"result": 0, "entry": 0},
        {"result": 1, "entry": 1},
        {"failed": "inputs: died", "entry": 2},
        {"result": 3, "entry": 3},
    ]
    assert [s.entries for s in begun] == [[0, 1, 2, 3], [1, 2, 3], [3]]
    assert begun[1].without == {"1": {"cuda": "died"}}
    assert worker.Settings(**json.loads(begun[1].json())) == begun[1]


def test_workers_that_never_begin_are_not_asked_for_ever():
    def run(settings):
        raise workers.WorkerLostError("no GPU")
        yield

    settings = worker.Settings(list(range(20)), 3, 0.0)
    assert len(list(workers.measured(settings, run))) == workers.LIVES


def test_a_worker_says_what_fails_and_begins_nothing_when_time_is_up(monkeypatch):
    said = []

    def measure_one(case, names, device, rounds, say, without):
        say(names[0])
        clock.now += 10
        raise ValueError("a bad case")

    clock = Clock(0.0)
    monkeypatch.setattr(worker.time, "time", clock)
    monkeypatch.setattr(worker, "measure", measure_one)
    monkeypatch.setattr(worker, "release_memory", lambda device: None)
    monkeypatch.setattr(jml, "backends", lambda: {"cuda": None, "triton": None})
    settings = worker.Settings([4, 5, 6], 3, until=15.0)
    worker.work(settings, lambda **message: said.append(message))
    assert said == [
        message
        for index in (4, 5)
        for message in (
            {"doing": "cuda", "entry": index},
            {"failed": "ValueError: a bad case", "entry": index},
        )
    ]


# ---- tests ---------------------------------------------------------------------------------------

SUITE = """
import time, pytest

def test_passes():
    pass

def test_fails():
    assert 1 + 1 == 3

def test_is_skipped():
    pytest.skip("there is no GPU")

def test_takes_long():
    time.sleep({seconds})
"""


@pytest.mark.parametrize("seconds", [0, 60])
def test_tests_are_run(seconds, tmp_path, monkeypatch):
    """Of those that are cut short, too, it is known what they found."""
    monkeypatch.setattr(tests, "PROCESSES", 1)
    monkeypatch.setattr(tests, "GRACE", 1)
    file = tmp_path / "test_something.py"
    file.write_text(SUITE.format(seconds=seconds))
    found = tests.run((str(file),), 60 if seconds == 0 else 10)
    assert found["cut short"] == (seconds > 0)
    assert (found["passed"], found["failed"], found["skipped"]) == (1 + (seconds == 0), 1, 1)
    assert found["why skipped"] == {"Skipped: there is no GPU": 1}
    (failure,) = found["failures"]
    assert failure["test"].endswith("test_fails")
    assert "assert (1 + 1) == 3" in failure["why"]
    assert tests.has_failed(found)
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("exit_status", "cut_short", "failed", "expected"),
    [
        (0, False, 0, False),
        (5, False, 0, False),  # no test of a backend that is not there
        (2, True, 0, False),
        (2, True, 1, True),
        (3, False, 0, True),
    ],
)
def test_which_tests_have_failed(exit_status, cut_short, failed, expected):
    found = {"exit": exit_status, "cut short": cut_short, "failed": failed}
    assert tests.has_failed(found) == expected


def test_groups_are_files_that_are_there():
    for arguments in tests.GROUPS.values():
        for argument in arguments:
            assert not argument.startswith("tests") or (ROOT / argument).exists(), argument


def test_what_judges_the_backends_asks_where_their_tensors_lie():
    """A test that puts its tensors on the CPU passes here, and fails where there is a GPU."""
    for file in tests._JUDGES:
        for node in ast.walk(ast.parse((ROOT / "tests" / file).read_text())):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            asked = {argument.arg for argument in node.args.args}
            if asked & {"backend", "compiled", "finished"}:
                # A Subject knows its backend's device.
                assert "device" in asked or "Subject(" in ast.unparse(node), node.name


# ---- Nsight Compute ------------------------------------------------------------------------------

TABLE = """==PROF== Connected to process 1
==PROF== Profiling "forward_kernel": 0%....100% - 1 pass
"ID","Kernel Name","Block Size","Grid Size","MEMORY","TIME","launch__registers_per_thread"
"","","","","%","ns","register/thread"
"0","forward_kernel","(128, 1, 1)","(528, 1, 1)","91.25","412,345","64"
"1","void at::fill<int>(int)","(32, 1, 1)","(1, 1, 1)","0.5","1000","16"
"""
TABLE = TABLE.replace("MEMORY", "dram__throughput.avg.pct_of_peak_sustained_elapsed")
TABLE = TABLE.replace("TIME", "gpu__time_duration.sum")


def test_a_table_of_kernels():
    assert profile.parse(TABLE) == [
        {
            "kernel": "forward_kernel",
            "block": "(128, 1, 1)",
            "grid": "(528, 1, 1)",
            "duration, ns": 412345.0,
            "memory throughput, %": 91.25,
            "registers": 64.0,
        },
        {
            "kernel": "void at::fill<int>(int)",
            "block": "(32, 1, 1)",
            "grid": "(1, 1, 1)",
            "duration, ns": 1000.0,
            "memory throughput, %": 0.5,
            "registers": 16.0,
        },
    ]
    assert profile.parse("==ERROR== no permission") == []


def test_who_cannot_profile_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(profile, "ncu", lambda: None)
    assert profile.run("cuda", 0, 1) == {"failed": "there is no ncu"}
    program = tmp_path / "ncu"
    program.write_text("#!/bin/sh\necho no permission\nexit 4\n")
    program.chmod(0o755)
    monkeypatch.setattr(profile, "ncu", lambda: str(program))
    assert profile.run("cuda", 0, 30) == {"failed": "exit status 4", "end": ["no permission"]}


def test_what_is_profiled_has_the_usual_size():
    chosen = profile.chosen()
    assert len(set(chosen)) == len(chosen)
    assert all(ENTRIES[index].case.full_bytes > BYTES / 2 for index in chosen)


# ---- all of it -----------------------------------------------------------------------------------


class Fakes:
    """What would run tests and workers, and takes as long as it is told to."""

    def __init__(self, monkeypatch, seconds_per_case: float = 1.0, wrong: bool = False):
        self.clock = Clock()
        self.log = []
        self.seconds_per_case = seconds_per_case
        self.wrong = {"cuda": "error of the loss"} if wrong else {}
        self.failed_tests = 0
        monkeypatch.setattr(main.time, "time", self.clock)
        monkeypatch.setattr(main.jml, "backends", lambda: {"cuda": None, "triton": None})
        monkeypatch.setattr(main.tests, "run", self.run_tests)
        monkeypatch.setattr(main.profile, "run", self.run_profile)
        monkeypatch.setattr(main.workers, "compile_all", self.compile_all)
        monkeypatch.setattr(main.workers, "measured", self.measured)
        monkeypatch.setattr(main, "compilers", lambda: 4)

    def run_tests(self, arguments, seconds):
        self.log.append(("tests", seconds))
        self.clock.now += 5
        counts = {"passed": 3, "failed": self.failed_tests, "skipped": 0}
        failures = [{"test": "a", "why": "b"}] * self.failed_tests
        exit_status = 1 if self.failed_tests else 0
        return counts | {
            "exit": exit_status,
            "cut short": False,
            "seconds": 5.0,
            "failures": failures,
        }

    def run_profile(self, backend, index, seconds):
        self.log.append(("profile", backend))
        return {"kernels": []}

    def compile_all(self, settings, processes):
        self.log.append(("compile", len(settings.entries)))
        assert settings.until > self.clock.now

    def measured(self, settings):
        self.log.append(("measure", len(settings.entries)))
        for index in settings.entries:
            if self.clock.now >= settings.until:
                return
            self.clock.now += self.seconds_per_case
            case = ENTRIES[index].case
            yield {"result": row(case=case, wrong=self.wrong), "entry": index}

    def run(self, folder, *options) -> tuple[list[str], dict]:
        parsed = main.arguments(list(options))
        file = folder / "gpu.json"
        written = document.Document(file, {"device": "none"}, {"commit": "0"}, vars(parsed))
        problems = main.run(parsed, Budget(parsed.minutes, now=self.clock), written)
        return problems, json.loads(file.read_text())


def test_everything_is_done_where_there_is_time(monkeypatch, tmp_path):
    fakes = Fakes(monkeypatch)
    problems, found = fakes.run(tmp_path, "--profile")
    assert problems == []
    assert found["finished"]
    assert found["left out"] == []
    assert [row["name"] for row in found["cases"]] == [entry.case.name for entry in ENTRIES]
    assert found["tests"].keys() == {"gpu", "cuda", "sanitizer", "triton"}
    competitors = [ENTRIES[index].competitors for index in profile.chosen()]
    assert len(found["profile"]) == sum(("cuda" in of) + ("triton" in of) for of in competitors)
    sizes = list(map(len, BATCHES))
    kinds = [what for what, _ in fakes.log if what != "profile"]
    assert kinds == ["tests", "tests", *["compile", "measure"] * len(sizes), "tests", "tests"]
    assert [n for what, n in fakes.log if what == "compile"] == sizes


def test_what_there_is_no_time_for_is_named(monkeypatch, tmp_path):
    fakes = Fakes(monkeypatch, seconds_per_case=20)
    problems, found = fakes.run(tmp_path)
    assert problems == []
    names = [entry.case.name for entry in ENTRIES]
    measured = [row["name"] for row in found["cases"]]
    assert measured == names[: len(measured)]
    assert found["left out"] == names[len(measured) :]
    # 8.5 minutes, of which a fifth is kept for tests; two groups came before.
    assert len(measured) == -(-(0.8 * 510 - 2 * 5) // 20)
    assert found["tests"].keys() == {"gpu", "cuda", "sanitizer", "triton"}
    limits = [seconds for what, seconds in fakes.log if what == "tests"]
    assert limits[:2] == pytest.approx([0.22 * 510, 0.22 * 510])
    assert limits[3] > limits[2]


def test_failed_tests_stop_nothing_but_are_told(monkeypatch, tmp_path, capsys):
    fakes = Fakes(monkeypatch)
    fakes.failed_tests = 1
    problems, found = fakes.run(tmp_path)
    assert len(found["cases"]) == len(ENTRIES)
    assert problems == [
        f"tests of {group}: 1 failed, exit status 1"
        for group in ("gpu", "cuda", "sanitizer", "triton")
    ]
    assert "FAILED a\nb" in capsys.readouterr().out


def test_wrong_results_are_told(monkeypatch, tmp_path):
    problems, found = Fakes(monkeypatch, wrong=True).run(tmp_path, "--no-tests")
    assert len(problems) == len(found["cases"]) == len(ENTRIES)
    assert problems[0] == f"{ENTRIES[0].case.name}: error of the loss"
    assert found["tests"] == {}


def test_parts_can_be_left_out(monkeypatch, tmp_path):
    fakes = Fakes(monkeypatch)
    _, found = fakes.run(tmp_path, "--no-cases")
    assert found["cases"] == []
    assert {what for what, _ in fakes.log} == {"tests"}
    fakes.log.clear()
    _, found = fakes.run(tmp_path, "--quick")
    assert len(found["cases"]) == len(QUICK)
    assert {what for what, _ in fakes.log} == {"measure"}


def test_results_are_written_as_they_come(tmp_path):
    file = tmp_path / "folder" / "gpu.json"
    written = document.Document(file, {}, {"commit": "0"}, {})

    def content():
        return json.loads(file.read_text())

    assert not content()["finished"]
    written.add_case(row(turns=turns(cuda=(3.0, 3.0))))
    assert len(content()["cases"]) == len(content()["triton ahead"]) == 1
    written.add_failure("a case", "why")
    assert content()["not measured"] == {"a case": "why"}
    written.add_case(row(turns=turns(cuda=(0.0, 0.0)), left_out={"cuda": "lost", EAGER: "memory"}))
    assert written.finish() == ["a case: why", f"{CASE.name}: cuda failed: lost"]
    assert content()["finished"]
    assert [path.name for path in file.parent.iterdir()] == ["gpu.json"]


def test_where_results_go(monkeypatch, tmp_path):
    monkeypatch.setenv("OUT", str(tmp_path))
    assert document.folder() == tmp_path
    monkeypatch.delenv("OUT")
    assert document.folder() == ROOT / "benchmarks" / "results"


def test_only_backends_that_run_take_part(monkeypatch):
    monkeypatch.setattr(jml, "backends", lambda: {"cuda": "not built", "triton": None})
    entry = Entry(CASE, ("cuda", "triton", EAGER))
    assert entry.here().competitors == ("triton", EAGER)
    assert entry.here().compilers == ["triton"]
    assert not Entry(CASE, ("cuda", EAGER)).compilers


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "there is no GPU" in done.stderr
