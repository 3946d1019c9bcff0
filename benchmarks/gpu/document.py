"""The results as a file, written anew after everything that is found."""

from __future__ import annotations

import json
import os
from pathlib import Path

from . import figures, tests
from .cases import BACKENDS
from .machine import ROOT


def folder() -> Path:
    """$OUT where it is set, else benchmarks/results."""
    return Path(os.environ.get("OUT") or ROOT / "benchmarks" / "results")


class Document:
    """What is found, ready for JSON: "machine", "commit", "settings", "tests" by group, "cases",
    "not measured" with why, "left out" for lack of time, "triton ahead", "profile", "finished"."""

    def __init__(self, file: Path, machine: dict, commit: dict, settings: dict):
        self.file = file
        self.content = {
            "machine": machine,
            **commit,
            "settings": settings,
            "finished": False,
            "tests": {},
            "triton ahead": [],
            "left out": [],
            "not measured": {},
            "profile": {},
            "cases": [],
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        self.write()

    def write(self) -> None:
        """Never half: who reads it, or ends this process, finds the old one or the new one."""
        new = self.file.with_suffix(".part")
        new.write_text(json.dumps(self.content, indent=1) + "\n")
        new.replace(self.file)

    def add_tests(self, group: str, found: dict[str, object]) -> None:
        self.content["tests"][group] = found
        self.write()

    def add_case(self, row: dict) -> None:
        self.content["cases"].append(row)
        self.content["triton ahead"] = figures.triton_ahead(self.content["cases"])
        self.write()

    def add_failure(self, name: str, why: str) -> None:
        self.content["not measured"][name] = why
        self.write()

    def add_profile(self, name: str, found: dict[str, object]) -> None:
        self.content["profile"][name] = found
        self.write()

    def leave_out(self, names: list[str]) -> None:
        self.content["left out"] += names
        self.write()

    def finish(self) -> list[str]:
        """Returns what went wrong, in words; nothing did where it is empty."""
        self.content["finished"] = True
        self.write()
        content = self.content
        return [
            *(
                f"tests of {group}: {found['failed']} failed, exit status {found['exit']}"
                for group, found in content["tests"].items()
                if tests.has_failed(found)
            ),
            *(f"{name}: {why}" for name, why in content["not measured"].items()),
            *(f"{row['name']}: {why}" for row in content["cases"] for why in row["wrong"].values()),
            *(
                f"{row['name']}: {name} failed: {row['left out'][name]}"
                for row in content["cases"]
                for name in BACKENDS
                if name in row["left out"]
            ),
        ]
