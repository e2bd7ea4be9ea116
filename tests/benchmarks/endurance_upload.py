"""A process that spools and uploads crops, killed at random moments; every tenth time its S3 server is killed with it.

    python tests/benchmarks/endurance_upload.py --kills 100 --json endurance_upload.json

Half of the kills are on a real S3 server (SeaweedFS), half on a folder. Every accepted crop must be in the store
exactly once, every shard there in the log of uploads, and nothing left in the spool.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from seaweed import BUCKET, KEY, SECRET, Seaweed
from upload_kills import World, nothing_wrong

from edge_app.contract.objects import ObjectStoreSettings


def on_s3(folder: Path, kills: int, seed: int) -> dict[str, int]:
    os.environ.update(S3_KEY=KEY, S3_SECRET=SECRET)
    (folder / "weed").mkdir(parents=True)
    server = Seaweed(folder / "weed").start()
    try:
        keys = {"key_env": "S3_KEY", "secret_env": "S3_SECRET", "silent_s": 5.0}
        world = World(folder, ObjectStoreSettings(url=f"s3://{BUCKET}", endpoint=server.endpoint, **keys), seed)
        for done in range(0, kills, 10):
            world.kill(min(9, kills - done))
            server.kill()
            world.kill(min(1, max(kills - done - 9, 0)))
            server.start()
        world.finish()
        return world.account() | {"server_kills": -(-kills // 10)}
    finally:
        server.kill()


def on_a_folder(folder: Path, kills: int, seed: int) -> dict[str, int]:
    (folder / "store").mkdir(parents=True)
    world = World(folder, ObjectStoreSettings(url=str(folder / "store")), seed)
    world.kill(kills)
    world.finish()
    return world.account()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        accounts = {
            "s3": on_s3(Path(folder, "s3"), asked.kills - asked.kills // 2, asked.seed),
            "folder": on_a_folder(Path(folder, "folder"), asked.kills // 2, asked.seed + 1),
        }
    result = {**accounts, "seconds": round(time.monotonic() - began_s, 1)}
    print(json.dumps(result, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(0 if all(map(nothing_wrong, accounts.values())) else 1)


if __name__ == "__main__":
    main()
