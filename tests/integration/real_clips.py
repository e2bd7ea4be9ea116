"""The site configurations of real recordings, with the folder that holds recordings and models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from edge_app.config import Site, parse

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "edge"
TERRACE_FIRST_S = 42.0  # people come one by one
NORTH_FIRST = {"start_time": "2000-01-01T12:01:00Z"}


def clip_config(name: str, data: Path, store: Path, mqtt: dict[str, Any] | None = None) -> Site:
    """`configs/edge/<name>.yaml` as if `data/` lay at the repository's top."""
    return parse(raw_config(name, data, store, mqtt), CONFIGS / f"{name}.yaml")


def raw_config(name: str, data: Path, store: Path, mqtt: dict[str, Any] | None) -> dict[str, Any]:
    raw = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    for place, key in [*((camera, "source") for camera in raw["cameras"]), *((raw[k], "path") for k in MODELS)]:
        place[key] = place[key].replace("../../data", str(data))
    return {**raw, "store": {"path": str(store)}, "mqtt": mqtt}


MODELS = ("detector", "embedder")


def first_of_terrace(data: Path, folder: Path, mqtt: dict[str, Any] | None = None) -> Site:
    """The first 42 seconds of both recordings, cut into `folder`, the second one minute after the first."""
    raw = raw_config("terrace", data, folder / "terrace.db", mqtt)
    for camera in raw["cameras"]:
        whole = Path(camera["source"])
        camera["source"] = str(folder / whole.name)
        cut(whole, folder / whole.name, TERRACE_FIRST_S)
    raw["cameras"][1].update(NORTH_FIRST)
    raw["links"][0]["transit"] = {"min_s": 15, "max_s": 110}
    return parse(raw, CONFIGS / "terrace.yaml")


def cut(source: Path, target: Path, seconds: float) -> None:
    """The first seconds of a recording, its packets as they are."""
    import av

    with av.open(str(source)) as given, av.open(str(target), "w") as taken:
        video = given.streams.video[0]
        stream = taken.add_stream_from_template(video)
        for packet in given.demux(video):
            if packet.dts is None or packet.dts * packet.time_base >= seconds:
                break
            packet.stream = stream
            taken.mux(packet)
