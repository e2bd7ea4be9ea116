"""The contract as documents, made from the models: one JSON Schema per message, of a bundle's manifest and of a
crop's record, an AsyncAPI document, golden samples.

`python -m edge_app.contract.schemas` writes them beside this file; a test says when they are out of date.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_app.contract.bundle_manifest import BundleManifest
from edge_app.contract.crop import CropRecord
from edge_app.contract.envelope import SLUG_PATTERN
from edge_app.contract.samples import SITE, golden_samples
from edge_app.contract.topics import PAYLOAD_LIMIT_BYTES, PLACEHOLDERS, ROOT, RULES, Rule, encode, topic_of

FOLDER = Path(__file__).parent
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _names() -> list[str]:
    """The messages, each once: a provisional match has the schema of a match."""
    return [kind for kind, rule in RULES.items() if kind == rule.model.message]


def json_schema(kind: str) -> dict[str, Any]:
    """What is sent, as JSON Schema 2020-12. Unknown fields are allowed: a reader ignores them."""
    schema = RULES[kind].model.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": _DIALECT, "$id": f"https://crosslane.invalid/v1/{kind}.schema.json", **schema}


def bundle_schema() -> dict[str, Any]:
    """What `manifest.json` of a bundle holds. Unknown fields are allowed beside those that describe a network."""
    schema = BundleManifest.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": _DIALECT, "$id": "https://crosslane.invalid/bundle/1.schema.json", **schema}


def crop_schema() -> dict[str, Any]:
    """What a crop's `.json` in a shard holds."""
    schema = CropRecord.model_json_schema(mode="serialization")
    return {"$schema": _DIALECT, "$id": "https://crosslane.invalid/crop/1.schema.json", **schema}


def _operation_bindings(rules: list[Rule]) -> dict[str, Any]:
    binding: dict[str, Any] = {"qos": rules[0].qos, "retain": rules[0].retain, "bindingVersion": "0.2.0"}
    expiries = [rule.expiry_s for rule in rules if rule.expiry_s is not None]
    if expiries:
        binding["messageExpiryInterval"] = expiries[0]
    return {"mqtt": binding}


def asyncapi() -> dict[str, Any]:
    """The tree as AsyncAPI 3.0: a channel and an operation per topic, from the node's point of view."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for path in dict.fromkeys(rule.path for rule in RULES.values()):
        kinds = [kind for kind, rule in RULES.items() if rule.path == path]
        rules = [RULES[kind] for kind in kinds]
        name, message = kinds[0], rules[0].model.message
        placeholders = [part[1:-1] for part in f"{{site}}/{{node}}/{path}".split("/") if part.startswith("{")]
        channels[name] = {
            "address": f"{ROOT}/{{site}}/{{node}}/{path}",
            "parameters": {
                one: {"description": f"matches {PLACEHOLDERS.get(one, SLUG_PATTERN)}"} for one in placeholders
            },
            "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        }
        operations[name] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": (rules[0].model.__doc__ or "").splitlines()[0],
            "bindings": _operation_bindings(rules),
        }
    messages = {
        kind: {
            "contentType": "application/json",
            "payload": {"schemaFormat": f"application/schema+json;version={_DIALECT}", "schema": _reference(kind)},
        }
        for kind in _names()
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Crosslane",
            "version": "1.1.0",
            "description": "Cross-camera matches from the roadside. No message is larger than "
            f"{PAYLOAD_LIMIT_BYTES} bytes: what grows with the site is said in pages. "
            "A provisional match expires, a confirmed one never does.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }


def _reference(kind: str) -> dict[str, str]:
    return {"$ref": f"./{kind}.schema.json"}


def _text(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def documents() -> dict[str, str]:
    """File name → content of every generated file in this folder."""
    files = {f"{kind}.schema.json": _text(json_schema(kind)) for kind in _names()}
    files["bundle.schema.json"] = _text(bundle_schema())
    files["crop.schema.json"] = _text(crop_schema())
    files["asyncapi.json"] = _text(asyncapi())
    samples = {
        kind: {"topic": topic_of(message, SITE), "payload": json.loads(encode(message))}
        for kind, message in golden_samples().items()
    }
    files["samples.json"] = _text(samples)
    return files
