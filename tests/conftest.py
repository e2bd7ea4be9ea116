"""Fixtures that tests of several packages share."""

import json
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips, crops and models, which is not part of the repository."""
    folder = REPOSITORY / ".." / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder.resolve()


@cache
def _validator(kind):
    import jsonschema

    path = REPOSITORY / "edge_app" / "contract" / "schemas" / f"{kind}.schema.json"
    return jsonschema.Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))


def validate_message(topic: str, payload: bytes):
    """Check one MQTT message against the committed JSON Schema and the models; returns the decoded message."""
    from edge_app.contract.topics import decode

    message = decode(topic, payload)
    _validator(message.message).validate(json.loads(payload))
    return message


@pytest.fixture(scope="session")
def validate():
    """`validate(topic, payload)` checks one MQTT message and returns it decoded."""
    return validate_message
