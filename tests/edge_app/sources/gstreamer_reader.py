"""Reads frames through GStreamerSource in a Python that has `gi`, and tells them as one line of JSON.

python3 gstreamer_reader.py SETTINGS_JSON COUNT [software]
"""

import json
import sys

from edge_app.errors import SourceError
from edge_app.sources.gstreamer import GStreamerSource
from edge_app.sources.settings import CameraSettings


def main(settings: str, count: str, decoder: str = "hardware") -> None:
    said: dict = {"frames": [], "error": None, "ended": False}
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
        said["error"] = str(error)
    finally:
        if source is not None:
            source.close()
    print(json.dumps(said))


main(*sys.argv[1:])
