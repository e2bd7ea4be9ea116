"""`edge-app run`: one node under signals and a service manager's eyes."""

from __future__ import annotations

import logging

from edge_app.app import Node
from edge_app.config import Site
from edge_app.errors import SourceError
from edge_app.health.watchdog import Watchdog
from edge_app.stopping import Stopped, StopSignals

log = logging.getLogger(__name__)


def run(config: Site) -> bool:
    """Until SIGTERM or SIGINT (True), or the end of all recordings (False). Raises SourceError for
    those that could not be read."""
    watchdog = Watchdog()
    watchdog.starting("opening models, store and cameras")
    with StopSignals() as signals:
        try:
            with Node(config) as node:
                signals.started()
                for _ in node.steps(signals.stop):
                    watchdog.step(node.status)
                watchdog.stopping()
                failed = [name for name, one in node.cameras.states().items() if one.last_error]
        except Stopped:
            log.info("stopped while starting")
            return True
    if failed and not signals.stop.is_set():
        raise SourceError(f"not read to the end, as the log says: camera {', '.join(failed)}")
    return signals.stop.is_set()
