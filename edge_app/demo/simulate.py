"""A synthetic site for dashboards without cameras: real messages about now, to any broker."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from edge_app.bus import MqttSettings, configuration_problems
from edge_app.bus.settings import DEFAULT_PORT, DEFAULT_TLS_PORT
from edge_app.config import Site, parse
from edge_app.contract.whole import whole
from edge_app.demo.play import Play, raw_config
from edge_app.demo.watch import parse_address
from edge_app.errors import ConfigurationError, StoreError
from edge_app.run import run

_T = TypeVar("_T")


@dataclass(frozen=True)
class Destination:
    """Where a simulated site speaks, and as whom."""

    broker: str = "localhost:1883"  # host, host:port or [IPv6]:port
    node: str = "edge-1"
    username: str | None = None
    password_env: str | None = None  # name of the variable that holds the password
    tls: dict[str, Path] | None = None  # as `mqtt.tls` of a configuration; None without TLS

    def address(self) -> tuple[str, int]:
        """Host and port. Raises ConfigurationError."""
        return parse_address(self.broker, port=DEFAULT_PORT if self.tls is None else DEFAULT_TLS_PORT)

    def mqtt(self, host: str, port: int) -> dict[str, Any]:
        """The group `mqtt` of a configuration."""
        login = {"username": self.username, "password_env": self.password_env}
        given: dict[str, Any] = {name: value for name, value in login.items() if value is not None}
        if self.tls is not None:
            given["tls"] = {name: str(path.resolve()) for name, path in self.tls.items()}
        return {"host": host, "port": port, **given}


def simulate_site(
    play: Play, to: Destination, write_config: Path | None, clock: Callable[[], float] = time.time
) -> bool:
    """Play a synthetic site to a broker until it ends or is stopped (True); or write its configuration instead.

    What happens there happens now by `clock`: in real time from the first frame on, else so that the last one is now.
    """
    play = replace(play, start_s=math.floor(clock()))
    raw, config = _configured(play, to)
    if play.speed and play.speed > 1:  # it would run ahead of the clock, so it begins so much earlier
        longest_s = play.seconds + max(
            (link.transit.max_s for link in config.links), default=0.0
        )  # until the last one is decided
        ahead_s = math.ceil(longest_s * (1 - 1 / play.speed))
        raw, config = _configured(replace(play, start_s=play.start_s - ahead_s), to)
    if write_config is not None:
        _write_whole(write_config, yaml.safe_dump(raw, sort_keys=False))
        return False
    with tempfile.TemporaryDirectory() as scratch:
        store = config.store.model_copy(update={"path": Path(scratch) / "simulate.db"})
        return run(config.model_copy(update={"store": store}))


def _configured(play: Play, to: Destination) -> tuple[dict[str, Any], Site]:
    """As plain values and checked. Raises ConfigurationError with all mistakes at once."""
    problems: list[str] = []

    def tried(make: Callable[[], _T]) -> _T | None:
        try:
            return make()
        except ConfigurationError as error:
            problems.extend(error.problems)
            return None

    store = Path("state") / f"{play.site}-{to.node}.db"
    mqtt = to.mqtt(*(tried(to.address) or ("localhost", DEFAULT_PORT)))
    raw = tried(lambda: raw_config(play, store, mqtt)) or raw_config(Play(), store, mqtt)  # else the rest is unchecked
    raw["node"] = to.node
    config = tried(lambda: parse(raw, Path("simulate")))
    problems += configuration_problems(MqttSettings(**mqtt))
    if to.password_env is not None and to.username is None:
        problems.append(f"--password-env {to.password_env}: a password needs --user, the name to log in with")
    if problems or config is None:
        raise ConfigurationError(problems, "simulate")
    return raw, config


def _write_whole(path: Path, text: str) -> None:
    """Raises StoreError. The file is there as a whole or, as before, not at all."""
    try:
        with whole(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; choose a file in a folder that is there and writable") from error
