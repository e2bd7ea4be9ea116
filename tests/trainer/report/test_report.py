"""The page and the charts of a run."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the charts need matplotlib")
pytest.importorskip("sklearn", reason="the map needs scikit-learn")

from trainer.clustering.transit import BINS, Transits
from trainer.errors import WorldError
from trainer.report import charts, page

PNG = b"\x89PNG\r\n\x1a\n"


def test_the_page_shows_the_pictures_that_lie_there_and_no_others(tmp_path):
    (tmp_path / "map.png").write_bytes(PNG)
    (tmp_path / "secret.png").write_bytes(PNG)
    page.write_page(tmp_path, "crops <of> a site", {"crops": "12", "mAP": "50.0 %"})
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'src="map.png"' in text
    assert "secret" not in text
    assert "ranked.png" not in text
    assert "crops &lt;of&gt; a site" in text
    assert "50.0 %" in text


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(WorldError, match=r"index\.html cannot be written"):
        page.write_page(tmp_path / "missing", "title", {})


def test_charts_take_logs_with_gaps_and_without_lines(tmp_path):
    epochs = [
        {"event": "epoch", "step": 0, "clusters": 5, "silhouette": 0.2},
        {"event": "epoch", "step": 9, "clusters": 4},
    ]
    steps = [{"event": "step", "step": step, "cluster": 1 / (1 + step), "waited_s": 0.0} for step in range(30)]
    charts.curves(tmp_path / "full.png", epochs, steps, [])
    charts.curves(tmp_path / "nothing.png", [], [], [])
    charts.embedding_map(tmp_path / "map.png", np.eye(12, dtype=np.float32), np.arange(12) % 3 - 1)
    charts.embedding_map(tmp_path / "few.png", np.eye(4, dtype=np.float32), np.zeros(4, np.int64))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full.png", "map.png"]


def test_what_a_log_does_not_hold_has_no_panel(tmp_path, monkeypatch):
    """SCL clusters nothing, and not every site has a test set: no axes stand empty."""
    drawn = []
    monkeypatch.setattr(charts, "_save", lambda figure, path: drawn.append(figure))
    steps = [{"event": "step", "step": step, "whole": 1.0} for step in range(5)]
    epochs = [{"event": "epoch", "step": 0, "clusters": 5, "silhouette": 0.2}]
    charts.curves(tmp_path / "a.png", [], steps, [])
    charts.curves(tmp_path / "b.png", epochs, steps, [])
    shown = [[axes for axes in figure.axes if axes.get_visible()] for figure in drawn]
    titles = [[axes.get_title("left") for axes in each] for each in shown]
    assert titles == [["Losses"], ["Losses", "Clusters", "Quality of the clusters, without labels"]]
    assert all(axes.lines for each in shown for axes in each)


@pytest.mark.parametrize("cameras", [1, 6])
def test_the_ways_of_one_camera_and_of_many_are_drawn(tmp_path, cameras):
    ratios = np.random.default_rng(0).gamma(1, 1, (cameras, cameras, BINS))
    ratios[0, 0, 0] = 0
    nothing = np.zeros(0, np.int64)
    charts.ways(tmp_path / "ways.png", Transits(ratios, np.arange(cameras), nothing, np.zeros(0)))
    assert (tmp_path / "ways.png").read_bytes().startswith(PNG)


def test_the_running_mean_is_of_fewer_values_at_the_beginning():
    assert np.allclose(charts._running_mean(np.array([2.0, 4.0, 6.0, 8.0]), 2), [2, 3, 5, 7])
    assert len(charts._running_mean(np.zeros(0), 3)) == 0
