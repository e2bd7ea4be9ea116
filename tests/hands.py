"""The hands of a node's clock, for tests that move them."""

from __future__ import annotations

from edge_app.clock import Clock


class Hands:
    """A wall clock that can be set, and a monotonic clock that only runs."""

    def __init__(self, wall_s: float = 1_790_000_000.0, monotonic_s: float = 50.0) -> None:
        self.wall_s, self.monotonic_s = wall_s, monotonic_s
        self.synchronised = True
        self.machine = "first boot"

    def run(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds

    def set(self, by_s: float) -> None:
        """Somebody sets the wall clock."""
        self.wall_s += by_s

    def power_cut(self, seconds: float) -> None:
        """The machine is off for so long; its monotonic time begins anew."""
        self.wall_s += seconds
        self.monotonic_s, self.machine = 3.0, self.machine + " and another"

    def clock(self) -> Clock:
        """As a process that starts now makes it."""
        return Clock(lambda: self.wall_s, lambda: self.monotonic_s, lambda: self.synchronised, self.machine)
