"""`edge-app run`: one node under signals and a service manager's eyes."""

from __future__ import annotations

import logging

from edge_app.app import Node, raise_for
from edge_app.config import Site
from edge_app.health.watchdog import Watchdog
from edge_app.stopping import Stopped, StopSignals

log = logging.getLogger(__name__)


def run(config: Site) -> None:
    """Until SIGTERM or SIGINT, or the end of all recordings. Raises SourceError for those that could not be read."""
    watchdog = Watchdog()
    watchdog.starting("opening models, store and cameras")
    with StopSignals() as signals:
        try:
            with Node(config) as node:
                signals.started()
                for _ in node.steps(signals.stop):
                    watchdog.step(node.status)
                watchdog.stopping()
                failed = [] if signals.stop.is_set() else node.failed_cameras()
        except Stopped:
            log.info("stopped while starting")
            return
    raise_for(failed)
