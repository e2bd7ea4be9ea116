"""Clips for tests: what their frames should show, and how they are spoiled or turned."""

import struct

import av
import numpy as np

from edge_app.sources.settings import RECORDING_START, CameraSettings

START_S = RECORDING_START.timestamp()


def camera(path, **more) -> CameraSettings:
    return CameraSettings(id="gate", source=str(path), **more)


def level(frame) -> int:
    """The index (modulo 24) that the made-up picture carries in its grey."""
    return round((float(np.median(frame.image)) - 16) / 8)


def truncated(source, target, share: float):
    """The first `share` of an MP4 whose index stands in front, so that the rest of it can still be opened."""
    front = target.with_name("front.mp4")
    with av.open(str(source)) as old, av.open(str(front), "w", options={"movflags": "faststart"}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    content = front.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target


ONE = 1 << 16
TURNS = {  # display matrix, and where the stored corners (top left, top right, bottom left) are then seen
    "upright": ((ONE, 0, 0, ONE), ("top left", "top right", "bottom left")),
    "clockwise": ((0, ONE, -ONE, 0), ("top right", "bottom right", "top left")),
    "upside down": ((-ONE, 0, 0, -ONE), ("bottom right", "bottom left", "top right")),
    "counterclockwise": ((0, -ONE, ONE, 0), ("bottom left", "top left", "bottom right")),
    "mirrored": ((-ONE, 0, 0, ONE), ("top right", "top left", "bottom right")),
}
CORNERS = {"top left": (8, 8), "top right": (8, -8), "bottom left": (-8, 8), "bottom right": (-8, -8)}


def turned_clip(path, matrix):
    """A picture with a red, a green and a blue corner, whose file says how it is to be turned."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        image = np.zeros((96, 160, 3), np.uint8)
        for channel, corner in enumerate(("bottom left", "top right", "top left")):  # blue, green, red in BGR
            y, x = CORNERS[corner]
            image[
                (slice(0, 24) if y > 0 else slice(-24, None)), (slice(0, 24) if x > 0 else slice(-24, None)), channel
            ] = 255
        for _ in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    begin = content.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2
    a, b, c, d = matrix
    content[begin : begin + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(content))
    return path


def damaged(source, target, begin: float, end: float):
    """The file with noise from one share of it to another."""
    content = bytearray(source.read_bytes())
    first, last = int(begin * len(content)), int(end * len(content))
    content[first:last] = np.random.default_rng(1).integers(0, 256, last - first, dtype=np.uint8).tobytes()
    target.write_bytes(bytes(content))
    return target
