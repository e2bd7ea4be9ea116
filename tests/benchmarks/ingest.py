"""Crops by the million through ingest and the clustering of their tracks; and ingest killed again and again.

    python tests/benchmarks/ingest.py --records 1000000 --json ingest.json
    python tests/benchmarks/ingest.py --tracks 50000 100000 200000 --json ingest.json
    python tests/benchmarks/ingest.py --kills 100

Records are made up: vehicles that pass four cameras 30 to 60 s apart, five crops each time, embeddings of 64 values of
24 latent ones with a shift for each camera. They travel in real shards through a store in a folder, a tenth of them at
a time so that the disk holds one copy; pictures are small, their bytes all different. The clustering takes the shards'
own embeddings, by tracks, with times and without. `--tracks` clusters so many tracks of such crops with times, without
a store. Memory is the peak above what was held when the stage began.

Kills: a process that ingests is killed (-9) at a line drawn at random, up to eight times for each of the runs; the
folder must then be that of a run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "benchmarks"), str(TESTS / "trainer" / "adapt")]

from clustering import measured  # noqa: E402
from tiny_site import NOON_S, Site, crop, dying, picture  # noqa: E402

from edge_app.contract.crop import Crop, CropRecord  # noqa: E402
from trainer.adapt.crops.index import Index  # noqa: E402
from trainer.adapt.settings import DAY_S  # noqa: E402

CAMERAS, VIEWS, LATENT, DIMENSION = 4, 5, 24, 64
SHARD_CROPS, PORTIONS = 2000, 10
MODULES = ("trainer.adapt", "edge_app.contract")


class Traffic:
    """Vehicles, and the crops that each leaves."""

    def __init__(self, vehicles: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.looks = generator.standard_normal((vehicles, LATENT), dtype=np.float32)
        self.shifts = 0.3 * generator.standard_normal((CAMERAS, LATENT), dtype=np.float32)
        self.rotation = np.linalg.qr(generator.standard_normal((DIMENSION, LATENT)))[0].T.astype(np.float32)
        self.begins_s = NOON_S + 6.0 * np.arange(vehicles)
        self.waits_s = np.cumsum(generator.uniform(30, 60, (vehicles, CAMERAS)), 1)
        self.pictures = [picture(seed) for seed in range(VIEWS)]  # one view each: never near within a passage
        self.seed = seed

    def crops(self, vehicle: int) -> list[Crop]:
        generator, found = np.random.default_rng((self.seed, vehicle)), []
        for camera in range(CAMERAS):
            view = self.looks[vehicle] + self.shifts[camera] + 0.45 * generator.standard_normal(LATENT)
            latent = view + 0.3 * generator.standard_normal((VIEWS, LATENT))
            rows = (latent / np.linalg.norm(latent, axis=1, keepdims=True)) @ self.rotation
            entered_s = self.begins_s[vehicle] + self.waits_s[vehicle, camera]
            for number in range(VIEWS):
                record = CropRecord(
                    site="town", node="edge-1", camera=f"camera-{camera}", passage=f"edge-1/{camera}/b.7/{vehicle}",
                    number=number, class_name="car", captured_at_s=entered_s + number, box=(10, 20, 34, 52),
                    frame_px=(640, 360), score=0.9, quality=0.5, embedding_version="made-up",
                    entered_at_s=entered_s, left_at_s=entered_s + VIEWS,
                )  # fmt: skip
                pixels = self.pictures[number] + f"{vehicle}-{camera}".encode()  # behind the end of the JPEG
                found.append(Crop(record, pixels, rows[number].astype(np.float16)))
        return found

    def everything(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Rows, tracks, cameras, times and identities of crops by the same law, all at once."""
        generator, count = np.random.default_rng((self.seed, 1)), len(self.looks)
        views = self.looks[:, None] + self.shifts
        views = views + 0.45 * generator.standard_normal(views.shape, dtype=np.float32)
        latent = np.repeat(views[:, :, None], VIEWS, axis=2).reshape(-1, LATENT)
        latent += 0.3 * generator.standard_normal(latent.shape, dtype=np.float32)
        rows = (latent / np.linalg.norm(latent, axis=1, keepdims=True)) @ self.rotation
        passage = np.repeat(np.arange(count * CAMERAS), VIEWS)
        times_s = (self.begins_s[:, None] + self.waits_s).reshape(-1)[passage] + np.tile(
            np.arange(VIEWS), count * CAMERAS
        )
        return rows, passage, passage % CAMERAS, times_s, passage // CAMERAS


def upload(site: Site, traffic: Traffic, vehicles: range) -> None:
    waiting: list[Crop] = []
    for vehicle in vehicles:
        waiting += traffic.crops(vehicle)
        if len(waiting) >= SHARD_CROPS or vehicle == vehicles[-1]:
            site.upload(waiting)
            waiting = []


