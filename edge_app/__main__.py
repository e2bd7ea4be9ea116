"""The `edge-app` command.

Exit codes (sysexits.h): 0 done or stopped by a signal · 2 wrong command line · 65 a model or bundle is not usable ·
66 a camera or file cannot be read · 69 the broker or another service is away · 70 a bug, or something hung at the end ·
74 the disk · 77 the broker refuses this client · 78 the configuration is wrong. 65, 66, 77 and 78 do not get better by
themselves: name them in systemd's RestartPreventExitStatus.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_app.contract.errors import ContractError
from edge_app.errors import EdgeError, one_line

cli = typer.Typer(
    name="edge-app",
    help="Finds the same vehicle again on the next camera, and says so over MQTT.",
    epilog=(__doc__ or "").split("\n\n")[1].replace("\n", " "),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[Path, typer.Option("--config", "-c", help="Site configuration, YAML.")]
Seed = Annotated[int, typer.Option(help="Another world of the same site.")]
Difficulty = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Look-alikes, noise, traffic, drift: 0 easy … 1 hard.")
]
Seconds = Annotated[float, typer.Option(min=1.0, help="Simulated seconds.")]


@cli.command()
def run(config: Config) -> None:
    """Run one node until it is stopped, or until all its recordings have been played."""
    from edge_app.config import load
    from edge_app.logs import configure
    from edge_app.run import run as run_site
    from edge_app.stopping import leave

    site = load(config)
    configure(site.logs)
    if run_site(site):
        leave()


@cli.command()
def check(
    config: Config,
    lenient: Annotated[
        bool, typer.Option("--lenient", help="A broker, camera or crop store that is away is told, no problem.")
    ] = False,
) -> None:
    """Look at everything a run would need - files, models, cameras, links, broker, store - and list every problem."""
    from edge_app.check import check_site

    for line in check_site(config, lenient):
        say(line)


@cli.command()
def upload(
    config: Config,
    now: Annotated[bool, typer.Option("--now", help="Whatever the hour.")] = False,
) -> None:
    """Send every crop that waits in the spool to the store, once, and end. A node that runs does that by itself."""
    from edge_app.config import load
    from edge_app.logs import configure
    from edge_app.uploading import upload_once

    site = load(config)
    configure(site.logs)
    say(upload_once(site, now))


@cli.command()
def forget(
    config: Config,
    identity: Annotated[str | None, typer.Option(help="A global id, or the id of one passage (its track).")] = None,
    camera: Annotated[str | None, typer.Option(help="What this camera saw.")] = None,
    since: Annotated[str | None, typer.Option(help="What was seen from then on: 2026-01-31T12:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="What was seen until then.")] = None,
) -> None:
    """Erase what a stopped node has of an identity, a camera or a time (memory, messages, crops); prints a receipt."""
    import time

    from edge_app.config import load
    from edge_app.contract.errors import SelectionError
    from edge_app.contract.forgetting import selection_of
    from edge_app.errors import ConfigurationError
    from edge_app.forget import forget as forget_what

    try:
        selection = selection_of(identity, camera, since, until)
    except SelectionError as error:
        raise ConfigurationError(error.problems, "edge-app forget") from None
    for line in forget_what(load(config), selection, time.time()).json().split("\n"):
        say(line)


@cli.command()
def replay(
    config: Config,
    out: Annotated[Path, typer.Option(help="Facts as JSON lines; the same input gives the same bytes.")],
    pictures: Annotated[Path | None, typer.Option(help="Write matches.png and timeline.png here.")] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="Boxes with ids over all cameras to be judged by: JSON lines, or MOT rows in {camera}.txt."),
    ] = None,
) -> None:
    """Play the recordings of a configuration through the same pipeline, as fast as it can, without a broker."""
    from edge_app.config import load
    from edge_app.replay import replay_site

    for line in replay_site(load(config), out, pictures, truth).split("\n"):
        say(line)


@cli.command()
def look(
    config: Config,
    out: Annotated[Path, typer.Option(help="Folder for look.html and an annotated video of each camera.")] = Path(
        "look"
    ),
    camera: Annotated[list[str] | None, typer.Option(help="Only this camera; repeatable.")] = None,
    seconds: Annotated[
        float | None, typer.Option(min=1.0, help="For so long; live cameras a minute if not said.")
    ] = None,
    video: Annotated[bool, typer.Option(help="Videos beside the page.")] = True,
) -> None:
    """What each camera sees and what it does not: boxes, tracks, crops, how alike passages are, and what stands out."""
    from edge_app.config import load
    from edge_app.looking import look_site

    for line in look_site(load(config), out, camera or (), seconds, video):
        say(line)


@cli.command()
def simulate(  # noqa: PLR0913, PLR0917  every option of a command is a parameter
    broker: Annotated[str, typer.Option(help="host:port of an MQTT broker; port 1883, with TLS 8883, if not said.")] = (
        "localhost"
    ),
    site: Annotated[str, typer.Option(help="town, or grid-N with N cameras.")] = "town",
    node: Annotated[
        str, typer.Option(help="Name of the node in every topic; must differ where several play.")
    ] = "edge-1",
    user: Annotated[str | None, typer.Option(help="Name to log in with.")] = None,
    password_env: Annotated[str | None, typer.Option(help="Environment variable that holds the password.")] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt; the system's certificates judge the broker.")] = False,
    ca: Annotated[Path | None, typer.Option(help="Encrypt; these certificates (PEM) judge the broker.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="Encrypt; this client's certificate (PEM).")] = None,
    key: Annotated[Path | None, typer.Option(help="The private key (PEM) of --certificate.")] = None,
    seed: Seed = 7,
    difficulty: Difficulty = 0.5,
    seconds: Seconds = 3600.0,
    speed: Annotated[float, typer.Option(min=0.1, max=1000.0, help="1 is real time.")] = 1.0,
    write_config: Annotated[Path | None, typer.Option(help="Write the site's configuration here instead.")] = None,
) -> None:
    """Play a synthetic site: real messages about now, for a dashboard without cameras."""
    from edge_app.demo.play import Play
    from edge_app.demo.simulate import Destination, simulate_site
    from edge_app.stopping import leave

    files = {name: path for name, path in {"ca": ca, "certificate": certificate, "key": key}.items() if path}
    to = Destination(broker, node, user, password_env, files if tls or files else None)
    if simulate_site(Play(site, seed, difficulty, seconds, speed=speed), to, write_config):
        leave()


@cli.command("build-engine")
def build_engine(
    model: Annotated[Path, typer.Argument(help="A signed bundle, or an ONNX file.")],
    device: Annotated[
        str | None, typer.Option("--for", help="GPU to build for ahead of time, as sm86; default: this one.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of engines: `engine.engines` of the configuration.")] = Path(
        "state/engines"
    ),
    key: Annotated[list[Path] | None, typer.Option(help="Public key of the bundle's maker, PEM.")] = None,
    max_batch: Annotated[int, typer.Option(min=1, max=1024, help="Largest batch.")] = 16,
    memory_mib: Annotated[int, typer.Option(min=16, help="Scratch memory that the engine may use.")] = 1024,
) -> None:
    """Build TensorRT engines from the models of a bundle; what is already there and fits is kept."""
    from edge_app.runtime.build import BuildRequest
    from edge_app.runtime.build import build_engine as build
    from edge_app.runtime.bundles import build_requests

    wanted = BuildRequest(model, out, device, max_batch=max_batch, memory_bytes=memory_mib << 20)
    for request in build_requests(model, key or [], wanted):
        built = build(request, lambda line: say(line, err=True))
        what = f"built in {built.seconds:.1f} s" if built.fresh else "was there"
        say(f"{request.onnx.name}: {built.path}, {built.path.stat().st_size / 1e6:.1f} MB, {what}")


@cli.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="Write summary.json, matches.png and timeline.png here.")] = None,
    seconds: Seconds = 120.0,
    headless: Annotated[bool, typer.Option(help="Plain lines instead of a live table.")] = False,
    broker: Annotated[str | None, typer.Option(help="host:port of your own broker; not of the loop.")] = None,
    seed: Seed = 7,
    difficulty: Difficulty = 0.5,
    loop: Annotated[bool, typer.Option("--loop", help="Crops up, training without labels, a better model down.")] = (
        False
    ),
    learn: Annotated[
        float, typer.Option(min=1.0, help="With --loop: seconds of each of two sessions that make the crops.")
    ] = 1800.0,
) -> None:
    """Four simulated cameras, a broker, this application and an independent MQTT subscriber, scored at the end."""
    from edge_app.demo.play import Play

    play = Play("town", seed, difficulty, seconds, fidelity="frames")
    if loop:
        from edge_app.demo.loop import run_loop

        run_loop(play, learn, out, headless)
    else:
        from edge_app.demo.demo import run_demo

        run_demo(play, out, headless, broker)


@cli.command(add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def watch(arguments: typer.Context) -> None:
    """Print what a broker delivers of a site: `edge-app watch BROKER`, and `--help` for more."""
    from edge_app.demo.watch import main as watch_main

    sys.exit(watch_main(arguments.args, "edge-app watch"))


class OneLine(logging.Formatter):
    """Warnings of commands that configure no log, as `say` says everything else."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(
            map(one_line, super().format(record).splitlines() if record.exc_info else [record.getMessage()])
        )


def say(line: str, err: bool = False) -> None:
    """The one way to the terminal: paths, answers and names in it may come from anybody."""
    typer.echo(one_line(line), err=err)


def main() -> None:
    """Every error raised on purpose is one message and its exit code; anything else is a bug and shows its trace."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(OneLine())
    try:
        cli()
    except EdgeError as error:
        first, *others = error.lines
        for line in (f"edge-app: {first}", *others):
            say(line, err=True)
        sys.exit(error.exit_code)
    except ContractError as error:
        say(f"edge-app: {error}", err=True)
        sys.exit(65)


if __name__ == "__main__":
    main()
