"""A run that is taken up where its last checkpoint stands."""

from __future__ import annotations

from pathlib import Path

from trainer import checkpoint, config
from trainer.checkpoint import Checkpoint
from trainer.config import TrainSettings
from trainer.errors import ConfigurationError
from trainer.keeping import MODEL, Keeper
from trainer.train import Place, Run

CHECKPOINT = "last.ckpt"


def before(settings: TrainSettings, folder: Path, resume: bool) -> Checkpoint | None:
    """The checkpoint to go on from; `ConfigurationError` when the folder or the settings do not allow it."""
    path = folder / CHECKPOINT
    if not resume:
        if path.exists() or (folder / MODEL).exists():
            problem = f"{folder} holds a run: go on with --resume, or choose another --out"
            raise ConfigurationError([problem], "command line")
        return None
    if not path.exists():
        return None
    found = checkpoint.load(path)
    here = Path.cwd()  # version 0.1 wrote relative paths into checkpoints
    old, new = (config.parse(values, str(path), here) for values in (found.settings, settings.model_dump(mode="json")))
    changed = config.differences(old, new)
    if changed:
        raise ConfigurationError([*changed, "a run goes on with the settings it began with"], f"{path} --resume")
    return found


def take_up(run: Run, found: Checkpoint) -> Place:
    """Put the networks, the optimiser and the memories back; returns where the run stands."""
    run.method.trained().load_state_dict(found.network)
    run.optimiser.load_state_dict(found.optimiser)
    if run.average is not None and found.average is not None:
        run.average.network.load_state_dict(found.average)
    run.method.load_state(found.method)
    return Place(found.epoch, found.step, found.steps, found.plan)


def state_of(run: Run, place: Place, keeper: Keeper) -> Checkpoint:
    """The run between two steps."""
    return Checkpoint(
        settings=run.settings.model_dump(mode="json"),
        commit=keeper.commit,
        network=run.method.trained().state_dict(),
        optimiser=run.optimiser.state_dict(),
        average=None if run.average is None else run.average.network.state_dict(),
        method=run.method.state(),
        epoch=place.epoch,
        step=place.step,
        steps=place.steps,
        plan=place.plan,
        best=keeper.best,
        start=None if keeper.start is None else keeper.start.as_dict(),
    )