def features_of(index: Index) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows, tracks, cameras, times and identities of all crops that are used."""
    known, names = index.usable(index.newest())
    rows = np.empty((len(known), DIMENSION), np.float32)
    for place, (one,) in enumerate(index.base.execute("SELECT embedding FROM crops WHERE use = 'yes' ORDER BY id")):
        rows[place] = np.frombuffer(one, np.float16)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    vehicles = np.array([int(name.rpartition("/")[2]) for name in names])
    return rows, known.passages, known.cameras, known.captured_s, vehicles[known.passages]


def clustered(crops: tuple[np.ndarray, ...], forms: dict[str, dict[Any, Any] | None]) -> dict[str, Any]:
    """What each form of clustering makes of crops as `features_of` gives them, and what it costs."""
    from trainer.clustering.jaccard import JaccardSettings
    from trainer.clustering.quality import adjusted_rand
    from trainer.clustering.recluster import ClusterSettings
    from trainer.clustering.tracks import cluster_tracks, tracks_of

    *known, truth = crops
    settings = ClusterSettings(jaccard=JaccardSettings(k1=20, k2=6), eps_candidates=(0.4, 0.5, 0.6))
    cluster_tracks(tracks_of(*(each[:4000] for each in known)), settings, {})  # compiles
    tracks, making = measured(lambda: tracks_of(*known))
    found: dict[str, Any] = {"tracks": len(tracks), "make_tracks": making}
    for name, ways in forms.items():
        result, cost = measured(lambda ways=ways: cluster_tracks(tracks, settings, ways))
        found[name] = {
            **cost, "stages_s": result.seconds, "eps": result.eps, "clusters": result.quality.clusters,
            "adjusted_rand": adjusted_rand(result.labels, truth),
        }  # fmt: skip
        print(len(tracks), name, found[name], flush=True)
    return found


def million(records: int, folder: Path) -> dict[str, Any]:
    site = Site(folder, days=3650)
    vehicles = records // (CAMERAS * VIEWS)
    traffic = Traffic(vehicles, 0)
    stages, new = [], 0
    for portion in np.array_split(np.arange(vehicles), PORTIONS):
        upload(site, traffic, range(int(portion[0]), int(portion[-1]) + 1))
        result, cost = measured(lambda: site.ingest(NOON_S + DAY_S))
        new += result.new
        stages.append(cost)
        for path in site.shards.iterdir():
            path.unlink()
        print(f"{new} crops", cost, flush=True)
    index = Index(site.settings.folder / "index.db")
    crops, reading = measured(lambda: features_of(index))
    index.close()
    found = clustered(crops, {"by looks": None, "by looks and times": {}})
    return {
        "crops": new, "vehicles": vehicles,
        "ingest": {
            "seconds": sum(one["seconds"] for one in stages),
            "core_seconds": sum(one["core_seconds"] for one in stages),
            "mebibytes": max(one["mebibytes"] for one in stages),
            "core_seconds_per_crop_first_and_last_portion": [
                PORTIONS * stages[place]["core_seconds"] / new for place in (0, -1)
            ],
            "index_mebibytes": (site.settings.folder / "index.db").stat().st_size / 2**20,
        },
        "read_index": reading, "cluster": found,
    }  # fmt: skip


def kills(count: int, folder: Path) -> dict[str, Any]:
    chance, deaths, equal = random.Random(0), 0, 0
    for number in range(count):
        sites = [Site(folder / f"{number}{name}") for name in ("whole", "broken")]
        for site in sites:
            crops = [crop(track, view, control=track == 3) for track in range(6) for view in range(3)]
            for part in (crops[:8], crops[6:12], [*crops[10:], crop(50, pixels=crops[0].jpeg)]):
                site.upload(part)
            half = site.upload([crop(90)])
            half.write_bytes(half.read_bytes()[:500])
        sites[0].ingest()
        for _ in range(8):
            died = dying(sites[1].ingest, chance.randrange(1, 2500), MODULES)
            deaths += died
            if not died:
                break
        sites[1].ingest()
        equal += sites[0].state() == sites[1].state()
    return {"runs": count, "killed": deaths, "equal": equal}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=0)
    parser.add_argument("--tracks", type=int, nargs="*", default=[])
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    results: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()}
    for count in chosen.tracks:
        results[f"{count} tracks"] = clustered(Traffic(count // CAMERAS, 0).everything(), {"by looks and times": {}})
    with tempfile.TemporaryDirectory() as folder:
        if chosen.kills:
            results["kills"] = kills(chosen.kills, Path(folder) / "kills")
            print(results["kills"])
        if chosen.records:
            results["records"] = million(chosen.records, Path(folder) / "site")
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
