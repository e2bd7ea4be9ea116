"""How a received message looks in a terminal: a stream of lines, and below it, alive, what was counted."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from types import TracebackType
from zlib import crc32

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from edge_app.contract.messages import Match, Revision
from edge_app.contract.topics import Message

BAR_CELLS = 12
CAMERA_CELLS = 8
HEADER = (
    f"{'time':<12}{'from':>{CAMERA_CELLS}}   {'to':<{CAMERA_CELLS}}  {'class':<8}{'transit':>8}   {'posterior':<18}"
)
# Easily told apart on dark and on light terminals; neighbours in the list are far apart in hue.
IDENTITY_COLOURS = (
    *("dodger_blue1", "dark_orange", "spring_green3", "medium_orchid", "gold3", "deep_sky_blue3"),
    *("hot_pink3", "chartreuse3", "slate_blue1", "light_salmon3", "turquoise2", "plum3"),
)


def clock(time_s: float) -> str:
    """Seconds since the epoch → `22:13:41.2`, UTC."""
    tenths = round(time_s * 10)
    whole = datetime.fromtimestamp(tenths // 10, tz=timezone.utc)
    return f"{whole:%H:%M:%S}.{tenths % 10}"


def colour_of(global_id: str) -> str:
    """One identity has one colour on every camera."""
    counter = global_id.rpartition("-")[2]
    index = int(counter) if counter.isascii() and counter.isdigit() else crc32(global_id.encode())
    return IDENTITY_COLOURS[index % len(IDENTITY_COLOURS)]


def plain_line(message: Message) -> str | None:
    """One line for a match or a revision, None for what is not shown."""
    if isinstance(message, Match):
        return (
            f"{clock(message.observed_at_s)}  {message.from_.camera:>{CAMERA_CELLS}} → "
            f"{message.to.camera:<{CAMERA_CELLS}}  {message.class_name:<8}{message.transit_s:6.1f} s  "
            f"{message.posterior:.2f}  {message.state:<12} {message.global_id}"
        )
    if isinstance(message, Revision):
        ids = ", ".join(sorted({link.global_id for link in message.effective_links}))
        return f"{clock(message.observed_at_s)}  revision: {message.kind}, {message.reason}: {ids}"
    return None


def coloured_line(message: Message) -> Text | None:
    """The same for a terminal: provisional is dim, confirmed is bright, an identity keeps its colour."""
    if isinstance(message, Revision):
        return Text.assemble(
            (f"{clock(message.observed_at_s)}  ", "dim"),
            (f"{'↺ ' + message.kind:>{CAMERA_CELLS}}   ", "bold yellow"),
            (message.reason, "yellow"),
        )
    if not isinstance(message, Match):
        return None
    confirmed = message.state == "confirmed"
    prefix, dash, counter = message.global_id.rpartition("-")
    line = Text.assemble(
        (f"{clock(message.observed_at_s)}  ", "dim"),
        (f"{message.from_.camera:>{CAMERA_CELLS}}", "bold"),
        (" → ", colour_of(message.global_id)),
        (f"{message.to.camera:<{CAMERA_CELLS}}  ", "bold"),
        f"{message.class_name:<8}{message.transit_s:6.1f} s   ",
        *_bar(message.posterior),
        f" {message.posterior:.2f}  ",
        ("● confirmed    ", "green") if confirmed else "○ provisional  ",
        (prefix + dash, "dim"),
        (counter, f"bold {colour_of(message.global_id)}"),
        overflow="ellipsis",
        no_wrap=True,
    )
    if not confirmed:
        line.stylize("dim not bold")
    return line


def _bar(share: float) -> list[tuple[str, str]]:
    full = round(share * BAR_CELLS)
    colour = "green" if share >= 0.8 else "yellow" if share >= 0.5 else "red"
    return [("━" * full, colour), ("━" * (BAR_CELLS - full), "grey30")]


class PlainLines:
    """For files, pipes and `--headless`."""

    def show(self, message: Message) -> None:
        line = plain_line(message)
        if line is not None:
            print(line, flush=True)

    def refresh(self, counts: Counter[str]) -> None:
        pass


class LiveLines:
    """For terminals; `with LiveLines(…) as lines:`."""

    def __init__(self, where: str, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._where = where
        self._shown: Counter[str] = Counter()
        self._capture = ""
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(self._spinner, console=self._console, refresh_per_second=8, transient=True)

    def __enter__(self) -> LiveLines:
        self._console.print(Text(HEADER, "bold dim", no_wrap=True, overflow="crop"))
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, message: Message) -> None:
        line = coloured_line(message)
        if line is not None:
            self._shown[message.state if isinstance(message, Match) else "revised"] += 1
            self._capture = clock(message.observed_at_s)
            self._live.console.print(line)

    def refresh(self, counts: Counter[str]) -> None:
        numbers = [
            f"{counts['messages']} messages",
            f"{self._shown['confirmed']} confirmed",
            f"{self._shown['provisional']} provisional",
            f"{self._shown['revised']} revised",
        ]
        text = Text(" · ".join(numbers), "bold").append(f"   {self._where}", "not bold dim")
        text.no_wrap, text.overflow = True, "ellipsis"
        self._spinner.update(text=text)
