"""Shards that wait for their upload, and what became of them."""

import hashlib
import json
import time

from seaweed import BUCKET

from edge_app.clock import Clock
from edge_app.collection.closed import ClosedShard
from edge_app.collection.segment import Contents
from edge_app.collection.upload import Uploader
from edge_app.collection.upload_settings import UploadSettings

OWNER = ("town", "edge-1")


class Waiting:
    """Shards in a folder, as a spool keeps them."""

    def __init__(self, folder):
        self.folder, self.lost = folder, []
        folder.mkdir()
        self.shards = {}

    def add(self, number=0, size=300_000):
        content = bytes([number]) * size
        digest = hashlib.sha256(content).hexdigest()
        name = f"edge-1-a1.1-{number:06d}-{digest[:16]}.tar"
        (self.folder / name).write_bytes(content)
        self.shards[name] = ClosedShard(name, self.folder / name, digest, size, Contents(crops=3), 0.0)
        return self.shards[name]

    def closed(self):
        return list(self.shards.values())

    def confirmed(self, name):
        self.shards.pop(name).path.unlink()
        return True

    def damaged(self, name):
        self.lost.append(name)
        return self.confirmed(name)


def uploader(waiting, store, tmp_path, clock=None, **changes):
    settings = UploadSettings(store=store, audit=tmp_path / "uploads.jsonl", **changes)
    return Uploader(settings, OWNER, waiting, clock or Clock(), chance=lambda a, b: 1.0)


def audit(tmp_path):
    return [json.loads(line) for line in (tmp_path / "uploads.jsonl").read_text().splitlines()]


def arrived(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.tar")}


def ends(uploader, condition, timeout_s=60.0):
    """Turn by turn, with its pauses left out."""
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s
        uploader.turn()


def stored(seaweed, settings):
    """Name → digest of what is in the bucket, read back."""
    prefix = settings.url.split("/", 3)[3] + "/"
    names = [one["Key"] for one in seaweed.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())]
    return {
        name.removeprefix(prefix): hashlib.sha256(
            seaweed.client.get_object(Bucket=BUCKET, Key=name)["Body"].read()
        ).hexdigest()
        for name in names
    }
