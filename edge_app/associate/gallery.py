"""Who may have been whom: candidate edges between finished tracklets, and the gallery of camera-aware proxies.

A candidate must have left a linked camera within the link's transit gate, and have embeddings of the same version. The
gate bounds the candidates, so the cost of a tracklet grows with the traffic of the cameras that link into its own, not
with the site: O(open tracklets of those cameras), and O(M² D) per candidate.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from edge_app.associate import scores
from edge_app.associate.settings import AssociateSettings, LinkSettings
from edge_app.associate.state import Calibration, CameraModel, Edge, Identity, Passage, Proxy, version_key
from edge_app.contract import similarity as looks
from edge_app.contract.similarity import CameraMean
from edge_app.types import Floats

ALL_PAIRS = "*"
VERSIONS_KEPT = 3  # the embedder in force, the one before (a rollback finds it again), and one of a neighbour


@dataclass
class Gallery:
    """The appearance side of the association during one step; dictionaries are the step's own copies."""

    settings: AssociateSettings
    identities: dict[str, Identity]
    cameras: dict[str, CameraModel]
    means: dict[str, CameraMean]  # by `version_key`
    calibrations: dict[str, Calibration]  # by `version_key`
    versions: dict[str, float]
    _curves: dict[tuple[str, str], scores.Curve] = field(default_factory=dict, init=False)  # by version and pair
    _site_means: dict[str, Floats] = field(default_factory=dict, init=False)  # by embedding version

    def edge(self, link: LinkSettings, from_: Passage, to: Passage) -> Edge | None:
        """The candidate "`to` was `from_`", or None when embedding version or order in time forbid it.

        Without an embedding on both sides there is no candidate either: time alone never makes a match.
        """
        transit_s = to.entry_time_s - from_.exit_time_s
        if transit_s <= 0 or (similarity := self.similarity(from_, to)) is None:
            return None
        return Edge(from_.id, link.id, similarity, self.evidence(from_, to), transit_s)

    def similarity(self, from_: Passage | Proxy, to: Passage) -> float | None:
        """De-biased similarity; None of what cannot be compared. Everything that compares embeddings comes here."""
        if not looks.comparable(from_, to):
            return None
        return looks.similarity(self._debias(from_), self._debias(to))

    def evidence(self, from_: Passage, to: Passage) -> float:
        """Log likelihood ratio of `to` against every comparable proxy of the identity of `from_`, one per camera."""
        proxies: dict[str, Passage | Proxy] = {}
        if from_.global_id in self.identities:
            proxies = dict(self.identities[from_.global_id].proxies)
        ratios = []
        for camera, proxy in {**proxies, from_.camera: from_}.items():
            value = self.similarity(proxy, to)
            if value is not None:
                curve = self._curve(to.embedding_version, pair_id(camera, to.camera))
                ratios.append(scores.evidence(value, curve))
        return scores.combine(ratios)

    def see(self, passage: Passage, now_s: float) -> None:
        """Let a camera's mean of this embedding version know the tracklet."""
        self.cameras.setdefault(passage.camera, CameraModel(passage.camera))
        if not len(passage.embeddings):
            return
        key = version_key(passage.embedding_version, passage.camera)
        known = self.means.get(key)
        if known is None or known.mean.shape != passage.embeddings.shape[1:]:
            known = looks.new_mean(passage.camera, passage)
        self.means[key] = looks.learn_camera(known, passage.embeddings)
        self.versions[passage.embedding_version] = now_s
        self._site_means.clear()

    def learn(self, from_: Passage, to: Passage, similarity: float, genuine: float) -> None:
        """One similarity of a pair that is one vehicle with probability `genuine`."""
        for pair in (pair_id(from_.camera, to.camera), ALL_PAIRS):
            key = version_key(to.embedding_version, pair)
            known = self.calibrations.get(key) or scores.new_calibration(pair, to.embedding_version)
            self.calibrations[key] = scores.learn_similarity(known, similarity, genuine)

    def forget_versions(self) -> None:
        """What was learned under an embedder is kept while it is among the `VERSIONS_KEPT` that were seen last."""
        kept = sorted(self.versions, key=lambda version: (-self.versions[version], version))[:VERSIONS_KEPT]
        if len(kept) < len(self.versions):
            self.versions = {version: self.versions[version] for version in kept}
            self.means = {key: one for key, one in self.means.items() if one.embedding_version in kept}
            self.calibrations = {key: one for key, one in self.calibrations.items() if one.embedding_version in kept}

    def enrol(self, passage: Passage) -> None:
        """`passage` is now the proxy of its identity on its camera."""
        identity = self.identities.get(passage.global_id) or Identity(passage.global_id, {})
        proxies = {camera: proxy for camera, proxy in identity.proxies.items() if camera != passage.camera}
        proxy = Proxy(passage.id, passage.camera, passage.embedding_version, passage.embeddings)
        self.identities[passage.global_id] = replace(identity, proxies={**proxies, passage.camera: proxy})

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

    def _debias(self, look: Passage | Proxy) -> Floats:
        mean = self.means.get(version_key(look.embedding_version, look.camera))
        if mean is None or mean.mean.shape != look.embeddings.shape[1:]:
            return look.embeddings
        if mean.embedding_version not in self._site_means:
            self._site_means[mean.embedding_version] = self._site_mean(mean)
        return looks.debias(look.embeddings, mean, self._site_means[mean.embedding_version])

    def _site_mean(self, of: CameraMean) -> Floats:
        same = [
            one
            for _, one in sorted(self.means.items())
            if one.embedding_version == of.embedding_version and one.mean.shape == of.mean.shape
        ]
        return looks.site_mean(same)

    def _curve(self, version: str, pair: str) -> scores.Curve:
        """What similarities of this pair of cameras say; what is learned in a step counts from the next one on."""
        if (version, pair) not in self._curves:
            known, site = (
                self.calibrations.get(version_key(version, one)) or scores.new_calibration(one, version)
                for one in (pair, ALL_PAIRS)
            )
            self._curves[version, pair] = scores.evidence_curve(known, site, self.settings.similarity)
        return self._curves[version, pair]


def pair_id(from_camera: str, to_camera: str) -> str:
    return f"{from_camera}--{to_camera}"
