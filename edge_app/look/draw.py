"""One frame with everything that was made of it: boxes by score, tracks, the area, zones, and views that were taken.

solid, coloured   a track, in its colour; its number, class and score beside it
double            a view was taken of it in this frame
white, thin       a box without a track yet
grey, thin        too weak to be followed, with its score
amber, thin       of a class that nobody asked for
blue, thin        a person who is followed because it may be a rider
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_app.perception.witness import Sight
from edge_app.pictures.style import identity_colour
from edge_app.settings import Polygon
from edge_app.types import Floats, Image

BGR = tuple[int, int, int]
WHITE: BGR = (240, 246, 250)
GREY: BGR = (150, 145, 139)
AMBER: BGR = (34, 153, 210)
BLUE: BGR = (255, 166, 88)
BLACK: BGR = (13, 10, 8)
SHADE = 0.45  # of what lies outside the area


def annotated(
    sight: Sight,
    names: tuple[str, ...],
    area: Polygon | None,
    zones: Mapping[str, Polygon],
    trails: Mapping[str, Floats],
) -> Image:
    """(H, W, 3) uint8 BGR, a new picture; a blank one where the camera delivers no pixels. `trails`: track → (T, 2)
    where its foot has been."""
    import cv2

    frame = sight.frame
    blank = np.full((frame.height_px, frame.width_px, 3), 32, np.uint8)
    image = blank if frame.image is None else frame.image.copy()
    size = np.array([frame.width_px, frame.height_px])
    if area is not None:
        mask = np.zeros(image.shape[:2], np.uint8)
        cv2.fillPoly(mask, [(np.array(area) * size).astype(np.int32)], (1,))
        image[mask == 0] = (image[mask == 0] * SHADE).astype(np.uint8)
    for name, polygon in zones.items():
        corners = (np.array(polygon) * size).astype(np.int32)
        cv2.polylines(image, [corners], True, WHITE, 1, cv2.LINE_AA)
        _label(image, corners.min(axis=0) + np.array([4, 16]), name, WHITE)
    if (aside := sight.found.aside) is not None:
        for box, score, index, why in zip(aside.boxes, aside.scores, aside.classes, aside.why, strict=True):
            colour = GREY if why == "weak" else AMBER
            _box(image, box, colour, 1)
            _label(image, box[:2] - np.array([0, 3]), f"{names[index]} {score:.2f}", colour)
    for box in sight.found.boxes:
        _box(image, box, WHITE, 1)
    taken = {view.track for view in sight.taken}
    tracks = sight.tracks
    for track, box, score, index in zip(tracks.ids, tracks.boxes, tracks.scores, tracks.classes, strict=True):
        number = track.rpartition("/")[2]
        red, green, blue = (round(255 * part) for part in identity_colour(f"x-{number}"))
        colour = BLUE if track in sight.unasked else (blue, green, red)
        if track in trails and len(trails[track]) > 1:
            cv2.polylines(image, [trails[track].astype(np.int32)], False, colour, 2, cv2.LINE_AA)
        _box(image, box, colour, 1 if track in sight.unasked else 2)
        if track in taken:
            _box(image, box + np.array([-4, -4, 4, 4], np.float32), colour, 1)
        _label(image, box[:2] - np.array([0, 4]), f"#{number} {names[index]} {score:.2f}", colour)
    return image


def _box(image: Image, box: Floats, colour: BGR, width: int) -> None:
    import cv2

    left, top, right, bottom = (round(value) for value in box.tolist())
    cv2.rectangle(image, (left, top), (right, bottom), colour, width, cv2.LINE_AA)


def _label(image: Image, place: Floats, text: str, colour: BGR) -> None:
    import cv2

    text = text.encode("ascii", "replace").decode()  # OpenCV's letters
    at = (max(round(float(place[0])), 2), max(round(float(place[1])), 12))
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, BLACK, 3, cv2.LINE_AA)
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
