"""Features of many crops: the network in evaluation mode over cached pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, distributed, nn
from torch.nn.functional import normalize

from edge_app.contract.preprocess import InputSpec
from trainer.data.transforms import AS_THEY_ARE, Transform
from trainer.parallel import Processes
from trainer.settings import Settings

# Crops per forward pass on a processor. Larger intermediate results are given back to the system after every layer and
# taken anew, page by page: 256 crops at a time cost 1.9 times the seconds of 32 (tests/benchmarks/extract_batch.py).
PIECE_ON_CPU = 32


class ExtractSettings(Settings):
    """How features are computed."""

    batch: int = Field(default=256, ge=1)
    """Crops that a process takes at a time; a processor passes them through the network in pieces of 32."""
    flip: bool = False
    """Mean of each crop and its mirror image."""


@torch.no_grad()
def features_of(
    network: nn.Module,
    pixels: NDArray[np.uint8],
    spec: InputSpec,
    settings: ExtractSettings,
    processes: Processes,
    *,
    view: Transform = AS_THEY_ARE,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> NDArray[np.float32]:
    """Unit rows (N, D) float32 of pictures (N, H, W, 3) uint8, as `view` shows them with the chances of `seed`.

    Processes take turns by whole batches, so the rows do not depend on how many there are; every process gets all.
    """
    draws = view.draw(len(pixels), (spec.height_px, spec.width_px), torch.Generator().manual_seed(seed))
    was_training = network.training
    network.eval()
    firsts = range(0, len(pixels), settings.batch)
    piece = min(settings.batch, PIECE_ON_CPU) if processes.device.type == "cpu" else settings.batch
    blocks: list[Tensor] = []
    for number, first in enumerate(firsts):
        if number % processes.count == processes.rank:
            rows = []
            last = min(first + settings.batch, len(pixels))
            for begin in range(first, last, piece):
                part = torch.from_numpy(np.array(pixels[begin : min(begin + piece, last)])).to(processes.device)
                images = view.apply(part, draws.part(torch.arange(begin, begin + len(part))), spec)
                rows.append(_embed(network, images, settings.flip))
                progress(len(part))
            blocks.append(torch.cat(rows))
    network.train(was_training)
    if processes.count > 1:
        blocks = _exchange(blocks, firsts, len(pixels), processes)
    return torch.cat(blocks).cpu().numpy()


def _embed(network: nn.Module, images: Tensor, flip: bool) -> Tensor:
    rows = network(images)
    return normalize(rows + network(images.flip(3)), dim=1) if flip else rows


def _exchange(own: list[Tensor], firsts: range, count: int, processes: Processes) -> list[Tensor]:
    """The blocks of all processes in order: each is sent by the process that computed it."""
    width = torch.tensor([own[0].shape[1] if own else 0], device=processes.device)
    distributed.all_reduce(width, distributed.ReduceOp.MAX)
    blocks = []
    for number, first in enumerate(firsts):
        sender = number % processes.count
        if sender == processes.rank:
            block = own[number // processes.count].contiguous()
        else:
            rows = min(firsts.step, count - first)
            block = torch.empty(rows, int(width), device=processes.device)
        distributed.broadcast(block, sender)
        blocks.append(block)
    return blocks
