"""Options that take several words: `--shape 4,19,512,512 2,150,256,256`."""

from __future__ import annotations

import typer
from typer.core import TyperCommand


class Many(TyperCommand):
    """A command without arguments, whose repeated options may also be given once, with several
    words behind."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        several = {
            name
            for option in self.params
            if getattr(option, "multiple", False)
            for name in option.opts
        }
        return super().parse_args(ctx, list(repeated(args, several)))


def repeated(args: list[str], several: set[str]) -> list[str]:
    """The option again before every further word: ["--a", "x", "y"] -> ["--a", "x", "--a", "y"].

    Args:
        several: names of options that may have several words.
    """
    found: list[str] = []
    option, words = None, 0
    for word in args:
        name = word.partition("=")[0]
        if word.startswith("-"):
            option, words = (name if name in several else None), ("=" in word) + 0
        else:
            words += 1
            if option is not None and words > 1:
                found.append(option)
        found.append(word)
    return found
