"""`trainer adapt` and `trainer gate` on the command line; `trainer.cli` puts them among its commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from trainer.errors import WorldError


def adapt(
    sites: Annotated[list[Path], typer.Argument(metavar="SITE.yaml...", help="Sites, see configs/adapt.")],
    watch: Annotated[bool, typer.Option("--watch/--once", help="Go on for ever, or adapt once and end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ingest, and say what would be done.")] = False,
) -> None:
    """Take in a site's crops, train its model on them without labels, judge the result, and make a bundle of it.

    Any number of processes may watch the same sites, on any machine: each takes the next one that is free.
    """
    from trainer.adapt import command, settings

    chosen = settings.load_all(sites)
    if dry_run:
        failed = command.rehearse(chosen, typer.echo)
    else:
        failed = (command.watch if watch else command.once)(chosen, typer.echo)
    if failed:
        raise typer.Exit(WorldError.exit_code)


def gate(
    old: Annotated[Path, typer.Argument(help="Model in force: model.pt, or an ONNX file.")],
    new: Annotated[Path, typer.Argument(help="Model that is to follow it.")],
    site: Annotated[Path, typer.Option(help="SITE.yaml, see configs/adapt; its crops have been taken in.")],
    bounds: Annotated[Optional[Path], typer.Option("--gate", help="Other bounds, see configs/adapt/gate.yaml.")] = None,  # noqa: UP045
    json_file: Annotated[Optional[Path], typer.Option("--json", help="Also write the verdict here.")] = None,  # noqa: UP045
) -> None:
    """Judge two models by a site's held-out hours, without labels, as `adapt` does; nothing of the site changes.

    The exit status is 0 where NEW is better, 1 where it is refused, and 3 where there is too little to judge it.
    """
    from trainer.adapt import by_hand, judge, settings

    verdict = by_hand.judge_two(settings.load(site), old, new, bounds, say=typer.echo)
    for line in by_hand.lines(verdict):
        typer.echo(line)
    if json_file is not None:
        json_file.write_text(json.dumps(judge.facts(verdict), indent=2) + "\n", encoding="utf-8")
    if verdict.decision != "publish":
        raise typer.Exit(by_hand.STATUS[verdict.decision])
