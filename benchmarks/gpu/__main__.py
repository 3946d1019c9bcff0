"""Tests and benchmark on a GPU: `make gpu`, or `python -m benchmarks.gpu`.

Needs the package, installed as `make gpu` does it, and pytest, hypothesis and Triton. Writes one
JSON into $OUT (benchmarks/results by default), anew after everything that is found: the machine and
the commit, the tests' outcome, and for each case the times of forward and backward, the share of
measured copy bandwidth that they reach, naive JML's times, eager and compiled, peak memory, and
which of the CUDA and Triton kernels are ahead. What there was no time for is named. The exit status
is 1 where a test failed or a result was wrong; neither stops the rest.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace

import torch

import jml_kernels as jml

from . import profile, tests, workers
from .budget import Budget
from .cases import BACKENDS, BATCHES, ENTRIES, QUICK
from .document import Document, folder
from .figures import line, with_prediction
from .machine import commit, describe
from .worker import Settings

#: Shares of the time: what tests may take at most, before the cases and after them, and what is
#: kept from the cases for the rest.
BEFORE = {"gpu": 0.22, "cuda": 0.22}
AFTER = ("sanitizer", "triton")
KEPT_FOR_TESTS, KEPT_FOR_PROFILE = 0.2, 0.1
ROUNDS = 3
#: Bytes of the GPU's memory for each process that compiles.
PER_COMPILER = 12 * 2**30


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=8.5, help="after which nothing more is begun (8.5)")
    add("--started", type=float, help="when the minutes began, in seconds since 1970 (now)")
    add("--quick", action="store_true", help="a few small cases, no tests: shows that it runs")
    add("--profile", action="store_true", help="ask Nsight Compute about a few kernels too")
    add("--no-tests", dest="tests", action="store_false", help="leave the tests out")
    add("--no-cases", dest="cases", action="store_false", help="leave the benchmark out")
    return parser.parse_args(argv)


def run_tests(group: str, seconds: float, document: Document) -> None:
    if seconds < 1:
        document.leave_out([f"tests of {group}"])
        return
    reason = jml.backends().get(group)
    if reason is not None:
        print(f"tests of {group}: left out: {reason}", flush=True)
        return
    found = tests.run(tests.GROUPS[group], seconds)
    document.add_tests(group, found)
    counts = ", ".join(f"{found[key]} {key}" for key in ("passed", "failed", "skipped"))
    cut_short = ", cut short" if found["cut short"] else ""
    print(f"tests of {group}: {counts} in {found['seconds']:.0f} s{cut_short}", flush=True)
    for failure in found["failures"]:
        print(f"FAILED {failure['test']}\n{failure['why']}", flush=True)


def compilers() -> int:
    """How many processes compile side by side."""
    memory = torch.cuda.get_device_properties(0).total_memory
    return max(min((os.cpu_count() or 1) // 2, memory // PER_COMPILER), 1)


def run_cases(chosen: list[int], quick: bool, until: float, document: Document) -> None:
    """Measure entries of `ENTRIES`."""
    left = set(chosen)
    settings = Settings(chosen, 2 if quick else ROUNDS, until, quick)
    now = time.time()
    if now < until and not quick and any(ENTRIES[i].here().compilers for i in chosen):
        # What is not compiled by half time is compiled when it is its turn.
        workers.compile_all(replace(settings, until=(now + until) / 2), compilers())
    for message in workers.measured(settings) if now < until else ():
        name = ENTRIES[message["entry"]].case.name
        left.remove(message["entry"])
        if "result" in message:
            row = with_prediction(message["result"], document.content["machine"]["device"])
            document.add_case(row)
            print(line(row), flush=True)
        else:
            document.add_failure(name, message["failed"])
            print(f"{name}: {message['failed']}", flush=True)
    document.leave_out([ENTRIES[i].case.name for i in chosen if i in left])


def batches(quick: bool) -> list[list[int]]:
    """Numbers of `ENTRIES`."""
    if quick:
        return [list(QUICK)]
    first, found = 0, []
    for batch in BATCHES:
        found.append(list(range(first, first + len(batch))))
        first += len(batch)
    return found


def run_profile(budget: Budget, reserve: float, document: Document) -> None:
    for index in profile.chosen():
        for backend in BACKENDS:
            if backend not in ENTRIES[index].here().competitors:
                continue
            name = f"{ENTRIES[index].case.name}, {backend}"
            seconds = budget.left(reserve)
            if seconds < 5:
                document.leave_out([f"profile of {name}"])
                continue
            found = profile.run(backend, index, seconds)
            document.add_profile(name, found)
            print(f"profile of {name}: {found.get('failed', 'done')}", flush=True)


def run(options: argparse.Namespace, budget: Budget, document: Document) -> list[str]:
    """All of it; returns what went wrong, in words."""
    with_tests = options.tests and not options.quick
    kept = KEPT_FOR_TESTS * with_tests
    if with_tests:
        for group, share in BEFORE.items():
            run_tests(group, budget.at_most(share), document)
    if options.cases:
        reserve = kept + KEPT_FOR_PROFILE * options.profile
        for batch in batches(options.quick):
            until = budget.end - reserve * budget.seconds
            run_cases(batch, options.quick, until, document)
    if options.profile:
        run_profile(budget, kept, document)
    if with_tests:
        for i, group in enumerate(AFTER):
            # The last may have all that is left.
            run_tests(group, budget.left() / (len(AFTER) - i), document)
    return document.finish()


def main() -> None:
    options = arguments()
    if not torch.cuda.is_available():
        sys.exit("there is no GPU")
    machine = describe()
    name = "-".join(machine["device"].lower().split())
    file = folder() / f"gpu-{name}{'-quick' if options.quick else ''}.json"
    budget = Budget(options.minutes, options.started)
    document = Document(file, machine, commit(), vars(options))
    problems = run(options, budget, document)
    content = document.content
    for ahead in content["triton ahead"]:
        print(f"Triton is ahead: {ahead['name']}: {ahead['cuda / triton']}")
    if content["left out"]:
        print("no time was left for:", *content["left out"], sep="\n  ")
    print(f"written: {file}")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
