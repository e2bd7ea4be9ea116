"""The benchmark of all methods: rows that are added whole and not measured twice, equal cost, Markdown."""

import argparse
import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
for library in ("faiss", "numba", "onnx", "tensorboard"):
    pytest.importorskip(library, reason=f"the trainer needs {library}")

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import method_rows  # noqa: E402
import methods  # noqa: E402
from tiny_crops import write_market  # noqa: E402
from tiny_networks import small_onnx  # noqa: E402

from trainer.methods.table import CARDS  # noqa: E402

ROWS = Path(methods.__file__).parent / "rows" / "methods.json"  # what the page's tables are printed from


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    write_market(folder / "crops", identities=12)
    return folder


def options_of(place, *names, **changes):
    values = {
        "data": place / "crops", "json": place / f"{'-'.join(names)}.json", "model": small_onnx(place / "small.onnx"),
        "settings": False, "methods": list(names), "seeds": [0], "height": 16, "width": 8, "images": 216, "epochs": 2,
        "quiet": True, "overrides": [f"data.cache={place / 'cache'}"],
    }  # fmt: skip
    return argparse.Namespace(**{**values, **changes})


CLUSTERS = ("method.labels.clustering.jaccard.k1=8", "method.labels.clustering.dbscan.min_samples=2")


def test_a_table_goes_on_where_it_stopped(place, monkeypatch):
    options = options_of(place, "cluster_contrast")
    options.overrides += CLUSTERS
    methods.table(options, options.data)
    start, row = json.loads(options.json.read_text())
    assert (start["kind"], row["kind"], row["method"], row["seed"]) == ("start", "run", "cluster_contrast", 0)
    assert {"mAP", "R1", "camera_policy"} <= row["after"].keys()
    assert row["clusters"] >= 2
    assert row["case"]["overrides"] == sorted(CLUSTERS)
    monkeypatch.setattr(methods, "run_row", lambda *_: pytest.fail("measured twice"))
    methods.table(options, options.data)
    options.seeds = [0, 1]
    monkeypatch.setattr(methods, "run_row", lambda *_: {**row, "after": {"mAP": 1.0, "R1": 2.0}})
    methods.table(options, options.data)
    rows = method_rows.read(options.json)
    assert len(rows) == 3
    assert "±" in method_rows.markdown(rows, {})


def test_scl_has_two_test_numbers(place):
    options = options_of(place, "scl")
    options.overrides += ["method.stripes=2", "method.labels.clustering.jaccard.k1=8"]
    methods.table(options, options.data)
    _, row = method_rows.read(options.json)
    assert row["with_camera_term"].keys() == {"mAP", "R1"}
    assert row["with_camera_term"] != {name: row["after"][name] for name in ("mAP", "R1")}
    printed = method_rows.markdown([row], {})
    assert "camera term at the test" in printed
    assert "Not measured: Cluster-Contrast, SpCL, GRACL (a reading), CAP, " in printed


@pytest.mark.parametrize("name", [*CARDS, *methods.ABLATION])
def test_every_method_gets_the_same_number_of_pictures(place, name):
    options = options_of(place, name, images=10_240)
    settings = methods.settings_of(name, 3, options, options.data)
    assert settings.seed == 3
    crops = 108
    if name == "scl":
        pictures = settings.epochs * crops
    else:
        pictures = settings.epochs * settings.method.sampler.steps * settings.method.sampler.batch
        pictures *= CARDS[settings.method.name].passes
    assert abs(pictures - options.images) <= crops / 2


def test_without_rows_the_tables_say_so(tmp_path):
    text = method_rows.markdown(method_rows.read(tmp_path / "none.json"), {})
    assert text.count("| not measured |") >= 2 * len(CARDS)
    assert all(f"| {card.title}" in text for card in CARDS.values())


def test_a_failed_run_is_a_result():
    case = {"data": "x"}
    good = {"kind": "run", "method": "cap", "seed": 0, "case": case, "clusters": 9, "minutes": 1.0}
    rows = [{**good, "after": {"mAP": 50.0, "R1": 60.0}}, {**good, "seed": 1, "after": {"mAP": 52.0, "R1": 60.0}}]
    rows.append({"kind": "run", "method": "cap", "seed": 2, "case": case, "failed": "one cluster"})
    assert "| CAP | 51.0 ± 1.4 | 60.0 ± 0.0 | 9 ± 0 | 1.0 ± 0.0 | 2, 1 failed | required |" in method_rows.markdown(
        rows, {}
    )


def test_the_page_prints_the_rows_that_were_measured():
    """Every line of the table of methods is a line that the kept rows give; nothing is typed by hand."""
    rows = method_rows.read(ROWS)
    titles = {name: variant.title for name, variant in methods.ABLATION.items()}
    (case, *_) = method_rows.cases(rows, "run")
    page = (Path(methods.__file__).parents[2] / "trainer" / "methods" / "README.md").read_text(encoding="utf-8")
    for line in method_rows.accuracy_table(rows, case, titles):
        assert line in page.splitlines()
    assert {row["seed"] for row in rows if row["case"] == case and row["kind"] == "run"} == {0, 1, 2}
