"""A small systemd for a namespace without one: `systemctl`, `systemd-run` and `journalctl`, by the name it is called.

It knows one service, and of its unit User, EnvironmentFile, WorkingDirectory, ExecStart, Type=notify, RestartSec and
RestartPreventExitStatus; sandboxes it does not build. Everything lies in the folder SYSTEMD_STUB.
"""

import json
import os
import pwd
import shlex
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

HOME = Path(os.environ["SYSTEMD_STUB"])
UNIT = Path("/etc/systemd/system/crosslane-edge.service")
INACTIVE = {"ActiveState": "inactive", "NRestarts": 0, "StatusText": "", "InvocationID": "", "ExecMainStatus": 0}


def read_unit():
    lines = [line.split("=", 1) for line in UNIT.read_text().splitlines() if "=" in line and line[0] not in "#["]
    return dict(lines)


def variables(file):
    """Name and value of each line of an EnvironmentFile, read as root; a leading - allows it to be missing."""
    path = Path(file.lstrip("-"))
    if file.startswith("-") and not path.exists():
        return {}
    lines = [line.strip() for line in path.read_text().splitlines()]
    return {key: value.strip("\"'") for key, value in (line.split("=", 1) for line in lines if line and line[0] != "#")}


def as_user(name, extra):
    """How to start a child as this user, with the environment of a service."""
    user = pwd.getpwnam(name)
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": user.pw_dir, "USER": name, "LANG": "C.UTF-8"} | extra
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "env": env, "umask": 0o077}


def write_state(**state):
    part = HOME / "state.part"
    part.write_text(json.dumps(state))
    part.replace(HOME / "state")


def read_state():
    path = HOME / "state"
    return json.loads(path.read_text()) if path.exists() else dict(INACTIVE)


def supervise():
    """The service, until this process is told to end."""
    unit, restarts, stopping = read_unit(), 0, []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    while not stopping:
        state = INACTIVE | {"ActiveState": "activating", "NRestarts": restarts, "InvocationID": uuid.uuid4().hex}
        code = one_run(unit, state, stopping)
        if stopping:
            break
        if str(code) in unit.get("RestartPreventExitStatus", "").split():
            write_state(**state | {"ActiveState": "failed", "ExecMainStatus": code})
            return
        write_state(**state | {"ActiveState": "activating", "ExecMainStatus": code})
        time.sleep(0.5)  # RestartSec, shortened
        restarts += 1
    write_state(**INACTIVE)


def one_run(unit, state, stopping):
    write_state(**state)
    path = f"{HOME}/notify.{state['InvocationID']}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, (HOME / "journal").open("a") as journal:
        notify.bind(path)
        os.chmod(path, 0o777)
        notify.settimeout(0.1)
        extra = variables(unit["EnvironmentFile"]) | {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "60000000"}
        options = as_user(unit["User"], extra) | {"cwd": unit["WorkingDirectory"], "stderr": journal}
        child = subprocess.Popen(shlex.split(unit["ExecStart"]), **options)
        told, killed_at_s = False, float("inf")
        while child.poll() is None:
            if stopping and not told:
                state["ActiveState"], told = "deactivating", True
                write_state(**state)
                killed_at_s = time.monotonic() + 4.0  # TimeoutStopSec, shortened
                child.terminate()
            if time.monotonic() > killed_at_s:
                child.kill()
            try:
                heard = notify.recv(4096).decode().splitlines()
            except TimeoutError:
                continue
            for line in heard:
                state["StatusText"] = (
                    line.removeprefix("STATUS=") if line.startswith("STATUS=") else state["StatusText"]
                )
                state["ActiveState"] = "active" if line == "READY=1" else state["ActiveState"]
            write_state(**state)
    return child.returncode


def stop():
    pid = HOME / "pid"
    if pid.exists():
        number = int(pid.read_text())
        pid.unlink()
        try:
            os.kill(number, signal.SIGTERM)
            while True:
                os.kill(number, 0)
                time.sleep(0.05)
        except ProcessLookupError:
            pass
    write_state(**INACTIVE)


def systemctl(arguments):
    verb = next(word for word in arguments if not word.startswith("-"))
    if verb == "show":
        state = read_state()
        wanted = next(word for word in arguments if word.startswith("--property=")).removeprefix("--property=")
        print("\n".join(f"{name}={state[name]}" for name in wanted.split(",")))
    elif verb == "restart":
        stop()
        log = (HOME / "supervisor").open("a")
        process = subprocess.Popen(
            [sys.executable, __file__, "supervise"], start_new_session=True, stderr=log, stdout=log
        )
        (HOME / "pid").write_text(str(process.pid))
    elif verb == "disable":
        stop()
    with (HOME / "calls").open("a") as calls:
        calls.write(" ".join(arguments) + "\n")


def systemd_run(arguments):
    """Runs the command at once, with the user and the variables of its properties."""
    properties, command = {}, []
    words = iter(arguments)
    for word in words:
        if word == "-p":
            key, value = next(words).split("=", 1)
            properties[key] = value
        elif not word.startswith("--"):
            command = [word, *words]
    extra = variables(properties["EnvironmentFile"])
    options = as_user(properties["User"], extra) | {"cwd": properties["WorkingDirectory"]}
    sys.exit(subprocess.run(command, check=False, **options).returncode)


if __name__ == "__main__":
    called, *rest = [Path(sys.argv[0]).name, *sys.argv[1:]]
    if rest[:1] == ["supervise"]:
        supervise()
    elif called == "systemctl":
        systemctl(rest)
    elif called == "systemd-run":
        systemd_run(rest)
    elif called == "journalctl":
        print("\n".join((HOME / "journal").read_text().splitlines()[-20:]) if (HOME / "journal").exists() else "")
