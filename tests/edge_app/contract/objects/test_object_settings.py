"""Addresses and keys: what is a mistake is said before anybody is asked, and no secret is repeated."""

import pytest
from pydantic import ValidationError

from edge_app.contract.errors import ObjectStoreRefusedError
from edge_app.contract.objects import ObjectStoreSettings, open_store
from edge_app.contract.objects.settings import settings_problems


def settings(**given):
    return ObjectStoreSettings(**given)


def test_a_folder_is_relative_to_the_settings_file(tmp_path):
    for url in ("crops", "file://crops"):
        made = ObjectStoreSettings.model_validate({"url": url}, context={"folder": tmp_path})
        assert made.url == str(tmp_path / "crops")
        assert made.is_folder


def test_an_address_keeps_no_slash_at_its_end():
    assert settings(url="s3://bucket/prefix/").url == "s3://bucket/prefix"
    assert (
        settings(url="s3://bucket", endpoint="http://127.0.0.1:8333").where() == "s3://bucket at http://127.0.0.1:8333"
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "s3://key:hush@bucket"}, "holds a password"),
        ({"url": "ssh://me:hush@host/crops"}, "holds a password"),
        ({"url": "s3://Bucket"}, "expected s3://bucket/prefix"),
        ({"url": "s3://bucket/../other"}, "expected s3://bucket/prefix"),
        ({"url": "s3://bucket", "endpoint": "https://me:hush@host"}, "without a path or a password"),
        ({"url": "s3://bucket", "endpoint": "storage.example.org"}, "expected https://host:port"),
        ({"url": "s3://bucket", "key_env": "KEY"}, "belong together"),
        ({"url": "s3://bucket", "key_env": "K", "secret_env": "S", "profile": "p"}, "not both"),
        ({"url": "s3://bucket", "key_env": "hush hush", "secret_env": "S"}, "key_env"),
        ({"url": "/crops", "endpoint": "https://host"}, "only an s3:// address"),
        ({"url": "/crops", "kez_env": "K"}, "kez_env"),
        ({"url": ""}, "url"),
    ],
)
def test_a_mistake_is_said_and_no_secret_repeated(given, said):
    with pytest.raises(ValidationError) as raised:
        settings(**given)
    assert said in str(raised.value)
    assert "hush" not in str(raised.value)


def test_what_only_this_machine_can_know(tmp_path):
    made = settings(url="s3://bucket", key_env="K", secret_env="S", ca=tmp_path / "ca.pem")
    assert settings_problems(made, {"K": "key", "S": ""}) == [
        "secret_env: environment variable S is not set",
        f"ca: no file {tmp_path / 'ca.pem'}",
    ]


def test_an_address_that_nobody_knows_is_refused():
    pytest.importorskip("fsspec")
    with pytest.raises(ObjectStoreRefusedError, match="nosuch"):
        open_store(settings(url="nosuch://host/crops"))
