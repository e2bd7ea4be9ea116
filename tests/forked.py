"""`Popen` for Python programs of the edge, forked from a server that has imported everything once.

Most of a short command's life goes into importing libraries: a second and a half of a processor for each of some two
hundred commands. A forked one runs the same code with the same arguments, and ends as Python ends. Where the import is
what is tested, take `subprocess`.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMPORTED = """
    typer edge_app.app edge_app.check edge_app.replay edge_app.run edge_app.networks
    edge_app.sources.simulated edge_app.sources.video edge_app.simulation.detections edge_app.demo.simulate
    trackers scipy.optimize scipy.stats paho.mqtt.client yaml cv2 av
"""
# Not onnxruntime: a process that was forked with it does not end.
# Its child leaves the loop and becomes the program, so that Python itself prints its traceback and ends it.
SERVER = """
import importlib, json, os, runpy, select, signal, socket, sys

for name in sys.argv[1].split():
    importlib.import_module(name)
orders = socket.socket(fileno=0)
woken, waker = os.pipe()
os.set_blocking(waker, False)
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, lambda *_: None)
signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
while True:
    ready, _, _ = select.select([orders, woken], [], [])
    if woken in ready:
        os.read(woken, 4096)
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                orders.send(json.dumps([pid, os.waitstatus_to_exitcode(status)]).encode())
        except ChildProcessError:
            pass
    if orders not in ready:
        continue
    text, files, _, _ = socket.recv_fds(orders, 1_000_000, 3)
    if not text:
        os._exit(0)
    pid = os.fork()
    if pid == 0:
        break
    for file in files:
        os.close(file)
    orders.send(json.dumps([pid, None]).encode())

signal.set_wakeup_fd(-1)
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
for file in (orders, ):
    file.detach()
for number, file in enumerate(files):
    os.dup2(file, number)
    os.close(file)
for file in (woken, waker):
    os.close(file)
order = json.loads(text)
os.environ.clear()
os.environ.update(order["environment"])
os.chdir(order["folder"])
if order["environment"].get("PYTHONUNBUFFERED"):
    sys.stdout.reconfigure(write_through=True)
flag, what, *arguments = order["command"]
sys.argv = [flag, *arguments]
if flag == "-m":
    runpy.run_module(what, run_name="__main__", alter_sys=True)
else:
    exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
"""


class _Server:
    """One for each process of the tests, started on first use."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen([sys.executable, "-c", SERVER, IMPORTED], stdin=theirs, env=environment)
        theirs.close()
        self._starting = threading.Lock()
        self._said = threading.Condition()
        self._pid: int | None = None  # of the process that was forked last, until somebody takes it
        self.ended: dict[int, int] = {}
        threading.Thread(target=self._listen, daemon=True).start()
        atexit.register(self._orders.close)

    def fork(self, order: dict, files: list[int]) -> int | None:
        with self._starting, self._said:
            self._pid = None
            socket.send_fds(self._orders, [json.dumps(order).encode()], files)
            if not self._said.wait_for(lambda: self._pid is not None, 60):
                raise TimeoutError(f"the server of forks ended with {self._process.poll()}")
            return self._pid

    def wait(self, pid: int, timeout_s: float | None) -> int | None:
        with self._said:
            self._said.wait_for(lambda: pid in self.ended, timeout_s)
            return self.ended.get(pid)

    def _listen(self) -> None:
        while said := self._orders.recv(1000):
            pid, status = json.loads(said)
            with self._said:
                if status is None:
                    self._pid = pid
                    self.ended.pop(pid, None)  # of a process of long ago with the same number
                else:
                    self.ended[pid] = status
                self._said.notify_all()


_server: _Server | None = None


class Popen:
    """As `subprocess.Popen([sys.executable, "-m" | "-c", …])`, as far as tests use it."""

    def __init__(self, command, stdout=None, stderr=None, text=False, env=None, cwd=None) -> None:
        global _server  # noqa: PLW0603
        _server = _server or _Server()
        python, *self.args = map(str, command)
        assert python == sys.executable
        assert self.args[0] in ("-m", "-c")
        self.returncode: int | None = None
        self.stdout, out = _output(stdout, 1, text)
        self.stderr, error = _output(stderr, 2, text)
        environment = dict(os.environ if env is None else env)
        order = {"command": self.args, "environment": environment, "folder": str(cwd or os.getcwd())}
        nothing = os.open(os.devnull, os.O_RDONLY)
        self.pid = _server.fork(order, [nothing, out, error])
        for file in (nothing, out, error):
            os.close(file)

    def poll(self) -> int | None:
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        if self._wait(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None):
        """Everything that it still says; None for what is no pipe."""
        said: dict[int, str | bytes] = {}
        pipes = {number: pipe for number, pipe in ((1, self.stdout), (2, self.stderr)) if pipe and not pipe.closed}
        readers = [
            threading.Thread(target=lambda number=number, pipe=pipe: said.update({number: pipe.read()}), daemon=True)
            for number, pipe in pipes.items()
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        for pipe in pipes.values():
            pipe.close()
        return said.get(1), said.get(2)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _wait(self, timeout_s: float | None) -> int | None:
        if self.returncode is None:
            assert _server is not None
            self.returncode = _server.wait(self.pid, timeout_s)
        return self.returncode


def run(command, timeout=None, **options) -> subprocess.CompletedProcess:
    """As `subprocess.run(…, capture_output=True, text=True)`."""
    process = Popen(command, subprocess.PIPE, subprocess.PIPE, text=True, **options)
    try:
        out, error = process.communicate(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def _output(where, number: int, text: bool):
    """What the caller reads from, if anything, and a descriptor for the child, to be closed here."""
    if where == subprocess.PIPE:
        read, write = os.pipe()
        return (os.fdopen(read) if text else os.fdopen(read, "rb")), write
    if where == subprocess.DEVNULL:
        return None, os.open(os.devnull, os.O_WRONLY)
    return None, os.dup(number if where is None else where.fileno())
