"""The demo: a simulated site, a broker, this application, and an independent subscriber, scored at the end.

Three parties, three processes or more: the cameras draw in processes of their own, the application runs in this one,
and `edge_app.demo.watch` listens in another. What is printed, counted and scored is what the subscriber received; only
the truth and the time measurements come from here.
"""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from edge_app import app
from edge_app.associate.facts import Match, Revision
from edge_app.config import Site
from edge_app.contract.topics import ROOT
from edge_app.demo.broker import EmbeddedBroker
from edge_app.demo.play import Play, site_config
from edge_app.demo.received import Mail, read_mail
from edge_app.demo.report import Run, print_opening, print_report, summarise
from edge_app.demo.watch import address_text, parse_address
from edge_app.errors import BrokerError, StoreError
from edge_app.logs import LogSettings, configure
from edge_app.pictures.album import Album

LISTEN_S = 90.0  # for the subscriber to start, on a machine with other things to do, and to be let in
GOODBYE_S = 10.0  # for the last messages to arrive
LIBRARIES = (
    "crosslane",
    "numpy",
    "opencv-python-headless",
    "onnxruntime",
    "trackers",
    "paho-mqtt",
    "amqtt",
    "pydantic",
)


def run_demo(play: Play, out: Path | None, headless: bool, broker: str | None) -> None:
    """Play `play`, print matches as they arrive and then the score; `out` gets summary.json and two pictures.

    `broker` is host:port; without it one is started here. Ctrl-C ends it early, with the score so far.
    """
    began_s = time.time()
    configure(LogSettings(level="ERROR"))  # the terminal belongs to the subscriber
    if out is not None:
        make_folder(out)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crosslane-demo-")))
        if broker is None:
            own = stack.enter_context(EmbeddedBroker())
            host, port, protocol = own.host, own.port, "3.1.1"
        else:
            (host, port), protocol = parse_address(broker), "auto"
        config = site_config(play, scratch / "demo.db", {"host": host, "port": port, "protocol": protocol})
        address = address_text(host, port)
        print_opening(play, [camera.id for camera in config.cameras], address, own_broker=broker is None)
        run, mail = play_and_listen(config, address, scratch / "received.jsonl", plain=headless)
    summary, judgement = summarise(play, run, mail, began_s)
    summary["broker"] = "embedded" if broker is None else broker
    summary["versions"] = _versions()
    print_report(summary, judgement.score)
    if out is not None:
        _write(out, summary, run, mail, judgement)


def play_and_listen(config: Site, address: str, log: Path, *, plain: bool, silent: bool = False) -> tuple[Run, Mail]:
    """Play the site while somebody else listens at the broker; what was said, and what was received."""
    with Watcher(address, f"{ROOT}/{config.site}/{config.node}/#", log, plain=plain, silent=silent) as watcher:
        run = _play(config)
        watcher.finish()
    return run, read_mail(log, run.boot_id)


def _play(config: Site) -> Run:
    """The application, until the recordings are over or Ctrl-C."""
    stop, album = threading.Event(), Album()
    handlers = {n: signal.signal(n, lambda *_: stop.set()) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        with app.Node(config) as node:
            run = Run(node.letterhead.boot_id, [camera.id for camera in config.cameras], album)
            at_rest = _engine_seconds(node)
            clock = time.perf_counter()
            for step in node.steps(stop):
                run.frames += len(step.frames)
                run.tracklets += step.tracklets
                run.facts_said += sum(isinstance(fact, Match | Revision) for fact in step.facts)
                run.until_s = max([run.until_s, *(frame.time_s for frame in step.frames)])
                album.add(step.views)
                if step.frames:
                    run.wall_s = time.perf_counter() - clock
            run.stage_s = dict(node.meter.total)
            run.engine_s = {name: spent - at_rest[name] for name, spent in _engine_seconds(node).items()}
            run.stopped = stop.is_set()
            run.models = {"embedder": node.embedder.version}
            app.raise_for(node.failed_cameras())
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return run


def _engine_seconds(node: app.Node) -> dict[str, float]:
    """Seconds spent inside each engine so far; nothing where the simulation plays the models itself."""
    parts = {"detector": node.detector, "embedder": node.embedder}
    return {name: part.engine.busy_s for name, part in parts.items() if hasattr(part, "engine")}


class Watcher:
    """`edge_app.demo.watch` in a process of its own, on this terminal."""

    def __init__(self, address: str, topic: str, log: Path, *, plain: bool, silent: bool) -> None:
        command = [sys.executable, "-m", "edge_app.demo.watch", address, "--topic", topic, "--log", str(log)]
        self._command = [*command, "--until-offline", *(["--plain"] if plain else [])]
        self._log, self._shown = log, subprocess.DEVNULL if silent else None

    def __enter__(self) -> Watcher:
        """Returns when it listens. Raises BrokerError when it does not."""
        self._process = subprocess.Popen(self._command, stdout=self._shown)
        until_s = time.monotonic() + LISTEN_S
        while not self._log.exists():
            code = self._process.poll()
            if code is not None or time.monotonic() > until_s:
                self._process.kill()
                why = f"not ready within {LISTEN_S:g} s" if code is None else f"exit code {code}, see above"
                raise BrokerError(f"the subscriber could not listen: {why}")
            time.sleep(0.02)
        return self

    def finish(self) -> None:
        """Wait until it has heard the node's goodbye."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GOODBYE_S)

    def __exit__(self, *_: object) -> None:
        """Whatever happened: it puts the terminal in order and ends."""
        self._process.terminate()
        try:
            self._process.wait(GOODBYE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def make_folder(out: Path) -> None:
    """Before anything else: nobody should wait two minutes for a refused write."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"--out {out}: {error.strerror}") from error


def _write(out: Path, summary: dict[str, Any], run: Run, mail: Mail, judgement: Any) -> None:
    from edge_app.demo.report import draw

    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    draw(out, summary, run, mail, judgement)
    print(f"\n{out / 'summary.json'}\n{out / 'matches.png'}\n{out / 'timeline.png'}")
