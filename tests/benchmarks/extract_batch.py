"""Seconds of extraction by crops per forward pass: `python tests/benchmarks/extract_batch.py MODEL`.

MODEL: model.pt of a run, or an ONNX file. Random pictures, which cost what others cost. On a processor its own seconds,
not those of the wall, so that a busy machine does not decide; `extract.PIECE_ON_CPU`, which this measurement has set,
is out of force. Each size runs `--repeat` times in turn, the least counts.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from trainer import extract
from trainer.commands import load_network
from trainer.extract import ExtractSettings, features_of
from trainer.parallel import join

SIZES = (32, 64, 128, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--crops", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    extract.PIECE_ON_CPU = max(SIZES)
    processes = join(options.device)
    network, spec = load_network(options.model)
    network.to(processes.device)
    shape = (options.crops, spec.height_px, spec.width_px, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    seconds: dict[int, list[float]] = {size: [] for size in SIZES}
    now = time.process_time if options.device == "cpu" else time.perf_counter
    for _ in range(options.repeat):
        for size in SIZES:
            begin = now()
            features_of(network, pixels, spec, ExtractSettings(batch=size), processes)
            seconds[size].append(now() - begin)
    # milliseconds per crop
    print(json.dumps({str(size): round(1000 * min(taken) / options.crops, 2) for size, taken in seconds.items()}))


if __name__ == "__main__":
    main()
