"""Who may have been whom: candidate edges between finished tracklets, and the gallery of camera-aware proxies.

A candidate must have left a linked camera within the link's transit gate, have a compatible class and embeddings of the
same version. The gate bounds the candidates, so the cost of a tracklet grows with the traffic of the cameras that link
into its own, not with the site: O(open tracklets of those cameras), and O(M² D) per candidate.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from edge_app.associate import scores
from edge_app.associate.settings import AssociateSettings, LinkSettings
from edge_app.associate.state import Calibration, CameraModel, Edge, Identity, Passage, Proxy
from edge_app.types import Floats

ALL_PAIRS = "*"
CLASS_PENALTY = -2.0  # nats, where the detector gave two classes of one group


@dataclass
class Gallery:
    """The appearance side of the association during one step; dictionaries are the step's own copies."""

    settings: AssociateSettings
    identities: dict[str, Identity]
    cameras: dict[str, CameraModel]
    calibrations: dict[str, Calibration]
    _curves: dict[str, scores.Curve] = field(default_factory=dict, init=False)  # by pair of cameras
    _site_means: dict[str, Floats] = field(default_factory=dict, init=False)  # by embedding version

    def edge(self, link: LinkSettings, from_: Passage, to: Passage) -> Edge | None:
        """The candidate "`to` was `from_`", or None when class, embedding version or order in time forbid it.

        Without an embedding on both sides there is no candidate either: time alone never makes a match.
        """
        transit_s = to.entry_time_s - from_.exit_time_s
        penalty = class_penalty(self.settings, from_.class_name, to.class_name)
        seen = len(from_.embeddings) and len(to.embeddings) and from_.embedding_version == to.embedding_version
        if transit_s <= 0 or penalty is None or not seen:
            return None
        similarity = self.similarity(from_, to)
        return Edge(from_.id, link.id, similarity, self.evidence(from_, to) + penalty, transit_s)

    def similarity(self, from_: Passage, to: Passage) -> float:
        """De-biased similarity of two tracklets that both have embeddings."""
        return scores.similarity(self._debias(from_.camera, from_.embeddings), self._debias(to.camera, to.embeddings))

    def evidence(self, from_: Passage, to: Passage) -> float:
        """Log likelihood ratio of `to` against every proxy of the identity of `from_`, one per camera."""
        proxies = {from_.camera: Proxy(from_.id, from_.embeddings)}
        if from_.global_id in self.identities:
            proxies = {**self.identities[from_.global_id].proxies, **proxies}
        seen = self._debias(to.camera, to.embeddings)
        ratios = []
        for camera, proxy in proxies.items():
            if len(proxy.embeddings):
                value = scores.similarity(self._debias(camera, proxy.embeddings), seen)
                ratios.append(scores.evidence(value, self._curve(camera, to.camera)))
        return scores.combine(ratios)

    def see(self, passage: Passage) -> None:
        """Let a camera's mean know this tracklet; a new embedding version starts a new mean."""
        camera = self.cameras.get(passage.camera)
        if camera is None:
            camera = CameraModel(passage.camera, passage.embedding_version, np.zeros(0, np.float32), 0.0)
        if len(passage.embeddings):
            if camera.version != passage.embedding_version or camera.mean.shape != passage.embeddings.shape[1:]:
                mean = np.zeros(passage.embeddings.shape[1], np.float32)
                camera = replace(camera, version=passage.embedding_version, mean=mean, count=0.0)
            camera = scores.learn_camera(camera, passage.embeddings)
        self.cameras[passage.camera] = camera
        self._site_means.clear()

    def learn(self, from_camera: str, to_camera: str, similarity: float, genuine: float) -> None:
        """One similarity of a pair that is one vehicle with probability `genuine`."""
        for pair in (pair_id(from_camera, to_camera), ALL_PAIRS):
            known = self.calibrations.get(pair) or scores.new_calibration(pair)
            self.calibrations[pair] = scores.learn_similarity(known, similarity, genuine)

    def enrol(self, passage: Passage) -> None:
        """`passage` is now the proxy of its identity on its camera."""
        identity = self.identities.get(passage.global_id) or Identity(passage.global_id, {})
        proxies = {camera: proxy for camera, proxy in identity.proxies.items() if camera != passage.camera}
        self.identities[passage.global_id] = replace(
            identity, proxies={**proxies, passage.camera: Proxy(passage.id, passage.embeddings)}
        )

    def withdraw(self, passage: Passage) -> None:
        """`passage` is no longer part of its identity."""
        identity = self.identities.get(passage.global_id)
        if identity is None:
            return
        proxies = {camera: proxy for camera, proxy in identity.proxies.items() if proxy.track != passage.id}
        if proxies:
            self.identities[passage.global_id] = replace(identity, proxies=proxies)
        else:
            del self.identities[passage.global_id]

    def _debias(self, camera: str, embeddings: Floats) -> Floats:
        model = self.cameras.get(camera)
        if model is None or model.mean.shape != embeddings.shape[1:]:
            return embeddings
        if model.version not in self._site_means:
            self._site_means[model.version] = self._site_mean(model)
        return scores.debias(embeddings, model, self._site_means[model.version])

    def _site_mean(self, model: CameraModel) -> Floats:
        same = [
            c
            for _, c in sorted(self.cameras.items())
            if c.version == model.version and c.mean.shape == model.mean.shape
        ]
        weights = np.array([c.count / (c.count + scores.MEAN_WEIGHT) for c in same], np.float32)
        mean: Floats = np.average([c.mean for c in same], axis=0, weights=weights + 1e-6).astype(np.float32)
        return mean

    def _curve(self, from_camera: str, to_camera: str) -> scores.Curve:
        """What similarities of this pair of cameras say; what is learned in a step counts from the next one on."""
        pair = pair_id(from_camera, to_camera)
        if pair not in self._curves:
            known = self.calibrations.get(pair) or scores.new_calibration(pair)
            site = self.calibrations.get(ALL_PAIRS) or scores.new_calibration(ALL_PAIRS)
            self._curves[pair] = scores.evidence_curve(known, site, self.settings.similarity)
        return self._curves[pair]


def pair_id(from_camera: str, to_camera: str) -> str:
    return f"{from_camera}--{to_camera}"


def class_penalty(settings: AssociateSettings, left: str, right: str) -> float | None:
    """Log likelihood ratio of two class names for one object; None where they are incompatible."""
    if left == right:
        return 0.0
    if settings.class_groups:
        together = any(left in group and right in group for group in settings.class_groups)
    else:
        together = "person" not in (left, right)
    return CLASS_PENALTY if together else None
