"""A model that training made better, through every stage: crops in, the real gate, a signed bundle out."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")
pytest.importorskip("onnx", reason="the trainer needs onnx")

from picture_town import hours_of, street, town
from test_adapt import adapted
from tiny_site import without_charts

from edge_app.contract.bundle import read_bundle
from edge_app.contract.signature import read_public_key
from trainer.adapt import rounds
from trainer.adapt.hearing import anchor

DAY = 19_600
TRAINING = {
    "method": {
        "name": "crosslane",
        "labels": {
            "clustering": {"jaccard": {"k1": 10, "k2": 3}, "dbscan": {"min_samples": 2}, "eps_candidates": [0.5, 0.6]}
        },
        "sampler": {"proxies": 16, "crops": 4, "steps": 40},
        "augment": {"flip": 0.0, "pad_px": 0, "erase": 0.0},
    },
    "optimiser": {"name": "adam", "rate": 1.0e-3},
    "epochs": 4,
}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_better_model_is_trained_judged_exported_and_put_in_force(tmp_path, monkeypatch):
    """The start takes chance for more of a vehicle than what is its own; tracks and clusters teach which half it is."""
    without_charts(monkeypatch.setattr)
    few = {"anchor_passages": 300, "anchor_days": 0.01, "rank_share": 0.4}
    site, settings = town(tmp_path, 2.0, training=TRAINING, gate=few, precision="auto")
    held, free = hours_of(DAY, 0.3)
    for seed, begin in enumerate((*held[:2], *free[:2])):
        site.upload(street(seed, begin, 20, "upper", alike=0.7, steady=False))
    failed, said = adapted(settings)
    one = rounds.latest(settings.folder)
    assert (failed, one.decision) == (0, "accepted"), said
    measures = {measure["name"]: measure for measure in one.done["judge"]["measures"]}
    assert {measure["outcome"] for measure in measures.values()} == {"passed"}
    assert measures["placebo lift"]["interval"][0] > 0
    assert measures["drift"]["value"] > 0
    assert any("minimum_exits 60 instead of 300" in note for note in one.done["judge"]["notes"])
    assert sum(unit["comparisons"] for unit in one.done["judge"]["units"]) > 60
    assert json.loads((settings.folder / "current.json").read_text()) == {"round": 1}
    left = anchor.read(settings.folder)
    assert (left.best, len(left.hours)) == (1, 2)
    assert left.H > 0.8
    exported = one.done["export"]
    assert set(exported["refresh"]) & {"int8", "fp16"}, said
    key = read_public_key(settings.folder / "signing-key.pub.pem")
    embedder = read_bundle(rounds.folder_of(settings.folder, 1) / "site.bundle", [key]).manifest.embedder
    assert embedder.precision == exported["precision"]
    judged = {gate.name.partition("_site_")[0] for gate in embedder.gates if "_site_placebo_lift" in gate.name}
    assert judged == set(exported["refresh"])  # what the site said of each precision travels along
    assert all(gate.passed for gate in embedder.gates if gate.name.startswith(f"{embedder.precision}_site"))
    told = json.loads((site.objects / "town" / "adapted").read_text())
    assert (told["best"], told["best_round"], told["anchor"]) == (told["model"], 1, list(left.hours))
