"""THE loop: label the crops → for every batch: forward, losses, step, move the memories → keep a checkpoint. All
papers run in it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer import optimiser as optimisers
from trainer import parallel
from trainer.config import TrainSettings
from trainer.data.batch import Batch, Epoch
from trainer.data.loader import Loader, step_seed
from trainer.errors import TrainerError
from trainer.methods.base import Extract, Method
from trainer.models.average import Average
from trainer.parallel import Processes
from trainer.runlog import RunLog
from trainer.screen import Screen

LOG_STEPS = 20


@dataclass(slots=True)
class Place:
    """Where the run stands. All chance is drawn from (seed, epoch, step)."""

    epoch: int = 0
    step: int = 0  # steps of this epoch that are done
    steps: int = 0  # steps of the run that are done
    plan: Epoch | None = None  # of an epoch under way


@dataclass(frozen=True, slots=True)
class Run:
    """The parts of a run."""

    settings: TrainSettings
    method: Method[Any]
    loader: Loader
    optimiser: torch.optim.Optimizer
    average: Average[Any] | None
    extract: Extract
    processes: Processes
    log: RunLog
    save: Callable[[Place], None]  # a checkpoint
    labelled: Callable[[dict[str, float], int], None]  # a look at the facts of an epoch's labels
    after_epoch: Callable[[int], None]  # evaluation for the log, choice of the model
    screen: Screen


def train(run: Run, place: Place) -> None:
    """Train from `place` to the last epoch."""
    settings, method = run.settings, run.method
    network, embedder = method.trained(), method.embedder()
    while place.epoch < settings.epochs:
        if place.plan is None:
            place.plan = method.start_epoch(place.epoch, run.extract)
            run.log.write("epoch", place.steps, epoch=place.epoch, plan=digest(place.plan), **place.plan.facts)
            run.labelled(place.plan.facts, place.steps)
        network.train()
        total = len(place.plan.batches)
        with run.screen.show(f"epoch {place.epoch + 1}/{settings.epochs}", total - place.step) as advance:
            for batch in run.loader.batches(place.epoch, place.plan, place.step):
                torch.manual_seed(step_seed(settings.seed, place.epoch, place.step))  # for dropout in the network
                rate = set_rate(run, place.epoch + place.step / total)
                run.optimiser.zero_grad(set_to_none=True)
                outs, terms = [], []
                for piece in pieces(batch, settings.accumulate):
                    out = method.forward(piece)
                    losses = method.losses(out, piece)
                    (torch.stack([*losses.values()]).sum() / settings.accumulate).backward()
                    outs.append(out)
                    terms.append(losses)
                parallel.sum_gradients(network.parameters())
                run.optimiser.step()
                parallel.from_first(network.buffers())
                method.after_step(joined(outs), batch)
                if run.average is not None:
                    run.average.update(embedder, place.steps)
                place.step, place.steps = place.step + 1, place.steps + 1
                if place.steps % LOG_STEPS == 0:
                    run.log.write("step", place.steps, rate=rate, waited_s=run.loader.waited_s, **checked(terms, place))
                if settings.checkpoint_steps and place.steps % settings.checkpoint_steps == 0 and place.step < total:
                    run.save(place)
                advance(1)
        run.screen.epoch(place.epoch + 1, settings.epochs, checked(terms, place), place.plan.facts)
        place.epoch, place.step, place.plan = place.epoch + 1, 0, None
        run.after_epoch(place.epoch)
        run.save(place)


def digest(plan: Epoch) -> str:
    """16 hexadecimal digits for the log: two runs with equal ones train on the same labels in the same order."""
    return hashlib.sha256(plan.labels.tobytes() + plan.batches.tobytes()).hexdigest()[:16]


def set_rate(run: Run, epoch: float) -> float:
    """Set the learning rate of this place; returns it."""
    rate = optimisers.rate_at(run.settings.optimiser, epoch, run.settings.epochs)
    for group in run.optimiser.param_groups:
        group["lr"] = rate
    return rate


def pieces(batch: Batch, count: int) -> Iterator[Batch]:
    """The batch in `count` consecutive pieces, as the loader has laid out the pictures."""
    if count == 1:
        yield batch
        return
    parts = (part.chunk(count) for part in (batch.index, batch.camera, batch.label, *batch.views))
    for index, camera, label, *views in zip(*parts, strict=True):
        yield Batch(index, camera, label, tuple(views))


def joined(outs: list[Any]) -> Any:
    """The outs of all pieces, rows in batch order."""
    if len(outs) == 1:
        return outs[0]
    return type(outs[0])(*(torch.cat(parts) for parts in zip(*outs, strict=True)))


def checked(terms: list[dict[str, Tensor]], place: Place) -> dict[str, float]:
    """The mean of each loss over the pieces as numbers; `TrainerError` when one is not finite."""
    losses = {name: sum(float(piece[name].detach()) for piece in terms) / len(terms) for name in terms[0]}
    bad = [name for name, value in losses.items() if not math.isfinite(value)]
    if bad:
        raise TrainerError(
            f"loss {bad[0]} is {losses[bad[0]]} after {place.steps} steps: lower optimiser.rate, or raise "
            "method.temperature; the last checkpoint is from before"
        )
    return losses
