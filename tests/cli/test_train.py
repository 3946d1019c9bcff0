"""The training run on a small synthetic map: its parts, and the whole."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from typer.testing import CliRunner

import jml_kernels as jml
from jml_kernels.cli import app, train
from jml_kernels.cli.train import demo, report
from jml_kernels.cli.train.agreement import Agreement, compare
from jml_kernels.cli.train.batches import Batch, batches, crop_positions
from jml_kernels.cli.train.evaluation import confusion_matrix, scores, stripes
from jml_kernels.cli.train.objectives import BOUNDARY, HARD, RUNS, SOFT, Run
from jml_kernels.cli.train.picture import example_windows, smooth_curve
from jml_kernels.cli.train.progress import follow
from jml_kernels.cli.train.training import steps_to_measure, train_run
from jml_kernels.cli.train.unet import UNet

BY_KEY = {run.key: run for run in RUNS}


def plain_console() -> Console:
    return Console(file=io.StringIO(), width=120)


# --- batches -------------------------------------------------------------------------------------


def test_crops_lie_in_training_stripes_on_land(synthetic):
    size = 16
    positions = crop_positions(synthetic, size)
    assert len(positions) > 0
    for row, column in positions.tolist():
        window = (slice(row, row + size), slice(column, column + size))
        assert not synthetic.held_out[window[1]].any()
        assert synthetic.cover[(0, *window)].mean() <= 0.5 + 1e-6


def test_no_crop_fits(synthetic):
    nothing_to_train_on = replace(synthetic, held_out=torch.ones_like(synthetic.held_out))
    with pytest.raises(ValueError, match="no crop of 16 x 16"):
        crop_positions(nothing_to_train_on, 16)


def test_batches_follow_from_the_seed(synthetic):
    first, again, other = (
        list(batches(synthetic, 2, batch_size=3, size=8, seed=seed)) for seed in (1, 1, 2)
    )
    for batch, same in zip(first, again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, same, strict=True))
    assert not torch.equal(first[0].image, other[0].image)
    assert not torch.equal(first[0].image, first[1].image)


def test_batch_is_one_place_on_all_maps(synthetic):
    (batch,) = batches(synthetic, 1, batch_size=4, size=8, seed=0)
    assert batch.image.shape == (4, 3, 8, 8)
    assert torch.equal(batch.cover.argmax(dim=1), batch.labels)


# --- objectives ----------------------------------------------------------------------------------


@pytest.fixture
def logits_and_batch(synthetic) -> tuple[torch.Tensor, Batch]:
    (batch,) = batches(synthetic, 1, batch_size=2, size=16, seed=0)
    generator = torch.Generator().manual_seed(0)
    return torch.randn((2, 6, 16, 16), generator=generator), batch


def test_objective_is_equation_14(logits_and_batch):
    logits, batch = logits_and_batch
    expected = 0.25 * F.cross_entropy(logits, batch.labels)
    expected += 0.75 * jml.JaccardMetricLoss(backend="reference")(logits, batch.labels)
    torch.testing.assert_close(BY_KEY["fused"].loss(logits, batch), expected)
    torch.testing.assert_close(BY_KEY["naive"].loss(logits, batch), expected)


def test_cross_entropy_alone(logits_and_batch):
    logits, batch = logits_and_batch
    assert BY_KEY["ce"].loss(logits, batch) == F.cross_entropy(logits, batch.labels)


def test_boundary_smoothing_is_in_both_terms(logits_and_batch):
    logits, batch = logits_and_batch
    target = jml.smooth_labels(batch.labels, 6, label_smoothing=0.5, boundary_size=3)
    expected = 0.25 * F.cross_entropy(logits, target)
    expected += 0.75 * jml.JaccardMetricLoss(backend="reference")(logits, target)
    torch.testing.assert_close(BY_KEY["boundary"].loss(logits, batch), expected)


def test_soft_labels_are_in_both_terms(logits_and_batch):
    logits, batch = logits_and_batch
    expected = 0.25 * F.cross_entropy(logits, batch.cover)
    expected += 0.75 * jml.JaccardMetricLoss(backend="reference")(logits, batch.cover)
    torch.testing.assert_close(BY_KEY["soft"].loss(logits, batch), expected)


@pytest.mark.parametrize("target", [HARD, BOUNDARY, SOFT], ids=lambda target: target.name)
def test_naive_and_fused_agree(target, logits_and_batch):
    torch.testing.assert_close(target.naive(*logits_and_batch), target.fused(*logits_and_batch))


# --- network, training, evaluation ---------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 16), (7, 13), (1, 5)])
def test_unet_keeps_the_size(size):
    assert UNet(6, width=4)(torch.zeros(2, 3, *size)).shape == (2, 6, *size)


def test_training_learns(synthetic, settings):
    settings = replace(settings, width=8, batch_size=4, learning_rate=1e-2, measured_steps=1)
    short, long = (
        train_run(synthetic, BY_KEY["fused"], replace(settings, steps=steps)) for steps in (1, 100)
    )
    assert long.scores.miou > short.scores.miou + 0.2
    assert sum(long.curve[-5:]) < 0.7 * sum(long.curve[:5])


def test_measuring_does_not_change_the_training(synthetic, settings):
    few, many = (
        train_run(synthetic, BY_KEY["naive"], replace(settings, measured_steps=steps)).curve
        for steps in (1, 6)
    )
    assert few == many


def test_runs_start_alike(synthetic, settings):
    naive, fused = (train_run(synthetic, BY_KEY[key], settings) for key in ("naive", "fused"))
    assert naive.curve[0] == pytest.approx(fused.curve[0], abs=1e-6)
    assert naive.curve[-1] != naive.curve[0]
    assert compare(naive, fused).holds


def test_a_wrong_fused_loss_is_noticed(synthetic, settings):
    wrong = replace(HARD, smoothing={"label_smoothing": 0.01})
    naive = train_run(synthetic, BY_KEY["naive"], settings)
    fused = train_run(synthetic, Run("fused", "wrong", wrong.fused, wrong), settings)
    assert not compare(naive, fused).holds


@pytest.mark.parametrize("field", ["same_logits", "same_logits_gradient", "first_steps"])
@pytest.mark.parametrize("value", [0.1, math.nan])
def test_agreement_needs_every_figure(field, value):
    good = Agreement(1e-8, 1e-7, 1e-7, 0.1, 0.0, 0.02)
    assert good.holds
    assert not replace(good, **{field: value}).holds


def test_nan_in_a_curve_is_no_agreement(synthetic, settings):
    naive = train_run(synthetic, BY_KEY["naive"], settings)
    broken = replace(naive, curve=[naive.curve[0], math.nan, *naive.curve[2:]])
    assert not compare(naive, broken).holds


def test_steps_to_measure(settings):
    assert steps_to_measure(replace(settings, steps=10, measured_steps=2)) == {4, 9}
    assert steps_to_measure(replace(settings, steps=3, measured_steps=20)) == {0, 1, 2}


def test_scores_by_hand():
    labels = torch.tensor([0, 0, 0, 1])
    predictions = torch.tensor([0, 0, 1, 1], dtype=torch.uint8)
    confusion = confusion_matrix(predictions, labels, 3)
    assert confusion.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    found = scores(confusion)
    assert found.accuracy == 0.75
    assert found.class_iou[:2] == pytest.approx([2 / 3, 1 / 2])
    assert math.isnan(found.class_iou[2])
    assert found.miou == pytest.approx(7 / 12)


def test_stripes():
    held_out = torch.tensor([0, 1, 1, 0, 0, 1, 0, 1], dtype=torch.bool)
    assert stripes(held_out) == [slice(1, 3), slice(5, 6), slice(7, 8)]
    assert stripes(torch.zeros(3, dtype=torch.bool)) == []


# --- progress and picture ------------------------------------------------------------------------


def test_progress_without_a_terminal_is_a_few_lines():
    console = plain_console()
    with follow(console, ["one", "two"], 40) as step_done:
        for title in ("one", "two"):
            for step in range(1, 41):
                step_done(title, step, 0.5)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 8
    assert lines[0].split()[:5] == ["one", "step", "10/40", "loss", "0.500"]


def test_progress_on_a_terminal():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with follow(console, ["one"], 2) as step_done:
        step_done("one", 1, 0.5)
        step_done("one", 2, 0.25)
    assert "2/2" in console.file.getvalue()
    assert "loss 0.250" in console.file.getvalue()


def test_example_windows_are_the_varied_ones():
    labels = torch.zeros(8, 6, dtype=torch.int64)
    labels[6:, 0] = 1
    labels[4:, 2:4] = torch.arange(8).view(4, 2)
    first, second = example_windows(labels, [slice(0, 2), slice(2, 4), slice(4, 6)], 2)
    assert first[1] == slice(2, 4)
    assert first[0].start >= 4
    assert second == (slice(6, 8), slice(0, 2))


def test_smooth_curve():
    assert smooth_curve([4.0, 2.0, 0.0, 0.0], 2) == [4.0, 3.0, 1.0, 0.0]


# --- the whole -----------------------------------------------------------------------------------


def test_demo(synthetic, settings, tmp_path):
    pytest.importorskip("matplotlib")
    console, out = plain_console(), tmp_path / "new" / "folder"
    assert demo.run_demo(synthetic, settings, out, console).holds
    text = " ".join(console.file.getvalue().split())

    assert synthetic.source in text
    assert report.CAVEAT in text
    assert "they coincide" in text
    assert "mIoU apart" in text
    assert all(run.title in text for run in RUNS)
    assert str(out / "picture.png") in text
    assert (out / "picture.png").read_bytes().startswith(b"\x89PNG")

    numbers = json.loads((out / "results.json").read_text())
    assert list(numbers["runs"]) == [run.key for run in RUNS]
    for run in numbers["runs"].values():
        assert len(run["curve"]) == settings.steps
        assert 0 <= run["miou"] <= 1
        assert run["loss_ms"] > 0
        # Of float32 logits: the gradient at least is held.
        assert run["loss_peak_bytes"] >= 4 * 2 * 6 * 16 * 16
    assert numbers["runs"]["naive"]["curve"][0] == pytest.approx(
        numbers["runs"]["fused"]["curve"][0], abs=1e-6
    )
    assert [row["target"] for row in numbers["costs"]] == [
        "labels",
        "labels, boundary-smoothed",
        "soft labels",
    ]
    assert all(row["speedup"] == row["naive_ms"] / row["fused_ms"] for row in numbers["costs"])


def test_backend_that_cannot_run_is_said(synthetic):
    console = plain_console()
    report.print_backend(console, "reference", "not built (pip install 'a[b]')")
    text = " ".join(console.file.getvalue().split())
    assert "not built (pip install 'a[b]')" in text
    assert "plain PyTorch" in text


@pytest.fixture
def recorded(monkeypatch, synthetic):
    """Calls of the demo by the command, which finds that the losses agree."""
    calls = []

    def record(data, settings, out, console):
        calls.append((settings, out))
        return Agreement(0, 0, 0, 0, 0, 0)

    monkeypatch.setattr(train, "load", lambda: synthetic)
    monkeypatch.setattr(train, "run_demo", record)
    return calls


def test_options(recorded, tmp_path, threads):
    arguments = ["train", "--quick", "--seed", "7", "--threads", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (settings, out), *_ = recorded
    assert (settings.steps, settings.seed, out) == (train.QUICK_STEPS, 7, tmp_path)
    assert torch.get_num_threads() == 1


def test_default_options(recorded):
    assert CliRunner().invoke(app, ["train"]).exit_code == 0
    (settings, out), *_ = recorded
    assert (settings.steps, settings.seed, str(out)) == (train.FULL_STEPS, 0, "jml-demo")


def test_steps_override_quick(recorded):
    assert CliRunner().invoke(app, ["train", "--quick", "--steps", "5"]).exit_code == 0
    assert recorded[0][0].steps == 5


def test_disagreement_is_a_failure(recorded, monkeypatch):
    monkeypatch.setattr(train, "run_demo", lambda *_: Agreement(1, 0, 0, 0, 0, 0))
    assert CliRunner().invoke(app, ["train"]).exit_code == 1


def test_folder_that_cannot_be_written(monkeypatch, synthetic, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(train, "load", lambda: synthetic)
    result = CliRunner().invoke(app, ["train", "--out", str(tmp_path / "file" / "folder")])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "Error" in result.output


@pytest.mark.parametrize("option", [["--steps", "0"], ["--threads", "0"], ["--seed", "-1"]])
def test_options_out_of_range(option):
    result = CliRunner().invoke(app, ["train", *option])
    assert result.exit_code == 2
    assert option[0] in result.output
