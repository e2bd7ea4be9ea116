"""`edge-app look`: what each camera of a site sees, and what it does not see; the tool with which a site is begun.

Recordings are played to their end, as fast as they can be; live cameras are looked at for a while. Nothing is stored,
sent or collected, and a node that runs beside is not touched.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Collection
from pathlib import Path

from edge_app import app
from edge_app.clock import Clock
from edge_app.config import Site
from edge_app.contract.whole import whole
from edge_app.errors import ConfigurationError
from edge_app.eyes import subject_of
from edge_app.look.film import Films
from edge_app.look.look import Look, attach
from edge_app.replay import CLOCK, make_folder, offline, on_disk

PAGE = "look.html"
LIVE_S = 60.0


def look_site(
    config: Site, out: Path, cameras: Collection[str] = (), seconds: float | None = None, video: bool = True
) -> list[str]:
    """Write `look.html` and an annotated video of each camera to `out`; what stands out, a line each.

    `cameras`: those that are looked at, all where empty. `seconds`: for so long, of recordings their own time; live
    cameras for a minute where it is not said. Raises `ConfigurationError` for a camera that is not there, `StoreError`
    where `out` cannot be written, and `SourceError` after the page was written when a recording was bad.
    """
    config = _only(config, cameras)
    live = any(camera.is_live for camera in config.cameras)
    make_folder(out)
    with tempfile.TemporaryDirectory() as scratch, on_disk(out):
        quiet = offline(config, Path(scratch))
        if live:
            quiet = quiet.model_copy(update={"ticks": config.ticks})
        with app.Node(quiet, Clock() if live else CLOCK, lineage="look") as node, Films(out, video) as films:
            look = Look(subject_of(config, node.detector), pictures=True, film=films.add if video else None)
            attach(node.perception, look)
            _play(node, look, LIVE_S if live and seconds is None else seconds)
            failed = node.failed_cameras()
    with on_disk(out / PAGE), whole(out / PAGE) as file:
        file.write(look.html(films.addresses).encode())
    app.raise_for(failed)
    return [*look.told(), f"the page: {out / PAGE}"]


def _play(node: app.Node, look: Look, seconds: float | None) -> None:
    """Until the recordings are over, or that many seconds of the cameras' own time."""
    stop = threading.Event()
    began_s: float | None = None
    for step in node.steps(stop):
        look.add(step.tracklets)
        began_s = step.now if began_s is None else began_s
        if seconds is not None and step.now - began_s >= seconds:
            stop.set()
    if stop.is_set():
        look.add(node.perception.end())  # what is in view is a passage too


def _only(config: Site, cameras: Collection[str]) -> Site:
    known = [camera.id for camera in config.cameras]
    unknown = [
        f"--camera: there is no camera {name!r}; there are {', '.join(known)}" for name in cameras if name not in known
    ]
    if unknown:
        raise ConfigurationError(unknown, "edge-app look")
    kept = {*(cameras or known)}
    return config.model_copy(
        update={
            "cameras": tuple(camera for camera in config.cameras if camera.id in kept),
            "links": tuple(link for link in config.links if {link.from_camera, link.to_camera} <= kept),
        }
    )
