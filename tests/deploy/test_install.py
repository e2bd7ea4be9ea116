"""deploy/jetson/install.sh and uninstall.sh from a real clone, on a machine of their own (see install_machine.py)."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from install_machine import BAD, ROOT, Machine, copy_checkout, lacking, python_for_everybody, taken

from edge_app.contract.messages import Match
from edge_app.demo.play import Play, raw_config


@pytest.fixture
def machine(tmp_path):
    if (reason := lacking()) is not None:
        pytest.skip(reason)
    copy_checkout(tmp_path / "clone")
    made = Machine(tmp_path, python_for_everybody())
    yield made
    made.close()


@pytest.fixture
def site(tmp_path):
    """`site(**changes)` → the file of a simulated site that is played four times as fast."""

    def write(**changes):
        raw = raw_config(Play(seconds=3600.0, speed=4.0), Path("/var/lib/crosslane/node.db"), None) | changes
        path = tmp_path / "site.yaml"
        path.write_text(yaml.safe_dump(raw))
        return path

    return write


@pytest.fixture
def broker(make_mosquitto, tmp_path):
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "edge", "right"], check=True, capture_output=True)
    passwords.chmod(0o644)
    return make_mosquitto(f"allow_anonymous false\npassword_file {passwords}\n")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_life_of_a_node(machine, site, broker, subscribe):
    """Installed with a password, updated well, updated badly, updated without it being possible, taken away."""
    login = {"host": broker.host, "port": broker.port, "username": "edge", "password_env": "BROKER_PASSWORD"}
    path = site(mqtt=login)
    install_with_a_password(machine, path)
    first = machine.current()
    subscriber = subscribe(broker.port, username="edge", password="right")
    subscriber.wait(lambda seen: len(seen.of(Match)) > 3, 60)

    update_with_another_lock_and_a_file_less(machine, path, first)
    second, invocation = machine.current(), machine.property("InvocationID")

    machine.change("NEWS", "third\n", "third")
    done = machine.install(site(node="pole 2", tick={}))
    assert done.returncode == 1
    assert "2 mistakes" in done.stderr
    assert (machine.current(), machine.property("InvocationID")) == (second, invocation), "a bad file stopped the node"

    heard = len(subscriber.of(Match))
    update_badly(machine, site(mqtt=login, aggregate={"interval_s": 60.0}), second)
    subscriber.wait(lambda seen: len(seen.of(Match)) > heard + 3, 60)
    events = [match.event_id for match in subscriber.of(Match)]
    assert len(set(events)) == len(events)

    take_away(machine)


def install_with_a_password(machine, path):
    refused = machine.install(path)
    assert refused.returncode == 1
    assert "environment variable BROKER_PASSWORD is not set" in refused.stderr
    assert machine.ok("ls -A /etc/crosslane") == "secrets.env"
    assert machine.property("ActiveState") == "inactive"
    machine.ok("echo BROKER_PASSWORD=right >/etc/crosslane/secrets.env")
    machine.change("edge_app/area_more.py", '"""Goes again."""\n', "a file")
    done = machine.install(path)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 cameras deliver" in done.stderr
    assert machine.property("ActiveState") == "active"
    assert machine.ok("stat -c '%a %U %G' /etc/crosslane/site.yaml") == "640 root crosslane"
    assert machine.ok("stat -c %a /etc/crosslane/secrets.env /var/lib/crosslane").split() == ["600", "700"]


def update_with_another_lock_and_a_file_less(machine, path, first):
    before = machine.property("InvocationID")
    machine.change("edge_app/area_more.py", None, "the file goes")
    machine.change("deploy/lock/edge.txt", "# another lock\n", "another lock")
    done = machine.install(path)
    assert done.returncode == 0, done.stderr
    assert machine.property("InvocationID") != before, "the update did not restart the service"
    second = machine.current()
    assert set(machine.releases()) == {first, second}, "the release before is kept, those before it go"
    old, new = f"/opt/crosslane/releases/{first}", f"/opt/crosslane/releases/{second}"
    assert machine.ok(f"cat {old}/.venv/.lock-edge") != machine.ok(f"cat {new}/.venv/.lock-edge")
    importing = ".venv/bin/python -c 'import edge_app.area_more'"
    machine.ok(f"cd / && {old}/{importing}")
    assert "No module named" in machine.run(f"cd / && {new}/{importing}").stderr


def update_badly(machine, path, good):
    """A release whose pipeline hangs, with a unit and a configuration of its own: all of it goes back."""
    before = machine.ok("cat /etc/crosslane/site.yaml")
    unit = machine.ok("cat /etc/systemd/system/crosslane-edge.service")
    code, said = BAD["hangs later"]
    machine.breaks("hangs later", code)
    machine.change("deploy/jetson/crosslane-edge.service", f"{unit}\n# another\n", "another unit")
    steps = taken(machine)
    done = machine.install(path)
    assert done.returncode == 1
    assert said in done.stderr, done.stderr
    assert "the release before runs again" in done.stderr
    assert machine.current() == good
    assert good in machine.releases()
    assert machine.ok("cat /etc/crosslane/site.yaml") == before
    assert "interval_s" in machine.ok("cat /etc/crosslane/site.yaml.rejected")
    assert machine.ok("cat /etc/systemd/system/crosslane-edge.service") == unit
    assert machine.property("ActiveState") == "active"
    assert taken(machine) > steps, "the old release does not go on where it was"


def take_away(machine):
    uninstall = f"bash {machine.clone}/deploy/jetson/uninstall.sh"
    assert machine.run(f"{uninstall} --everything").returncode == 1
    machine.ok(uninstall)
    assert machine.property("ActiveState") == "inactive"
    assert machine.run("ls /opt/crosslane /etc/systemd/system/crosslane-edge.service").stdout == ""
    machine.ok("test -s /var/lib/crosslane/node.db && test -e /etc/crosslane/site.yaml && id crosslane")
    machine.ok(f"{uninstall} --purge")
    assert machine.run("ls -d /etc/crosslane /var/lib/crosslane").stdout == ""
    assert machine.run("id crosslane").returncode == 1


@pytest.mark.slow
def test_a_broker_that_is_away_is_no_failure(machine, site):
    done = machine.install(site(mqtt={"host": "127.0.0.1", "port": 9}))
    assert done.returncode == 0, done.stderr
    assert "broker: AWAY" in done.stdout
    assert machine.property("ActiveState") == "active"


def test_what_the_installer_refuses(machine, tmp_path):
    assert "usage:" in machine.run(f"bash {machine.clone}/deploy/jetson/install.sh").stderr
    assert "is no file" in machine.install(tmp_path / "none.yaml").stderr
    shutil.rmtree(machine.clone / ".git")
    (tmp_path / "site.yaml").write_text("site: a\n")
    assert "use git clone" in machine.install(tmp_path / "site.yaml").stderr
    assert machine.run("ls /opt/crosslane /etc/crosslane").stdout == ""


def test_the_unit_is_closed_as_far_as_a_gpu_allows():
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed (Debian package systemd)")
    unit = ROOT / "deploy" / "jetson" / "crosslane-edge.service"
    done = subprocess.run(
        [analyze, "security", "--offline=true", str(unit)], capture_output=True, text=True, check=False
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze knows no --offline")
    level = float(done.stdout.split("Overall exposure level for")[1].split(":")[1].split()[0])
    assert level <= 2.5
    text = unit.read_text()
    assert "Type=notify" in text
    assert "UMask=0077" in text
