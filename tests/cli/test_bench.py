"""`jml-kernels bench`: what is measured, told and written, and what is refused. This process is the
worker, but where a process is what is tested."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from jml_kernels.backend import NAMES, choose, why_not
from jml_kernels.bench import plots, session
from jml_kernels.bench.cases import LAYOUTS, OBJECTIVES, PRESETS, BenchmarkCase
from jml_kernels.bench.competitor import Competitor, NotAvailableError
from jml_kernels.bench.competitors import COMPETITORS, fused
from jml_kernels.bench.growth import AXES
from jml_kernels.bench.session import Results
from jml_kernels.bench.worker import Settings, WorkerError, work
from jml_kernels.cli import app, bench

CPU = torch.device("cpu")
OURS = choose("auto", CPU)
QUICK = ("--quick", "--device", "cpu", "--threads", "1")
TINY = (*QUICK, "--shape", "2,3,8,6", "--against", "cross-entropy")

MODULE = """
import torch

def loss(logits, target):
    return logits.logsumexp(dim=1).mean()

class Metric:
    def __call__(self, logits, target):
        return (logits.argmax(dim=1) == target).float().mean()

def fails(logits, target):
    raise RuntimeError("not today")

number = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """An empty one, but for a module of losses, is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "my_losses.py").write_text(MODULE)
    yield tmp_path
    sys.modules.pop("my_losses", None)


@pytest.fixture(autouse=True)
def told(monkeypatch) -> list[Settings]:
    """What workers are told, whose messages pass as JSON."""
    found: list[Settings] = []

    def messages(settings: Settings):
        found.append(settings)
        for message in work(Settings.parse(settings.json())):
            yield json.loads(json.dumps(message, allow_nan=False))

    monkeypatch.setattr(session, "messages", messages)
    return found


def invoke(*arguments: str):
    return CliRunner().invoke(
        app, ["bench", *arguments], env={"COLUMNS": "200", "TERM": "dumb"}, catch_exceptions=False
    )


def output(*arguments: str) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def document(*arguments: str) -> dict:
    output(*arguments, "--json", "results.json")
    return json.loads(Path("results.json").read_text())


def cases_of(settings: Settings) -> list[tuple[tuple[int, ...], str, str, str, str]]:
    return [(c.shape, c.target, c.objective, c.dtype, c.layout) for c in settings.cases]


# ---- what is measured ----------------------------------------------------------------------------


DTYPES = ("float16", "bfloat16", "float32", "float64")


@pytest.mark.parametrize(
    ("objectives", "dtypes", "layouts"),
    [(tuple(OBJECTIVES), ("float32",), LAYOUTS[1:]), (("jml",), DTYPES, LAYOUTS)],
    ids=["objectives", "dtypes"],
)
def test_every_combination(objectives, dtypes, layouts, told):
    """Of several words behind an option."""
    text = output(
        *(*QUICK, "--shape", "2,3,8,6", "--against", "eager"),
        *("--dtype", *dtypes, "--layout", *layouts, "--objective", *objectives),
    )
    (settings,) = told
    expected = [
        ((2, 3, 8, 6), *OBJECTIVES[objective], dtype, layout)
        for dtype in dtypes
        for layout in layouts
        for objective in objectives
    ]
    assert cases_of(settings) == expected
    assert settings.names == [OURS, "eager"]
    for case in settings.cases:
        assert case.name in text
    assert "left out" not in text
    assert "WRONG" not in text


def test_shapes_and_presets(told):
    output(*TINY, "--shape", "5,3", "2x3x9", "--preset", "volume", "binary", "--labels", "random")
    (settings,) = told
    # With --quick no side exceeds 24, nor are there more than 2 images.
    assert [case.shape for case in settings.cases] == [
        (2, 3, 8, 6),
        (2, 3),
        (2, 3, 9),
        (2, 14, 24, 24, 24),
        (2, 2, 24, 24),
    ]
    assert {case.labels for case in settings.cases} == {"random"}


def test_logits_of_lower_resolution(told):
    text = output(*QUICK, "--shape", "2,3,8,6", "--upsample", "1", "4", "--against", "eager",
                  f"{OURS}-interpolated", f"{OURS}-full-size")  # fmt: skip
    assert [case.upsample for case in told[0].cases] == [1, 4]
    assert "2x3x2x2 to 8x6 float32, labels" in text
    assert text.count("left out") == 2  # of the case that has nothing to interpolate
    assert "WRONG" not in text


def test_no_ratio_without_pixels():
    with pytest.raises(ValueError, match="--upsample=4: expected 1 with a shape without"):
        bench.chosen_cases(["2,3"], [], ["float32"], ["contiguous"], ["jml"], "regions", True, [4])


@pytest.mark.parametrize("quick", [True, False])
def test_what_is_chosen_where_nothing_is_said(quick):
    chosen = bench.chosen_cases([], [], ["float32"], ["contiguous"], ["jml"], "regions", quick)
    assert chosen == [BenchmarkCase((2, 19, 24, 24) if quick else PRESETS["cityscapes"])]


def test_each_case_once():
    words = (["2,3", "2,3"], [], ["float32"] * 2, ["contiguous"], ["jml", "jml"])
    assert bench.chosen_cases(*words, "regions", False) == [BenchmarkCase((2, 3))]


def test_other_words_for_dtypes_and_layouts():
    words = (["2,3"], [], ["fp16", "BF16"], ["NHWC"], ["jml"])
    assert bench.chosen_cases(*words, "regions", False) == [
        BenchmarkCase((2, 3), dtype=dtype, layout="channels_last")
        for dtype in ("float16", "bfloat16")
    ]


@pytest.mark.parametrize(
    ("text", "shape"),
    [("4,19,512,512", (4, 19, 512, 512)), ("2x3", (2, 3)), (" 2, 3,4 ", (2, 3, 4))],
)
def test_parse_shape(text, shape):
    assert bench.parse_shape(text) == shape


def test_rounds_and_threads(told):
    output("--device", "cpu", "--shape", "2,3,4,4", "--against", "eager", "--rounds", "3")
    assert (told[0].rounds, told[0].threads, told[0].device) == (3, None, "cpu")
    output(*TINY)
    assert (told[1].rounds, told[1].threads) == (bench.QUICK_ROUNDS, 1)


def test_backend(told):
    text = output(*TINY, "--backend", "reference")
    assert told[0].names == ["reference", "cross-entropy"]
    assert re.search(r"│ reference +│", text)


@pytest.mark.parametrize(
    ("words", "allocators"),
    [([], ["default"]), (["warm"], ["warm"]), (["both"], ["default", "warm"])],
)
def test_allocators(words, allocators, told):
    text = output(*TINY, *(["--allocator", *words] if words else []))
    assert [settings.allocator for settings in told] == allocators
    assert re.findall(r"\(CPU, (\w+) allocator\)", text) == allocators


# ---- what is told --------------------------------------------------------------------------------


def test_output():
    text = output(*TINY)
    lines = text.splitlines()
    assert lines[0].strip() == "2x3x8x6 float32, labels (CPU, default allocator)"
    for name in (OURS, "cross-entropy"):
        assert re.search(rf"^│ {name} .*%", text, re.MULTILINE)
    assert "Who takes part" in text
    assert COMPETITORS["cross-entropy"].what in text
    assert "beside the inputs" in text
    assert f"threads of torch {torch.get_num_threads()}" in text
    assert f"torch {torch.__version__}" in text
    assert "too small for the figures to mean anything" in text
    assert "\x1b" not in text


def test_growth(told):
    text = output(*TINY, "--growth", "all", "--memory", "2.5")
    assert [len(settings.cases) for settings in told] == [1 + 8 + 4 + 4 + 6 + 4]
    assert re.findall(r"How it grows with (\w+)", text) == list(AXES)
    assert "Images of 3x8x6 in 2.5 GiB" in text


def test_growth_in_the_order_of_the_axes():
    assert bench.chosen_axes([], with_plots=False) == []
    assert bench.chosen_axes(["k", "pixels", "k"], with_plots=False) == ["pixels", "k"]
    assert bench.chosen_axes(["k", "all"], with_plots=False) == list(AXES)
    assert bench.chosen_axes(["k"], with_plots=True) == ["classes", "batch", "k"]


def test_json():
    found = document(*TINY, "--allocator", "both", "--growth", "batch")
    assert found.keys() == {
        *(
            "machine",
            "names",
            "device",
            "allocators",
            "rounds",
            "threads",
            "failed",
            "cases",
            "growth",
        ),
    }
    assert found["failed"] is None
    assert found["names"] == [OURS, "cross-entropy"]
    assert (found["device"], found["allocators"]) == ("cpu", ["default", "warm"])
    assert (found["rounds"], found["threads"]) == (bench.QUICK_ROUNDS, 1)
    assert found["machine"]["versions"]["torch"] == torch.__version__
    assert [row["allocator"] for row in found["cases"]] == ["default", "warm"]
    assert found["growth"].keys() == {"batch"}
    assert [row["case"]["shape"][0] for row in found["growth"]["batch"]] == [1, 2, 4, 8]
    for row in [*found["cases"], *found["growth"]["batch"]]:
        assert row.keys() == {
            *("name", "case", "device", "allocator", "subject", "bytes", "copy bytes per second"),
            *("over floor", "figures", "errors", "wrong", "left out", "turns"),
        }
        assert row["case"].keys() == {
            *("shape", "target", "objective", "labels", "dtype", "layout", "boundary_size"),
            *("upsample", "size", "form", "kind"),
        }
        assert list(row["figures"]) == [OURS, "cross-entropy"]
        for of in row["figures"].values():
            assert of.keys() == {"forward", "backward", "step", "peak bytes", "peak / logits"}
            for part in ("forward", "backward", "step"):
                assert of[part].keys() == {
                    *("seconds", "times", "bytes per second", "share", "share, labels counted"),
                }
                assert of[part]["seconds"].keys() == {"median", "low", "high"}
        assert row["turns"].keys() == {OURS, "cross-entropy", "copy"}
        assert all(len(of["forward"]) == 2 for of in row["turns"].values())
        assert row["errors"][OURS]["loss"] <= 1e-6


def test_json_to_standard_output():
    """It carries nothing else, so that other programs can read it."""
    result = invoke(*TINY, "--growth", "batch", "--json", "-")
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)["growth"]["batch"]) == 4
    assert "Who takes part" in result.stderr
    assert "How it grows with batch" in result.stderr
    assert not Path("-").exists()


def test_a_file_that_is_there_is_kept_until_it_is_written(told):
    Path("results.json").write_text("of before")
    assert invoke(*TINY, "--json", "results.json", "--plot", "no/x.png").exit_code == 2
    assert Path("results.json").read_text() == "of before"
    assert invoke(*TINY, "--json", "new.json", "--plot", "no/x.png").exit_code == 2
    assert not Path("new.json").exists()
    assert told == []


def test_a_file_that_cannot_be_written_in_the_end(monkeypatch):
    """What was measured, for an hour perhaps, is not lost."""

    def messages(settings: Settings):
        Path("results.json").mkdir()
        yield from work(settings)

    monkeypatch.setattr(session, "messages", messages)
    result = invoke(*TINY, "--json", "results.json")
    assert result.exit_code == 1
    assert "Who takes part" in result.stdout
    assert "results.json" in result.stderr
    assert "its content goes to standard output" in result.stderr
    found = json.loads(result.stdout[result.stdout.index("\n{\n") :])
    assert len(found["cases"]) == 1


def test_path_is_printed_as_it_is():
    """Square brackets are markup to rich."""
    Path("run[red]").mkdir()
    assert "Numbers: run[red]/x.json" in output(*TINY, "--json", "run[red]/x.json")


def test_plot(told, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(plots, "DPI", 40)
    for axis in ("classes", "batch"):  # two places each
        monkeypatch.setitem(AXES, axis, lambda case, every=AXES[axis]: every(case)[1:3])
    text = output(*TINY, "--plot", "plots.png", "--growth", "batch")
    assert "Plots: plots.png" in text
    assert Path("plots.png").read_bytes().startswith(b"\x89PNG")
    # Growth with classes and batch is drawn.
    assert re.findall(r"How it grows with (\w+)", text) == ["classes", "batch"]


def test_losses_of_the_current_folder(told):
    against = ("--against", "my_losses:loss", "my_losses:Metric", "my_losses:fails")
    text = output(*QUICK, "--shape", "2,3,8,6", *against)
    assert told[0].names == [OURS, *against[1:]]
    assert re.search(r"my_losses:loss differs from ours by \d.\de[+-]\d\d \(loss\)", text)
    assert "my_losses:fails is left out: RuntimeError: not today" in text
    (line,) = (line for line in text.splitlines() if line.startswith("│ my_losses:Metric"))
    assert [cell.strip() for cell in line.split("│")[3:5]] == ["-", "-"]


def test_the_current_folder_is_searched_for_losses_alone(folder):
    """Else a triton.py that lies there would be taken for Triton."""
    output(*TINY)
    assert str(folder) not in sys.path
    output(*TINY, "--against", "my_losses:loss")
    assert sys.path[0] == str(folder)


def test_a_bar_and_tables_do_not_mix(monkeypatch):
    """On a terminal, where lines of a bar are taken back."""
    row = next(
        m["result"] for m in work(Settings([BenchmarkCase((2, 3, 4, 4))], [OURS])) if "result" in m
    )

    def run(settings, allocators, axes, progress, on_row, results) -> None:
        for done in range(2):
            progress(f"case {done}", done, 2)
            on_row(row)

    monkeypatch.setattr(bench, "run", run)
    console = Console(file=StringIO(), force_terminal=True, width=120, color_system=None)
    bench.follow(Settings([], []), ["default"], [], console, Results())
    text = console.file.getvalue()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.replace("\r", "\n")).splitlines()
    assert sum(line.startswith("2x3x4x4 float32, labels") for line in shown) == 2
    assert sum(line.startswith(f"│ {OURS} ") and line.rstrip().endswith("│") for line in shown) == 2
    assert not any("case" in line and "│" in line for line in shown)
    assert any(line.startswith("case 1") for line in shown)
    assert text.count("\x1b[?25h") == 1  # the cursor is shown again


# ---- what ends with 1 ----------------------------------------------------------------------------


def add(monkeypatch, name: str, change) -> None:
    def make(case: BenchmarkCase):
        ours = fused(case, "reference")
        return lambda *tensors: change(ours(*tensors))

    monkeypatch.setitem(COMPETITORS, name, Competitor("made up", make, same=True))


def test_a_wrong_result(monkeypatch):
    add(monkeypatch, "liar", lambda loss: loss + 1)
    result = invoke(*TINY, "--against", "liar", "--json", "results.json")
    assert result.exit_code == 1
    assert re.search(r"^│ liar +│ +WRONG │", result.output, re.MULTILINE)
    assert "WRONG: liar: error of the loss is 1.00e+00" in result.output
    assert json.loads(Path("results.json").read_text())["cases"][0]["wrong"].keys() == {"liar"}


def test_a_result_that_is_wrong_on_the_way(monkeypatch):
    """In a sweep, of which only a table is told."""

    def make(case: BenchmarkCase):
        ours = fused(case, "reference")
        return lambda *tensors: ours(*tensors) + (case.shape[0] == 4)

    monkeypatch.setitem(COMPETITORS, "liar", Competitor("made up", make, same=True))
    result = invoke(*TINY, "--against", "liar", "--growth", "batch")
    assert result.exit_code == 1
    assert result.output.count("WRONG: liar: error of the loss is 1.00e+00") == 1


def test_the_first_cannot_be_measured(monkeypatch):
    def make(case: BenchmarkCase):
        raise NotAvailableError("it is broken")

    monkeypatch.setitem(COMPETITORS, "reference", Competitor("made up", make, same=True))
    result = invoke(*TINY, "--backend", "reference")
    assert result.exit_code == 1
    assert "reference is left out: it is broken" in result.output


def test_another_that_cannot_be_measured_is_no_error(monkeypatch):
    def make(case: BenchmarkCase):
        raise NotAvailableError("it is broken")

    monkeypatch.setitem(COMPETITORS, "broken", Competitor("made up", make))
    text = output(*TINY, "--against", "broken", "--growth", "batch")
    assert text.count("broken is left out: it is broken") == 1


def test_a_worker_that_fails(monkeypatch):
    def messages(settings: Settings):
        raise WorkerError("the worker ended with status [3]")
        yield

    monkeypatch.setattr(session, "messages", messages)
    result = invoke(*TINY, "--json", "results.json")
    assert result.exit_code == 1
    assert "Error: the worker ended with status [3]" in result.output
    assert "Who takes part" not in result.output
    found = json.loads(Path("results.json").read_text())
    assert found["failed"] == "the worker ended with status [3]"
    assert found["cases"] == []


def test_what_came_before_a_worker_failed(monkeypatch):
    """Is told and written: it may have taken an hour."""

    def messages(settings: Settings):
        for message in work(settings):
            yield message
            if "result" in message and message["result"]["case"]["shape"][0] == 4:
                raise WorkerError("killed")

    monkeypatch.setattr(session, "messages", messages)
    result = invoke(*TINY, "--growth", "batch", "k", "--json", "results.json")
    assert result.exit_code == 1
    assert "Error: killed" in result.output
    assert re.findall(r"How it grows with (\w+)", result.output) == ["batch"]
    found = json.loads(Path("results.json").read_text())
    assert found["failed"] == "killed"
    assert len(found["cases"]) == 1
    counts = {axis: len(rows) for axis, rows in found["growth"].items()}
    assert counts == {"batch": 3, "k": 0}


# ---- what is refused -----------------------------------------------------------------------------

_CANNOT_RUN = next((name for name in NAMES if why_not(name, CPU)), None)


@pytest.mark.parametrize(
    ("words", "named", "expected"),
    [
        (["--shape", "4,19,x"], "--shape='4,19,x'", "as 4,19,512,512"),
        (["--shape", "2,3,0"], "--shape='2,3,0'", "integers > 0"),
        (["--shape", "2,²"], "--shape='2,²'", "integers > 0"),
        (["--shape", "2,1,8"], "--shape='2,1,8'", "C > 1"),
        (["--shape", "2"], "--shape='2'", "N,C and 0 to 3 sizes more"),
        (["--shape", "2,3,4,5,6,7"], "--shape='2,3,4,5,6,7'", "0 to 3 sizes more"),
        (["--shape", "2,3", ""], "--shape=''", "N,C"),
        (["--preset", "voc", "cocoa"], "--preset='cocoa'", "coco-stuff"),
        (["--dtype", "float32", "float8"], "--dtype='float8'", "'bfloat16'"),
        (["--layout", "blocked"], "--layout='blocked'", "'channels_last'"),
        (["--objective", "dice"], "--objective='dice'", "'ce+jml'"),
        (["--labels", "many"], "--labels='many'", "'regions', 'random'"),
        (["--against", "eagre"], "--against: 'eagre'", "or module:function"),
        (["--against", "nowhere:loss"], "--against: 'nowhere:loss'", "No module named 'nowhere'"),
        (["--against", "my_losses:lost"], "--against: 'my_losses:lost'", "lost"),
        (["--against", "my_losses:number"], "--against: 'my_losses:number'", "a function"),
        (["--backend", "gpu"], "--backend='gpu'", "'auto'"),
        (["--backend", _CANNOT_RUN], f"--backend='{_CANNOT_RUN}'", "cannot run here"),
        (["--growth", "batch", "depth"], "--growth='depth'", "'all'"),
        (["--allocator", "cold"], "--allocator='cold'", "'warm'"),
        (["--device", "tpu"], "--device='tpu'", "'cuda'"),
        (["--json", "no/x.json"], "--json='no/x.json'", "in a folder that exists"),
        (["--json", "."], "--json='.'", "expected a file"),
        (["--plot", "no/x.png"], "--plot='no/x.png'", "in a folder that exists"),
        (["--rounds", "1"], "--rounds", "2"),
        (["--json", "x" * 300], "--json='xxx", "expected a file that can be written"),
        (["--plot", "x" * 300 + ".png"], "--plot='xxx", "expected a file that can be written"),
        (["--memory", "0"], "--memory", "0.001"),
        (["--memory", "inf"], "--memory=inf", "a finite number of GiB"),
        (["--memory", "nan"], "--memory", "0.001"),
        (["--threads", "0"], "--threads", "1"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_what_is_refused(words, named, expected, told):
    """With the option, what was given, and what was expected; before anything is measured."""
    if None in words:
        pytest.skip("every backend runs here")
    result = invoke("--quick", "--device", "cpu", *words)
    assert result.exit_code == 2
    text = " ".join(re.sub(r"[│\n]", " ", result.output).split())
    assert named in text
    assert expected in text
    assert told == []


def test_plot_of_a_format_that_is_not_known(told):
    pytest.importorskip("matplotlib")
    result = invoke("--quick", "--plot", "x.xyz")
    assert result.exit_code == 2
    assert "--plot='x.xyz': expected a name that ends in one of" in result.output
    assert told == []


def test_plot_without_matplotlib(monkeypatch, told):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = invoke("--quick", "--plot", "x.png")
    assert result.exit_code == 2
    assert "pip install 'jml-kernels[plot]'" in result.output
    assert told == []


def test_device_that_is_not_there(monkeypatch, told):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = invoke("--quick", "--device", "cuda")
    assert result.exit_code == 2
    assert "--device='cuda': expected 'cpu', PyTorch finds no GPU here" in result.output
    assert told == []


# ---- processes -----------------------------------------------------------------------------------


ENDS = """
import os

def ends(logits, target):
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        os._exit(3)
    return loss(logits, target)
"""


@pytest.mark.slow
def test_processes(folder):
    """As it is called, under both settings of the allocator, with a loss that ends the process."""
    (folder / "my_losses.py").write_text(MODULE + ENDS)
    command = [sys.executable, "-m", "jml_kernels", "bench", *QUICK, "--shape", "2,3,8,6"]
    words = ["--against", "my_losses:ends", "--allocator", "both"]
    done = subprocess.run(
        [*command, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].strip() == "2x3x8x6 float32, labels (CPU, default allocator)"
    assert re.search(r"^│ my_losses:ends .*%", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout
    assert "warm" not in done.stdout
    assert done.stderr.strip().endswith("Error: the worker ended with status 3, see above")
