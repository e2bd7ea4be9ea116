"""Reads frames through GStreamerSource in a Python that has `gi`, and tells them as one line of JSON.

python3 gstreamer_reader.py SETTINGS_JSON COUNT [software]    the source itself
python3 gstreamer_reader.py SETTINGS_JSON COUNT live          as one of the cameras, opened again when it ends
"""

import json
import sys
import threading

from edge_app.errors import SourceError, SourceRefusedError
from edge_app.sources.cameras import Cameras
from edge_app.sources.gstreamer import GStreamerSource
from edge_app.sources.settings import CameraSettings


def main(settings: str, count: str, decoder: str = "hardware") -> None:
    said: dict = {"frames": [], "error": None, "refused": False, "ended": False}
    source = None
    try:
        source = GStreamerSource(CameraSettings.model_validate_json(settings), hardware=decoder == "hardware")
        while len(said["frames"]) < int(count):
            frame = source.read()
            if frame is None:
                said["ended"] = True
                break
            colour = [round(float(level)) for level in frame.image.mean(axis=(0, 1))]
            said["frames"].append([frame.time_s, frame.width_px, frame.height_px, *colour])
    except SourceError as error:
        said["error"], said["refused"] = str(error), isinstance(error, SourceRefusedError)
    finally:
        if source is not None:
            source.close()
    print(json.dumps(said))


def live(settings: str, count: str) -> None:
    stop, frames = threading.Event(), 0
    cameras = Cameras([CameraSettings.model_validate_json(settings)], "live")
    for _, some in cameras.ticks(stop):
        frames += len(some)
        if frames >= int(count):
            stop.set()
    status = next(iter(cameras.states().values()))
    cameras.close()
    print(json.dumps({"frames": frames, "reconnects": status.reconnects, "falls": status.falls}))


if sys.argv[3:] == ["live"]:
    live(*sys.argv[1:3])
else:
    main(*sys.argv[1:])
