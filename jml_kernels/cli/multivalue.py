"""Options that take several values at once: `--shape 4,19,512,512 2,150,256,256`."""

from __future__ import annotations

import typer
from typer.core import TyperCommand


class MultiValueCommand(TyperCommand):
    """A command without arguments. An option that may be repeated may also be given once, with all
    of its values behind it."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        repeatable = {
            name
            for option in self.params
            if getattr(option, "multiple", False)
            for name in option.opts
        }
        return super().parse_args(ctx, repeat_options(args, repeatable))


def repeat_options(args: list[str], repeatable: set[str]) -> list[str]:
    """Write an option again before each of its further values:
    ["--a", "x", "y"] -> ["--a", "x", "--a", "y"].

    Args:
        repeatable: the names of the options that may have several values.
    """
    rewritten: list[str] = []
    option, n_values = None, 0
    for word in args:
        name = word.partition("=")[0]
        if word.startswith("-"):
            option, n_values = (name if name in repeatable else None), int("=" in word)
        else:
            n_values += 1
            if option is not None and n_values > 1:
                rewritten.append(option)
        rewritten.append(word)
    return rewritten
