"""The Triton kernels on the CPU: the tests of every backend, run by Triton's interpreter.

It is chosen before Triton is imported, so each selection is a process of its own. A tile takes the
interpreter some 10 ms whatever it holds, so of what only makes many tiles or windows one smaller
case stays; the whole is a few minutes. On a GPU the tests run as they are, all of them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

TESTS = Path(__file__).parents[1]

#: Of the cases. "several tiles" and "primes" stay for tiles, "boundary 3, 3-D" for volumes, "1000
#: classes" for chunks.
TOO_SLOW = (
    "many tiles",
    "many images",
    "window above volume",
    "boundary 5, 3-D",
    "boundary 7, 3-D",
    "1000 classes, tiles",
    "channels_last 19, tiles",
    "smoothing 19",
)

SELECTIONS = {
    # Each case once: all columns and the gradient of each, which no formula can hide.
    "columns": ("test_statistics.py", "test_columns_and_their_gradient"),
    "losses": (
        "test_statistics.py",
        "test_not_a_number or test_nothing_counts or digits or not_negative or lies_as"
        " or not_asked_for or (test_loss_and_gradient and metric1 and active)",
    ),
    # Kinds of targets and gradients; options of the formulas are not the kernels'.
    "gradients": (
        "test_gradients.py",
        "test_every_sum or tie or double_backward or own_on_the_statistics",
    ),
    "objectives": (
        "test_objectives.py",
        "test_distillation or digits or equation_14 or rules_out or in_place or notice"
        " or (test_cross_entropy and not beside) or not_asked",
    ),
    "operators": (
        "test_ops.py",
        "opcheck and (float32 or both or teacher) or fake_outputs or double",
    ),
    "bad input": ("test_bad_input.py", "operators"),
}


@pytest.mark.parametrize("selection", SELECTIONS)
def test_under_the_interpreter(selection):
    file, names = SELECTIONS[selection]
    slow = " or ".join(f'"{name}"' for name in TOO_SLOW)
    # Words of a case may stand anywhere in a test's name, its first word is the backend.
    expression = f"triton and ({names}) and not ({_keywords(TOO_SLOW)})"
    assert slow
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(TESTS / file), "-k", expression, "-W", "ignore"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 0
