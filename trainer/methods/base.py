"""The few questions that `train.py` and `run.py` ask a paper. No behaviour here."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.data.batch import Batch, Epoch
from trainer.data.records import Crops
from trainer.data.transforms import AS_THEY_ARE, Transform
from trainer.labels import LabelSettings
from trainer.models.embedder import Embedder

Out = TypeVar("Out", bound=tuple[Tensor, ...])  # a NamedTuple; every tensor has one row per crop of the batch


class Extract(Protocol):
    """The network in evaluation mode over all training crops."""

    def __call__(self, view: Transform = AS_THEY_ARE, seed: int = 0) -> NDArray[np.float32]:
        """Unit rows (N, D) float32 of the crops as `view` shows them with the chances of `seed`."""


class MethodSettings(Protocol):
    """What a run asks of a method's settings, which are a frozen pydantic model with a `name` of its own."""

    @property
    def name(self) -> str:
        """The method, as in `trainer.methods.table`."""

    @property
    def labels(self) -> LabelSettings:
        """How the crops are clustered, where the run chooses between networks and for its report."""

    @property
    def batch(self) -> int:
        """Crops per step."""

    @property
    def whole_batches(self) -> str | None:
        """None where the loss of a batch is the mean of the losses of its pieces, as `accumulate` needs; otherwise
        the setting that is in the way, and what to set instead."""


class Method(Protocol[Out]):
    """One paper."""

    def views(self) -> tuple[Transform, ...]:
        """The augmentations; one tensor each in `Batch.views`."""

    def start_epoch(self, epoch: int, extract: Extract) -> Epoch:
        """Label the crops, (re)build the memories, plan the batches. `DataError` when nothing can be learned from the
        labels."""

    def forward(self, batch: Batch) -> Out:
        """The only call that runs the network. The rows of all processes, in batch order."""

    def losses(self, out: Out, batch: Batch) -> dict[str, Tensor]:
        """The paper's terms by their names, scalars; `train.py` sums them. Each is a mean over the rows of the
        batch."""

    def after_step(self, out: Out, batch: Batch) -> None:
        """Move the memories, after the optimiser's step, once per step."""

    def embedder(self) -> Embedder:
        """What is evaluated and exported."""

    def trained(self) -> nn.Module:
        """Everything the optimiser moves: the embedder, with the heads that only training needs."""

    def state(self) -> dict[str, Any]:
        """The memories, for a checkpoint inside an epoch: tensors and numbers only."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Take the memories back."""


class MethodClass(Protocol):
    """How a method begins. `DataError` when it cannot train on such crops."""

    def __call__(self, network: Embedder, crops: Crops, settings: Any, seed: int, /) -> Method[Any]: ...
