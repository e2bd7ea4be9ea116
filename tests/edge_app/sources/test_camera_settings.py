import pytest
from pydantic import ValidationError

from edge_app.errors import SourceError
from edge_app.sources.settings import RECORDING_START, CameraSettings, file_path


def settings(source="clip.mp4", **more) -> CameraSettings:
    return CameraSettings(id="gate", source=source, **more)


@pytest.mark.parametrize(
    ("source", "scheme", "live"),
    [
        ("clips/a.mp4", "file", False),
        ("/clips/a.264", "file", False),
        ("file:///clips/a.mp4", "file", False),
        ("rtsp://10.0.0.7/stream1", "rtsp", True),
        ("RTSPS://cam.example:322/1", "rtsps", True),
        ("sim://town/gate?seed=7", "sim", False),
        ("gst://videotestsrc num-buffers=3", "gst", True),
        ("csi://0?width=1280", "csi", True),
    ],
)
def test_the_address_says_what_the_source_is(source, scheme, live):
    camera = settings(source)
    assert (camera.scheme, camera.is_live) == (scheme, live)


@pytest.mark.parametrize("id", ["", "a--b", "gate 1", "-gate", "gate-", "gäte", "g" * 33, "a/b"])
def test_an_id_is_a_slug(id):
    with pytest.raises(ValidationError):
        CameraSettings(id=id, source="clip.mp4")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"source": "ftp://host/clip"}, "not ftp://"),
        ({"source": "rtsp:///stream"}, "host is missing"),
        ({"source": "csi://0?size=3"}, "expected csi://<sensor number>"),
        ({"source": "csi://zero"}, "expected csi://<sensor number>"),
        ({"source": "csi://0?width=wide"}, "expected csi://<sensor number>"),
        ({"source": "csi://"}, "expected csi://<sensor number>"),
        ({"source": "rtsp://host/1", "password_env": "PW"}, "`username` is not"),
        ({"source": "clip.mp4", "username": "u"}, "for rtsp cameras"),
        ({"source": "clip.mp4", "decoder": "nvdec"}, "for rtsp cameras"),
        ({"source": "rtsp://host/1", "start_time": "2026-01-01T00:00:00Z"}, "for recordings"),
        ({"source": "clip.mp4", "start_time": "2026-01-01T00:00:00"}, "timezone"),
        ({"source": "sim://town/gate", "fps": 5}, "in its address"),
        ({"source": "clip.mp4", "zones": {"in": [(0, 0), (1, 1)]}}, "at least three different corners"),
        ({"source": "clip.mp4", "zones": {"in": [(0, 0), (1, 1), (1.5, 0)]}}, "less than or equal to 1"),
        ({"source": "clip.mp4", "colour": "red"}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_together_is_refused(fields, words):
    with pytest.raises(ValidationError, match=words):
        CameraSettings(id="gate", **fields)


@pytest.mark.parametrize(
    "source",
    ["rtsp://admin:s3cret@10.0.0.7/1", "rtsp://s3cret@10.0.0.7/1", "gst://rtspsrc location=rtsp://a:s3cret@h/1"],
)
def test_a_password_in_the_address_is_refused_and_not_repeated(source):
    with pytest.raises(ValidationError) as caught:
        settings(source)
    assert "password_env" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_the_password_comes_from_the_environment_and_stays_out_of_messages(monkeypatch):
    camera = settings("rtsp://cam.example:8554/a b", username="me@home", password_env="GATE_PASSWORD")
    with pytest.raises(SourceError, match=r"GATE_PASSWORD.*is not set"):
        camera.address()
    monkeypatch.setenv("GATE_PASSWORD", "p:/@ss")
    assert camera.address() == "rtsp://me%40home:p%3A%2F%40ss@cam.example:8554/a b"
    assert "p:/@ss" not in str(camera.failure("refused"))
    assert "ss" not in repr(camera).split("GATE_PASSWORD")[1].split("transport")[0]


def test_a_recording_begins_where_it_is_told_or_in_the_year_2000():
    assert settings().start_time_s == RECORDING_START.timestamp()
    assert settings(start_time="2026-05-01T12:00:00+02:00").start_time_s == 1777629600.0
    assert settings(start_time=1777629600).start_time_s == 1777629600.0


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("file:///{0}/a%20b.mp4", "a b.mp4"),
        ("file://localhost/{0}/a%20b.mp4", "a b.mp4"),
        ("FILE:///{0}/%C3%BCber%2520.mp4", "über%20.mp4"),
        ("file:///{0}/100%.mp4", "100%.mp4"),
        ("file:///{0}/a b%20c.mp4", "a b%20c.mp4"),  # who put file:// before a path as it stands
        ("file:///{0}/a#b?c.mp4", "a#b?c.mp4"),
        ("{0}/a%20b.mp4", "a%20b.mp4"),  # a plain path is no address
    ],
)
def test_a_file_address_is_an_address(tmp_path, source, name):
    (tmp_path / name).touch()
    assert file_path(settings(source.format(str(tmp_path).lstrip("/") if "://" in source else tmp_path))).is_file()
