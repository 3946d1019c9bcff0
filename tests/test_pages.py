"""The pages say what is true: their code runs, their links lead somewhere, the files that they name
are there, and the tables of options are those of the code."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import pytest
import torch

from jml_kernels.options import DistillationOptions, LossOptions
from jml_kernels.overlaps import OVERLAPS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: The folders of the repository that pages name files of.
FOLDERS = ("benchmarks", "csrc", "docs", "examples", "jml_kernels", "tests", "triton_kernels")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def anchors(text: str) -> set[str]:
    """The names that a Markdown page's headings are linked by."""
    headings = re.findall(r"^#+ (.+)$", without_code(text), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


@every_page
def test_code_runs(page):
    """The Python of a page, from top to bottom, with tensors as it names them."""
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    if not blocks:
        pytest.skip("it has no Python")
    labels = torch.randint(4, (2, 8, 8))
    names = {
        "logits": torch.randn(2, 4, 8, 8, requires_grad=True),
        "labels": labels,
        "teacher_logits": torch.randn(2, 4, 8, 8),
        "small_logits": torch.randn(2, 4, 2, 2, requires_grad=True),
        "model": torch.nn.Identity(),
        "micro_batches": [(torch.randn(2, 4, 8, 8, requires_grad=True), labels)],
    }
    with mock.patch.dict(OVERLAPS):  # one page adds an overlap
        for block in filter(_runs_here, blocks):
            exec(compile(block, page.name, "exec"), names)
    assert torch.isfinite(names.get("loss", torch.tensor(0.0))).all()


def _runs_here(block: str) -> bool:
    """Metrics need an extra; plots are of metrics."""
    needed = {"jml.metrics": "torchmetrics", "plots.": "matplotlib"}
    return all(find_spec(package) or words not in block for words, package in needed.items())


@every_page
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@every_page
def test_files_are_there(page):
    """A page may leave out the folders before a name. Files of others are links."""
    paths = [path.as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")]
    paths += [path.as_posix() for path in ROOT.glob("*.*")]
    text = re.sub(r"\]\(https?://[^)\s]+\)", "]", without_code(page.read_text()))
    named = re.findall(r"(?<![\w<*])[\w./]*\w\.(?:py|h|cuh|cu|cpp|md|json)\b", text)
    missing = [
        name
        for name in dict.fromkeys(named)
        if not any(path.endswith(f"/{name.removeprefix('../')}") for path in paths)
    ]
    assert missing == []


def options_in(text: str) -> dict[str, str]:
    """Option -> default, of the tables whose rows begin with them."""
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| `([^|]+)` \|", text, flags=re.M)
    return {name: default for names, default in rows for name in re.findall(r"\w+", names)}


def test_every_option_is_explained():
    listed = options_in((ROOT / "docs" / "losses.md").read_text(encoding="utf-8"))
    expected = {
        field.name: repr(field.default).replace("'", '"')
        for field in fields(DistillationOptions)
        if field.default is not MISSING
    }
    # Constructors take it beside the options, since it is a tensor.
    assert listed == expected | {"class_weights": "None"}
    assert {field.name for field in fields(LossOptions)} < listed.keys()
