"""A machine of its own for the installer: a mount and process namespace with its own /opt, /etc and /var/lib, and a
small systemd (`systemd_stub.py`). For the tests and for tests/benchmarks/installer.py.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STUB = Path(__file__).with_name("systemd_stub.py")
PACKAGES = Path("/opt/packages")  # the packages of this environment, as the namespace sees them
CERTIFICATES = {name: os.environ[name] for name in ("SSL_CERT_FILE", "PIP_CERT", "https_proxy") if name in os.environ}
OVERLAY = """
set -e
mount -t tmpfs tmpfs {own}
mkdir {own}/up {own}/work
mount -t overlay overlay -o lowerdir=/etc,upperdir={own}/up,workdir={own}/work /etc
mount -t tmpfs tmpfs /opt
mkdir /opt/packages
mount --bind {packages} /opt/packages
mount -t tmpfs tmpfs /var/lib
mount -t proc proc /proc
touch {own}/ready
sleep infinity &
wait # as the first process here, bash also takes leave of those who lost their parents
"""


def python_for_everybody():
    """A Python of this version that the service's user may run; the one of the tests may lie in somebody's home."""
    for path in ("/usr/bin/python3", os.path.realpath(sys.executable)):
        code = "import sys, venv; print(sys.version_info[:2])"
        command = ["setpriv", "--reuid", "65534", "--clear-groups", path, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.stdout.strip() == str(sys.version_info[:2]):
            return path
    return None


def git(folder, *arguments):
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def lacking():
    """Why no such machine can be made here; nothing where it can."""
    if os.geteuid() != 0:
        return "needs root: the installer runs in a mount namespace"
    tools = [name for name in ("unshare", "nsenter", "git", "runuser", "useradd", "flock") if not shutil.which(name)]
    if tools:
        return f"not installed: {', '.join(tools)}"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"no mount namespace here: {tried.stderr.strip()}"
    if python_for_everybody() is None:
        return f"no Python {sys.version_info[0]}.{sys.version_info[1]} that another user may run"
    return None


def copy_checkout(folder):
    """This checkout as it stands, as far as a node needs it, in a repository of its own."""
    wanted = ("deploy", "edge_app", "configs/edge", "pyproject.toml", "README.md", "LICENSE", ".gitignore")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *wanted]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")


class Machine:
    """A machine of its own, as far as the installer can see."""

    def __init__(self, folder, python, packages=PACKAGES):
        """`packages` None: each release gets what its lock names, from the network."""
        self.clone, self._own, self._python = folder / "clone", folder / "own", python
        self._packages = {"PACKAGES": str(packages)} if packages else CERTIFICATES
        self._longest_s = 200 if packages else 900  # fetching and compiling a release's packages takes its time
        self._own.mkdir()
        setup = OVERLAY.format(own=self._own, packages=sysconfig.get_path("purelib"))
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", setup],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._inside = self._first_process()
        for name in ("systemctl", "systemd-run", "journalctl"):
            called = f"/opt/systemd/{name}"
            self.ok(f"mkdir -p /opt/systemd; cp {STUB} {called}; sed -i '1i #!{python}' {called}; chmod +x {called}")

    def _first_process(self):
        """The process that holds the namespaces, once all is mounted."""
        for _ in range(100):
            children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
            if children and Path(f"/proc/{children[0]}/root{self._own}/ready").exists():
                return int(children[0])
            if self._holder.poll() is not None:
                raise OSError(f"no mount namespace here: {self._holder.stderr.read().strip()}")
            time.sleep(0.05)
        raise TimeoutError

    def run(self, command, **environment):
        env = {
            "PATH": "/opt/systemd:/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "SYSTEMD_STUB": "/opt/systemd",
            "PYTHON": self._python,
            "WAIT_S": "60",
            "SETTLE_S": "2",
        }
        # --root: the namespace's own root is the machine's, also where these tests run in a changed one
        entered = ["nsenter", "--target", str(self._inside), "--mount", "--pid", "--root"]
        inside = [*entered, "bash", "-c", f"cd /\n{command}"]
        return subprocess.run(
            inside,
            env=env | self._packages | environment,
            capture_output=True,
            text=True,
            timeout=self._longest_s,
            check=False,
            cwd="/",
        )

    def install(self, site, **environment):
        return self.run(f"bash {self.clone}/deploy/jetson/install.sh {site}", **environment)

    def ok(self, command):
        done = self.run(command)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def property(self, name):
        return self.ok(f"systemctl show --property={name} crosslane-edge.service").removeprefix(f"{name}=")

    def releases(self):
        return self.ok("ls -1 /opt/crosslane/releases").split()

    def current(self):
        return self.ok("readlink /opt/crosslane/current").removeprefix("releases/")

    def change(self, path, text, says):
        """A commit in the clone."""
        file = self.clone / path
        if text is None:
            file.unlink()
        else:
            file.write_text(text)
        git(self.clone, "add", "--all")
        git(self.clone, "commit", "--quiet", "--message", says)

    def breaks(self, says, code):
        """A commit whose pipeline does this in its 40th step."""
        text = (self.clone / "edge_app/health/watchdog.py").read_text()
        self.change("edge_app/health/watchdog.py", f"{text}\n\n{code}", says)

    def close(self):
        self._holder.kill()
        self._holder.wait()


# kind of bad release → what its code does, and what the installer says
BAD = {
    "ends at once": (
        "def __getattr__(name):\n    return None\n\n\nraise RuntimeError('a bad release')\n",
        "ended with",
    ),
    "never gets ready": ("import time\n\n\nWatchdog.step = lambda *_: time.sleep(600)\n", "not ready within 8 s"),
    "hangs later": (
        "import time\n\n\ndef _step(self, status, step=Watchdog.step):\n    step(self, status)\n"
        "    if self._steps > 15:\n        time.sleep(600)\n\n\nWatchdog.step = _step\n",
        "pipeline hangs",
    ),
    "cameras do not deliver": (
        "def _line(*_):\n    return '1 of 4 cameras deliver'\n\n\nimport sys\n"
        "sys.modules[__name__].status_line = _line\n",
        "1 of 4 cameras deliver; before, 4 did",
    ),
}


TAKEN = """
import json, sqlite3
store = sqlite3.connect("file:/var/lib/crosslane/node.db?mode=ro", uri=True)
((value,),) = store.execute("SELECT value FROM parts WHERE key = 'pipeline/progress'")
print(json.loads(value[value.find(b"{"):])["now"])  # of 0.1, or behind the name of its format
"""


def taken(machine):
    """Capture time of the last step that is on disk."""
    return float(machine.ok(f"python3 -c {shlex.quote(TAKEN)}"))
