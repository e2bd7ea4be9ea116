"""`trainer adapt`, `trainer gate` and `trainer forget`: the commands that work for a site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from trainer.errors import ConfigurationError, WorldError

app = typer.Typer()


@app.command()
def adapt(
    sites: Annotated[list[Path], typer.Argument(metavar="SITE.yaml...", help="Sites, see configs/adapt.")],
    watch: Annotated[bool, typer.Option("--watch/--once", help="Go on for ever, or adapt once and end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ingest, and say what would be done.")] = False,
) -> None:
    """Take in a site's crops, train its model on them without labels, judge the result, and make a bundle of it.

    Every round leaves a page for the site's owner, rounds/NUMBER/report/index.html in the site's folder. Any number of
    processes may watch the same sites, on any machine: each takes the next one that is free.
    """
    from trainer.adapt import settings
    from trainer.adapt.commands import command

    chosen = settings.load_all(sites)
    if dry_run:
        failed = command.rehearse(chosen, typer.echo)
    else:
        failed = (command.watch if watch else command.once)(chosen, typer.echo)
    if failed:
        raise typer.Exit(WorldError.exit_code)


@app.command()
def gate(
    old: Annotated[Path, typer.Argument(help="Model in force: model.pt, or an ONNX file.")],
    new: Annotated[Path, typer.Argument(help="Model that is to follow it.")],
    site: Annotated[Path, typer.Option(help="SITE.yaml, see configs/adapt; its crops have been taken in.")],
    bounds: Annotated[Path | None, typer.Option("--gate", help="Other bounds, see configs/adapt/gate.yaml.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the verdict here.")] = None,
) -> None:
    """Judge two models by a site's held-out hours, without labels, as `adapt` does; nothing of the site changes.

    The exit status is 0 where NEW is better, 1 where it is refused, and 3 where there is too little to judge it.
    """
    from trainer.adapt import settings
    from trainer.adapt.commands import by_hand
    from trainer.adapt.hearing import judge

    verdict = by_hand.judge_two(settings.load(site), old, new, bounds, say=typer.echo)
    for line in by_hand.lines(verdict):
        typer.echo(line)
    if json_file is not None:
        json_file.write_text(json.dumps(judge.facts(verdict), indent=2) + "\n", encoding="utf-8")
    if verdict.decision != "publish":
        raise typer.Exit(by_hand.STATUS[verdict.decision])


@app.command()
def forget(
    site: Annotated[Path, typer.Argument(metavar="SITE.yaml", help="The site, see configs/adapt.")],
    *,
    identity: Annotated[
        str | None, typer.Option(help="The id of one of its passages (its track); those it was matched with go too.")
    ] = None,
    camera: Annotated[str | None, typer.Option(help="What this camera saw.")] = None,
    since: Annotated[str | None, typer.Option(help="What was seen from then on: 2026-01-31T12:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="What was seen until then.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Erase nothing; the receipt says what would be.")] = False,
) -> None:
    """Erase what the trainer and the site's store have of an identity, a camera or a time; prints a receipt.

    The receipt is JSON on the standard output, and the same in words on the other. Killed at any point, run it again.
    What comes late, or twice, or lies on another workstation, is erased when it is met.
    """
    import time

    from edge_app.contract.errors import SelectionError
    from edge_app.contract.forgetting import selection_of
    from trainer.adapt import settings
    from trainer.adapt.commands.forget import forget as forget_what

    def say(line: str) -> None:
        typer.echo(line, err=True)

    try:
        selection = selection_of(identity, camera, since, until)
    except SelectionError as error:
        raise ConfigurationError(error.problems, "trainer forget") from None
    receipt = forget_what(settings.load(site), selection, time.time(), say, dry_run=dry_run)
    for line in receipt.lines():
        say(line)
    typer.echo(receipt.json())
