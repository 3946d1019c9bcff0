"""How much time there is: a machine with a GPU may be lent for minutes."""

from __future__ import annotations

import time
from collections.abc import Callable


class Budget:
    """Seconds from a beginning that may lie back, to an end."""

    def __init__(
        self,
        minutes: float,
        started: float | None = None,
        now: Callable[[], float] = time.time,
    ):
        """
        Args:
            started: when the minutes began, in seconds since 1970; None: now.
            now: the clock.
        """
        self.seconds = 60 * minutes
        self.now = now
        self.started = now() if started is None else started

    @property
    def end(self) -> float:
        """In seconds since 1970."""
        return self.started + self.seconds

    def left(self, reserve: float = 0.0) -> float:
        """Seconds until the end, but for a share of the whole that is kept for others; never
        below 0."""
        return max(self.end - reserve * self.seconds - self.now(), 0.0)

    def at_most(self, share: float) -> float:
        """A share of the whole, and no more than is left."""
        return min(share * self.seconds, self.left())
