"""The demo: every run on the same data, then tables, picture and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from rich.console import Console

from ...backend import backends, choose
from ...extras import import_extra
from . import report
from .agreement import Agreement, compare
from .land_cover import LandCover, facts
from .objectives import RUNS
from .picture import save_picture
from .progress import follow
from .training import Settings, train_run


def run_demo(data: LandCover, settings: Settings, out: Path, console: Console) -> Agreement:
    """Train, compare, print, and write `picture.png` and `results.json` to `out`.

    Returns:
        whether naive and fused loss agreed.

    Raises:
        MissingPackageError: without matplotlib, before any training.
        OSError: where `out` cannot be written, before any training.
    """
    import_extra("matplotlib", "demo")
    out.mkdir(parents=True, exist_ok=True)
    picture, numbers = out / "picture.png", out / "results.json"

    map_facts = facts(data)
    report.print_data(console, data.source, map_facts)
    backend = choose("auto", torch.device("cpu"))
    report.print_backend(console, backend, backends()["cpu"])

    with follow(console, [run.title for run in RUNS], settings.steps) as step_done:
        results = [
            train_run(data, run, settings, lambda step, loss, t=run.title: step_done(t, step, loss))
            for run in RUNS
        ]
    by_key = {result.run.key: result for result in results}
    agreement = compare(by_key["naive"], by_key["fused"])

    report.print_runs(console, results)
    report.print_costs(console, results, settings)
    report.print_agreement(console, agreement)
    console.print(report.CAVEAT)
    save_picture(data, results, picture)
    content = report.to_json(
        results,
        settings=settings,
        facts=map_facts,
        agreement=agreement,
        backend=backend,
        threads=torch.get_num_threads(),
    )
    numbers.write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"\nPicture: {picture}\nNumbers: {numbers}", soft_wrap=True)
    return agreement
