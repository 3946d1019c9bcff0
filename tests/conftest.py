"""What every test shares: where helpers are found, which backends run here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

import jml_kernels as jml
from jml_kernels.backend import BY_NAME

# importlib mode puts no folder of tests on the path; helpers as judges.py are found there.
sys.path.insert(0, str(Path(__file__).parent))

# The same examples on every run, however slow the machine.
settings.register_profile(
    "fixed",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("fixed")


def pytest_configure() -> None:
    """Workers share out the cores: threads of several of them would wait for one another, also in
    the processes that their tests start."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long tests: workers that share out the others then end together."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


BACKENDS = [name for name, reason in jml.backends().items() if reason is None]
COMPILED = [name for name in BACKENDS if name != "reference"]
# A parametrisation over nothing is skipped with this as its reason.
_NONE_COMPILED = pytest.param(
    None, marks=pytest.mark.skip(reason="no compiled backend runs here"), id="none"
)


@pytest.fixture(params=BACKENDS)
def backend(request) -> str:
    """Every backend that runs here."""
    return request.param


@pytest.fixture(params=COMPILED or [_NONE_COMPILED])
def compiled(request) -> str:
    """Every backend with kernels of its own."""
    return request.param


@pytest.fixture(
    params=[name for name in COMPILED if BY_NAME[name].finishes_loss] or [_NONE_COMPILED]
)
def finished(request) -> str:
    """Every backend that computes the formula too."""
    return request.param


@pytest.fixture
def device(request) -> str:
    """Where the tensors of the test's backend lie."""
    parameters = request.node.callspec.params
    names = {parameters.get(name) for name in ("backend", "compiled", "finished")}
    on_gpu = any(BY_NAME[name].needs_gpu for name in names if name is not None)
    return "cuda" if on_gpu else "cpu"


@pytest.fixture
def one_thread():
    """For tests of many small tensors: on a busy machine threads wait for one another, and kernels
    compute the same bits whatever their number (test_threads.py)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def threads():
    """`torch.set_num_threads`, set back at the end."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
