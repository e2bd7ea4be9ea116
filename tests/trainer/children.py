"""The `trainer` command in processes of their own. They are forked from one server that has imported everything once,
because importing torch and its friends costs more than a tiny run does."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARIES = [
    "trainer.run",
    "trainer.cli",
    "torch._dynamo",  # Adam imports it
    "torch.utils.tensorboard",
    "matplotlib.backends.backend_agg",
    "mpl_toolkits.axes_grid1",
    "sklearn.manifold",
    "warm_kernels",
]


class Child:
    """`trainer WORDS…` with one thread; `prepare` is called first; standard output and error go to a file."""

    def __init__(
        self, output: Path, *words: object, prepare: Callable[[], None] | None = None, **environment: object
    ) -> None:
        self.output = output
        variables = {name: str(value) for name, value in environment.items()}
        self.process = _server().Process(
            target=_command, args=([str(word) for word in words], output, prepare, variables)
        )
        self.process.start()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.join()

    def wait(self, timeout_s: float = 240) -> int:
        """Its exit status."""
        self.process.join(timeout_s)
        if self.process.exitcode is None:
            self.kill()
            raise TimeoutError(f"not done in {timeout_s} s: {self.text()}")
        return self.process.exitcode

    def text(self) -> str:
        """What it has said."""
        return self.output.read_text() if self.output.exists() else ""


def start_together(folder: Path, count: int, *words: object, prepare: Callable[[], None] | None = None) -> list[Child]:
    """`trainer WORDS…` as torchrun starts it: `count` processes that find each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free.getsockname()[1], "WORLD_SIZE": count}
    return [
        Child(folder / f"output{count}{rank}", *words, prepare=prepare, RANK=rank, **place) for rank in range(count)
    ]


def _server() -> multiprocessing.context.ForkServerContext:
    """Started on first use. Sums of floats depend on the number of threads, so all children have one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    before = dict(os.environ)
    os.environ.update(OMP_NUM_THREADS="1", PYTHONPATH=f"{HERE.parents[1]}:{HERE}", MPLBACKEND="agg")
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


def _command(words: list[str], output: Path, prepare: Callable[[], None] | None, variables: dict[str, str]) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(variables)
    if prepare is not None:
        prepare()
    from trainer.cli import main

    sys.argv = ["trainer", *words]
    main()
