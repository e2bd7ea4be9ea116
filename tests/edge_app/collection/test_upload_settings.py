"""`upload` in a site's file: every mistake at once, and no fact changes with where crops go."""

import pytest
import yaml

from edge_app.config import load
from edge_app.demo.play import Play, raw_config
from edge_app.errors import ConfigurationError


@pytest.fixture
def loaded(tmp_path):
    def load_with(**sections):
        raw = raw_config(Play("grid-2", 7, 0.2, 30.0, fidelity="frames"), tmp_path / "node.db", None)
        (tmp_path / "site.yaml").write_text(yaml.safe_dump(raw | {"collection": {"enabled": True}} | sections))
        return load(tmp_path / "site.yaml")

    return load_with


def test_paths_are_relative_to_the_file_and_facts_do_not_depend_on_it(loaded, tmp_path):
    site = loaded(upload={"store": {"url": "crops"}, "hours": ["22:00-05:00"], "time_zone": "Europe/Berlin"})
    assert site.upload.store.url == str(tmp_path / "crops")
    assert site.upload.audit == tmp_path / "state" / "uploads.jsonl"
    assert site.digest == loaded().digest


def test_every_mistake_is_said_at_once(loaded):
    upload = {"store": {"url": "s3://bucket", "endpoint": "nowhere"}, "hours": ["22-5"], "time_zone": "Berlin"}
    with pytest.raises(ConfigurationError) as raised:
        loaded(upload=upload | {"bytes_per_s": 0})
    said = raised.value.lines[1:]
    assert len(said) == 4
    for path in ("upload.store.endpoint", "upload.hours", "upload.time_zone", "upload.bytes_per_s"):
        assert any(path in line for line in said), said


def test_an_upload_of_nothing_is_a_mistake(loaded):
    with pytest.raises(ConfigurationError, match=r"upload: nothing to send: set collection\.enabled"):
        loaded(upload={"store": {"url": "crops"}}, collection={"enabled": False})
