"""Processes that measure: what they are told, what they say, and how they end."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from jml_kernels.backend import choose
from jml_kernels.bench import worker
from jml_kernels.bench.allocators import SETTINGS, environment
from jml_kernels.bench.cases import OBJECTIVES, BenchmarkCase
from jml_kernels.bench.worker import Settings, WorkerError, messages, work

OURS = choose("auto", torch.device("cpu"))
CASE = BenchmarkCase((2, 3, 8, 6))
SETTINGS_OF_A_RUN = Settings([CASE], [OURS, "eager"], rounds=2, threads=1)


@pytest.mark.parametrize("threads", [None, 3])
def test_settings_survive_json(threads):
    cases = [
        BenchmarkCase((2, 3, 4), *what, "random", "float16", "channels_last", 5)
        for what in OBJECTIVES.values()
    ]
    settings = Settings(cases, ["cpu", "mine:loss"], "cuda", "warm", 7, threads)
    assert Settings.parse(settings.json()) == settings


def test_environment(monkeypatch):
    """What the caller has set for the allocator does not count, and all else stays."""
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    monkeypatch.setenv("SOMETHING_ELSE", "stays")
    for allocator, variables in SETTINGS.items():
        found = environment(allocator)
        assert {k: v for k, v in found.items() if k.startswith("MALLOC_")} == variables
        assert found["SOMETHING_ELSE"] == "stays"


def test_work(monkeypatch):
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    other = replace(CASE, dtype="float64")
    settings = replace(SETTINGS_OF_A_RUN, cases=[CASE, other], allocator="warm")
    machine, *said = work(settings)
    assert machine["machine"]["versions"]["torch"] == torch.__version__
    assert threads == [1]
    assert [list(message) for message in said] == [["doing"], ["result"]] * 2
    assert [message["doing"] for message in said[::2]] == [CASE.name, other.name]
    for case, row in zip((CASE, other), [message["result"] for message in said[1::2]], strict=True):
        assert row["name"] == case.name
        assert row["allocator"] == "warm"
        assert list(row["figures"]) == [OURS, "eager"]
        assert len(row["turns"][OURS]["step"]) == 2


# ---- a process -----------------------------------------------------------------------------------

LOUD = """
import os
print('at import')
os.system('echo from a process')

def loss(logits, target):
    print('not JSON')
    return logits.sum() * 0
"""


def test_a_process(tmp_path, monkeypatch, capfd):
    """In a folder where a package of our name lies, and a loss that prints."""
    hides = tmp_path / "jml_kernels"
    hides.mkdir()
    (hides / "__init__.py").write_text("raise RuntimeError('another package')")
    (tmp_path / "loud_loss.py").write_text(LOUD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    settings = replace(SETTINGS_OF_A_RUN, names=[OURS, "loud_loss:loss"], allocator="warm")
    machine, doing, result = messages(settings)
    assert machine["machine"]["processor"]["threads of torch"] == "1"
    assert doing == {"doing": CASE.name}
    row = result["result"]
    assert row["allocator"] == "warm"
    assert list(row["figures"]) == [OURS, "loud_loss:loss"]
    assert row["wrong"] == row["left out"] == {}
    # What others print goes where errors go.
    out, err = capfd.readouterr()
    assert out == ""
    assert all(text in err for text in ("at import", "from a process", "not JSON"))


def test_a_process_searches_where_its_parent_does(tmp_path, monkeypatch, capfd):
    """And not in the current folder, where anything may lie."""
    lib, here = tmp_path / "lib", tmp_path / "here"
    for folder in (lib, here):
        folder.mkdir()
    (lib / "telling_loss.py").write_text(
        "import os, sys\n"
        "print('current folder:', os.getcwd() in sys.path or '' in sys.path)\n"
        "loss = lambda logits, target: logits.sum() * 0\n"
    )
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [str(lib), *(path for path in sys.path if path)])
    list(messages(replace(SETTINGS_OF_A_RUN, names=[OURS, "telling_loss:loss"])))
    assert "current folder: False" in capfd.readouterr().err


PARENT = """
import sys
from jml_kernels.bench.worker import Settings, messages
for message in messages(Settings.parse(sys.argv[1])):
    print(message, flush=True)
"""
ENDLESS = """
import os, time

def loss(logits, target):
    print("worker", os.getpid(), flush=True)
    time.sleep(3600)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_a_process_ends_with_its_parent(how, tmp_path):
    """However that ends; the worker's standard error, which is the parent's, is then closed."""
    (tmp_path / "endless_loss.py").write_text(ENDLESS)
    settings = replace(SETTINGS_OF_A_RUN, names=[OURS, "endless_loss:loss"])
    search = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, settings.json()],
        env=os.environ | {"PYTHONPATH": search},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        worker = next(int(line.split()[1]) for line in parent.stderr if line.startswith("worker"))
        parent.send_signal(how)
        try:
            parent.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.kill(worker, signal.SIGKILL)
            raise
    assert parent.returncode == -how


@pytest.fixture
def process(tmp_path, monkeypatch):
    """Puts a script of the shell in the place of Python."""

    def write(script: str) -> None:
        file = tmp_path / "python"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(sys, "executable", str(file))

    return write


def test_a_process_is_told_its_environment(process, monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX", "OMP_NUM_THREADS")
    process("\n".join(f"""echo '{{"{name}": "'${name}'"}}'""" for name in names))
    settings = replace(SETTINGS_OF_A_RUN, allocator="warm", threads=3)
    found = {name: value for message in messages(settings) for name, value in message.items()}
    expected = (SETTINGS["warm"]["MALLOC_TRIM_THRESHOLD_"], "", "3")
    assert found == dict(zip(names, expected, strict=True))


def test_a_process_is_told_its_settings(process):
    process("""for last; do :; done; printf '%s\\n' "$last" """)
    (message,) = messages(SETTINGS_OF_A_RUN)
    assert Settings.parse(json.dumps(message)) == SETTINGS_OF_A_RUN


@pytest.mark.parametrize(("end", "status"), [("exit 3", "3"), ("kill -9 $$", "-9")])
def test_a_process_that_dies(end, status, process):
    """What it said before is heard."""
    process(f"""echo '{{"doing": "the worst"}}'; {end}""")
    heard = messages(SETTINGS_OF_A_RUN)
    assert next(heard) == {"doing": "the worst"}
    with pytest.raises(WorkerError, match=f"status {status}"):
        next(heard)


def test_a_process_ends_with_who_listens(process):
    """Else this would take an hour."""
    process("""echo '{"doing": "a lot"}'; exec sleep 3600""")
    heard = messages(SETTINGS_OF_A_RUN)
    assert next(heard) == {"doing": "a lot"}
    heard.close()


def test_main_reads_its_settings_and_prints_lines(monkeypatch, capfd):
    """Where file descriptors are its own: they are set back here."""
    kept = os.dup(1)
    monkeypatch.setattr(sys, "argv", ["worker", SETTINGS_OF_A_RUN.json()])
    monkeypatch.setattr(worker, "work", lambda settings: iter([{"result": settings.rounds}]))
    try:
        worker.main()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert capfd.readouterr().out == '{"result": 2}\n'
