"""The first hour of an owner: install, update, hang, and a site for dashboards."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import yaml

from edge_app.demo.broker import EmbeddedBroker
from edge_app.demo.play import Play, raw_config
from tests.benchmarks.fault_case import Case

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "deploy"))

from install_machine import BAD, Machine, copy_checkout, lacking, python_for_everybody, taken  # noqa: E402

EVERYWHERE = re.compile(r"lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|z)\.so|ld-linux")  # a bare Debian has these
HANGS = """
import time
import edge_app.pipeline as pipeline
step, steps = pipeline.Association.step, []
def hang(self, *arguments):
    steps.append(1)
    time.sleep(600 if len(steps) > 20 else 0)
    return step(self, *arguments)
pipeline.Association.step = hang
from edge_app.__main__ import main
main()
"""


def edge_app(*arguments: object, code: str = "", **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code or "from edge_app.__main__ import main; main()", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=os.environ | environment)


def bare_debian(_folder: Path) -> tuple[str, bool]:
    """The libraries that OpenCV's own needs from the system; deploy/fresh.sh proves the whole command."""
    found = importlib.util.find_spec("cv2")
    assert found is not None
    assert found.origin is not None
    (library,) = Path(found.origin).parent.glob("cv2*.so")
    listed = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    needed = re.findall(r"NEEDED.*\[(.*)\]", listed)
    beside = {path.name for path in Path(found.origin).parents[1].glob("*.libs/*")}
    lacking_there = [name for name in needed if not EVERYWHERE.search(name) and name not in beside]
    return f"of the system, OpenCV needs beyond libc: {', '.join(lacking_there) or 'nothing'}", not lacking_there


def _machine(folder: Path) -> Machine:
    copy_checkout(folder / "clone")
    return Machine(folder, python_for_everybody())


def _site(folder: Path, **changes: object) -> Path:
    path = folder / "site.yaml"
    raw = raw_config(Play(seconds=3600.0, speed=6.0), Path("/var/lib/crosslane/node.db"), None)
    path.write_text(yaml.safe_dump(raw | changes))
    return path


def password_site(folder: Path) -> tuple[str, bool]:
    """With the password's variable in secrets.env, and a broker that is away."""
    if reason := lacking():
        return f"not tried: {reason}", False
    login = {"host": "127.0.0.1", "port": 9, "username": "edge", "password_env": "BROKER_PASSWORD"}
    machine = _machine(folder)
    try:
        machine.ok("mkdir -p /etc/crosslane && echo BROKER_PASSWORD=right >/etc/crosslane/secrets.env")
        done = machine.install(_site(folder, mqtt=login))
        return f"exit {done.returncode}: {done.stderr.strip().splitlines()[-1]}", done.returncode == 0
    finally:
        machine.close()


def bad_update(folder: Path) -> tuple[str, bool]:
    if reason := lacking():
        return f"not tried: {reason}", False
    machine = _machine(folder)
    try:
        machine.install(_site(folder))
        good, before = machine.current(), taken(machine)
        machine.breaks("hangs later", BAD["hangs later"][0])
        done = machine.install(_site(folder))
        back = machine.current() == good and machine.property("ActiveState") == "active" and taken(machine) > before
        return f"exit {done.returncode}: {done.stderr.strip().splitlines()[-1]}", back and done.returncode == 1
    finally:
        machine.close()


def unit_exposure(_folder: Path) -> tuple[str, bool]:
    unit = ROOT / "deploy" / "jetson" / "crosslane-edge.service"
    command = [shutil.which("systemd-analyze") or "systemd-analyze", "security", "--offline=true", str(unit)]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    level = float(text.split("Overall exposure level for")[1].split(":")[1].split()[0])
    return f"{level}, UMask={'0077' if 'UMask=0077' in unit.read_text() else 'none'}", level <= 2.5


def hang(folder: Path) -> tuple[str, bool]:
    """What is said on systemd's socket before and after the pipeline hangs."""
    path, site = folder / "notify", folder / "site.yaml"
    site.write_text(yaml.safe_dump(raw_config(Play(seconds=600.0, speed=1.0), folder / "node.db", None)))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        node = edge_app("run", "--config", site, code=HANGS, NOTIFY_SOCKET=str(path), WATCHDOG_USEC="2000000")
        heard = _heard(manager, 60.0, until="READY=1")
        ready = "READY=1" in heard
        pings = _heard(manager, 4.0).count("WATCHDOG=1")
        silent = _heard(manager, 4.0).count("WATCHDOG=1")
        node.kill()
        node.communicate()
    text = f"READY: {ready}, {pings} pings while it ran, {silent} in 4 s of hanging (systemd ends it after 60 s)"
    return text, ready and pings > 0 and silent == 0


def _heard(manager: socket.socket, seconds: float, until: str = "") -> list[str]:
    lines: list[str] = []
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0 and not (until and until in lines):
        manager.settimeout(left_s)
        try:
            lines += manager.recv(4096).decode().splitlines()
        except TimeoutError:
            break
    return lines


def simulated_now(folder: Path) -> tuple[str, bool]:
    import paho.mqtt.client as paho

    from edge_app.contract.topics import decode

    times: list[float] = []
    with EmbeddedBroker() as broker:
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.on_message = lambda _client, _data, m: times.append(decode(m.topic, m.payload).observed_at_s)
        client.connect(broker.host, broker.port)
        client.subscribe("crosslane/v1/town/pole-2/event/match", qos=1)
        client.loop_start()
        address = f"{broker.host}:{broker.port}"
        edge_app("simulate", "--broker", address, "--node", "pole-2", "--seconds", 40, "--speed", 40).communicate()
        time.sleep(1.0)
        client.loop_stop()
    ages = sorted(time.time() - moment for moment in times)
    text = f"{len(ages)} matches of node pole-2, {ages[0]:.0f} to {ages[-1]:.0f} s old" if ages else "no match"
    return text, bool(ages) and ages[0] >= 0.0 and ages[-1] < 200.0


def simulated_mistakes(_folder: Path) -> tuple[str, bool]:
    wrong = ("--broker", "a:b:c", "--node", "x/y", "--user", "u", "--password-env", "NOT_SET", "--ca", "/nowhere")
    node = edge_app("simulate", *wrong, "--write-config", "/proc/none/site.yaml")
    error = node.communicate()[1]
    mended = node.returncode == 78 and "4 mistakes" in error and "Traceback" not in error
    return f"exit {node.returncode}, {error.count('  - ')} mistakes listed at once", mended


CASES = [
    Case("0.1", "The demo on a bare Debian", "ImportError: libxcb.so.1; three libraries were known", bare_debian),
    Case("0.2", "Installing a site with a password", "never: check saw no secrets.env; broker away: 69", password_site),
    Case("0.3", "An update that hangs", "nothing restarted the old one, nothing went back", bad_update),
    Case("0.4", "systemd's exposure of the unit", "8.5 (EXPOSED), no UMask", unit_exposure),
    Case("0.5", "A pipeline that hangs", "Type=exec: 9 min 40 s without an end", hang),
    Case("0.6", "simulate's times", "matches of November 2023 (start=1700000000), always as edge-1", simulated_now),
    Case("0.7", "simulate's mistakes", "traceback, exit 1; no --node, --user, --ca", simulated_mistakes),
]
