"""`trainer adapt` and `trainer forget`: the commands that work for a site."""

from __future__ import annotations

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
    from trainer.adapt import command, settings

    chosen = settings.load_all(sites)
    if dry_run:
        failed = command.rehearse(chosen, typer.echo)
    else:
        failed = (command.watch if watch else command.once)(chosen, typer.echo)
    if failed:
        raise typer.Exit(WorldError.exit_code)


@app.command()
def forget(
    site: Annotated[Path, typer.Argument(metavar="SITE.yaml", help="The site, see configs/adapt.")],
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
    from trainer.adapt.forget import forget as forget_what

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
