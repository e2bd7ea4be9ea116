"""Measure a model on the test part of a data set: pictures in, a report out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edge_app.contract.preprocess import InputSpec
from trainer.data.cache import cached
from trainer.data.images import said_of
from trainer.data.records import Crops, FixedTest, Labelled, RandomTest
from trainer.errors import DataError
from trainer.evaluate import EvaluationSettings, Report, evaluate_fixed, evaluate_random
from trainer.extract import ExtractSettings, features_of
from trainer.parallel import Processes

Floats = NDArray[np.float32]
Embed = Callable[[Crops], tuple[Floats, NDArray[np.int64]]]  # unit rows (n, D), and the rows (n,) of the readable crops


def with_network(
    network: nn.Module,
    spec: InputSpec,
    settings: ExtractSettings,
    cache: Path,
    processes: Processes,
    *,
    bad_limit: float = 0.01,
    say: Callable[[str], None] = lambda line: None,
) -> Embed:
    """An embedding of crops by a network on this process's device. `say` is told which crops are left out."""
    alone = Processes(0, 1, processes.device)

    def embed(crops: Crops) -> tuple[Floats, NDArray[np.int64]]:
        pictures = cached(crops, spec, cache.expanduser(), bad_limit)
        for line in said_of(pictures.bad):
            say(line)
        return features_of(network, pictures.pixels, spec, settings, alone), pictures.kept

    return embed


def measure(embed: Embed, test: FixedTest | RandomTest | None, settings: EvaluationSettings, seed: int = 0) -> Report:
    """The scores by the protocol of the data set. Unreadable crops are left out. `DataError` without a test part."""
    if test is None:
        raise DataError("the data set has no test part: expected query and gallery pictures with identities")
    if isinstance(test, RandomTest):
        features, crops = _embed(embed, test.crops)
        return evaluate_random(features, crops.truth, settings, np.random.default_rng(seed))
    (query_features, query), (gallery_features, gallery) = (_embed(embed, part) for part in (test.query, test.gallery))
    return evaluate_fixed(query_features, gallery_features, query.truth, gallery.truth, settings)


def _embed(embed: Embed, part: Labelled) -> tuple[Floats, Labelled]:
    features, kept = embed(part.crops)
    return features, part.take(kept)
