"""Triton's interpreter, without work that it repeats."""

from __future__ import annotations

import functools
import importlib
import inspect


def remember_builtins() -> None:
    """At every call of a function of a kernel, the interpreter looks through all of
    triton.language for what it must replace, which is half of its time. Here it looks once."""
    interpreter = importlib.import_module("triton.runtime.interpreter")
    is_builtin = interpreter.tl.core.is_builtin

    @functools.cache
    def builtins_of(package: object) -> list[str]:
        return [name for name, member in inspect.getmembers(package) if is_builtin(member)]

    def patch(package: object, *how: object) -> None:
        for name in builtins_of(package):
            member = getattr(package, name)
            if is_builtin(member):  # it has not been replaced yet
                interpreter._patch_attr(package, name, member, *how)

    interpreter._patch_builtin = patch
