"""Several processes as one: everybody sees all features and labels of a batch, so one and several give the same update.

Every process runs its consecutive share of the pictures through the network and gathers the features of all. The loss
is computed on the whole batch everywhere; its gradient reaches only the own share of the network, so the gradients of
the processes *add up* to the gradient of the whole batch. Memories are moved everywhere by the same features, in
batch order.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from trainer.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among `count`."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """The one that writes files and talks."""
        return self.rank == 0

    def rows(self, batch: int, pieces: int = 1, group: int = 1) -> Tensor:
        """Numbers (batch / count,) int64 of this process's rows: its consecutive share of each piece of the batch."""
        self.need_even_shares(batch, pieces, group)
        return torch.arange(batch).view(pieces, self.count, -1)[:, self.rank].reshape(-1)

    def need_even_shares(self, batch: int, pieces: int, group: int) -> None:
        """`ConfigurationError` where a batch cannot be shared out, or where shares cut through the groups of `group`
        rows that batch norm normalises together: the result would depend on the number of processes and pieces."""
        shares, named = self.count * pieces, f"{self.count} processes in {pieces} pieces"
        if batch % shares:
            raise ConfigurationError([f"a batch of {batch} crops cannot be shared by {named}: choose a multiple"])
        share = batch // shares
        if shares > 1 and share % group:
            raise ConfigurationError(
                [
                    f"a batch of {batch} crops shared by {named} is cut every {share} crops, through the groups of "
                    f"{group} that are normalised together: make the batch a multiple of {shares * group}, or set "
                    f"model.ghost_group to a divisor of {share}, for one process as well"
                ]
            )


ALONE = Processes(0, 1, torch.device("cpu"))


def join(device: str = "auto") -> Processes:
    """Join the processes that torchrun started (environment RANK, WORLD_SIZE, LOCAL_RANK), or stay alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if kind == "cuda":
        torch.cuda.set_device(local)
    chosen = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    if count == 1:
        return Processes(0, 1, chosen)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    return Processes(distributed.get_rank(), count, chosen)


def leave() -> None:
    """Part in order; does nothing when alone."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


class _Gather(torch.autograd.Function):
    """All processes' rows, in order; backward keeps the own rows of the gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows.contiguous())
        ctx.size = len(rows)  # type: ignore[attr-defined]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        begin = distributed.get_rank() * ctx.size  # type: ignore[attr-defined]
        return gradient[begin : begin + ctx.size]  # type: ignore[attr-defined]


def gather(rows: Tensor) -> Tensor:
    """(b, …) of every process → (B, …), in the order of the batch; the same tensor when alone."""
    return _Gather.apply(rows) if distributed.is_initialized() else rows


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add the gradients of all processes; a parameter without gradient stays without."""
    if not distributed.is_initialized():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def from_first(tensors: Iterable[Tensor]) -> None:
    """Everybody takes the first process's values, such as running statistics, which follow the first ghost group."""
    if not distributed.is_initialized():
        return
    parts = [tensor for tensor in tensors if tensor.is_floating_point()]  # counters are the same everywhere
    flat = torch.cat([part.reshape(-1) for part in parts])
    distributed.broadcast(flat, 0)
    for part, new in zip(parts, flat.split([part.numel() for part in parts]), strict=True):
        part.copy_(new.view_as(part))
