"""One look at the cameras of a site: everything that is seen while it lasts, and what it comes to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge_app.associate.settings import LinkSettings
from edge_app.look.gallery import Film, Gallery
from edge_app.look.page import Alike, page
from edge_app.look.record import CameraRecord, Record, candidates, strangers
from edge_app.look.verdict import Finding, findings, link_findings
from edge_app.perception.crops import CropSettings
from edge_app.perception.open_track import OpenTrack
from edge_app.perception.perception import Perception
from edge_app.perception.witness import Ending, Sight
from edge_app.settings import Polygon
from edge_app.types import Tracklet


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at, and by which settings it is judged."""

    site: str
    cameras: tuple[str, ...]
    links: tuple[LinkSettings, ...]
    areas: Mapping[str, Polygon]
    zones: Mapping[str, Mapping[str, Polygon]]
    class_names: tuple[str, ...]
    two_wheelers: tuple[str, ...]
    new_track_score: float
    shortest_s: float  # tracks that are shorter count for nothing
    crops: CropSettings
    input_px: tuple[int, int] | None  # of the detector, where it is a network


class Look:
    """A `Witness`. `pictures`: whether any are kept; without, a look costs next to nothing."""

    def __init__(self, subject: Subject, *, pictures: bool, film: Film | None = None) -> None:
        self._subject = subject
        self._record = Record(subject.class_names, subject.two_wheelers, subject.new_track_score, subject.crops)
        for camera in subject.cameras:
            self._record.of(camera)
        self._gallery = (
            Gallery(subject.class_names, subject.areas, subject.zones, subject.crops, film) if pictures else None
        )

    def saw(self, sight: Sight) -> None:
        self._record.saw(sight)
        if self._gallery is not None:
            self._gallery.saw(sight)

    def joined(self, camera: str, track: str, passage: str) -> None:
        self._record.joined(camera, track, passage)

    def ended(self, track: OpenTrack, how: Ending) -> None:
        self._record.ended(track, how)

    def add(self, tracklets: Iterable[Tracklet]) -> None:
        """Passages that were finished meanwhile."""
        self._record.add(tracklets)

    def told(self) -> list[str]:
        """What stands out, a line each."""
        lines = []
        for one, found in self._judged():
            lines.append(f"camera {one.camera}, {one.frames:,} frames, {one.endings['passage']:,} passages:")
            lines += [f"  {'·' if each.grade == 'good' else '!'} {each.text}" for each in found]
        return lines + [f"{'·' if each.grade == 'good' else '!'} {each.text}" for each in self._links()[1]]

    def html(self, videos: Mapping[str, str] | None = None) -> str:
        """The page. `videos`: camera → address of its annotated video, relative to the page."""
        shown = {} if self._gallery is None else self._gallery.cameras
        for camera in [*shown]:
            if self._gallery is not None:
                self._gallery.close(camera)
        for camera, address in (videos or {}).items():
            shown[camera].video = address
        alike, links = self._links()
        cameras = [(one, found, shown.get(one.camera)) for one, found in self._judged()]
        return page(f"What the cameras of {self._subject.site} see", cameras, alike, links)

    def _judged(self) -> list[tuple[CameraRecord, list[Finding]]]:
        self._record.finish()
        return [
            (one, findings(one, self._subject.input_px, self._subject.shortest_s))
            for one in self._record.cameras.values()
        ]

    def _links(self) -> tuple[Sequence[Alike], list[Finding]]:
        """Similarities within and between cameras, and what they say of each link."""
        recent = {camera: [*one.recent] for camera, one in self._record.cameras.items()}
        alike = [Alike(f"Camera {camera}", (("two at once, never one vehicle", strangers(ones)),))
                 for camera, ones in recent.items()]  # fmt: skip
        found = []
        for link in self._subject.links:
            best, others = candidates(recent.get(link.from_camera, []), recent.get(link.to_camera, []), link)
            groups = (("the most alike who may have come", best), ("all others who may have", others))
            alike.append(Alike(f"{link.from_camera} → {link.to_camera}", groups))
            found += link_findings(f"{link.from_camera} → {link.to_camera}", best, others)
        return alike, found


def attach(perception: Perception, look: Look) -> None:
    """From now on it sees what the perception sees, what the detector does not keep included."""
    perception.watch(look)
    keep_aside(perception, True)


def keep_aside(perception: Perception, wanted: bool) -> None:
    """Whether what the detector does not keep comes along; detections of a simulation have nothing aside."""
    if hasattr(perception.detector, "keeps_aside"):
        perception.detector.keeps_aside = wanted
