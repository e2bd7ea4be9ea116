"""Makes the demo's two models from the simulated site: `python deploy/demo_models.py all --out configs/models`.

Needs the extra `detector` (torch, ultralytics, onnx) and opencv, and about three quarters of an hour on two cores. The
results are committed under configs/models, so nobody has to run this to see the demo.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["detector", "embedder", "generic", "all"])
    parser.add_argument("--out", type=Path, default=Path("configs/models"))
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "crosslane-demo-models")
    parser.add_argument("--detector-epochs", type=int, default=8)
    parser.add_argument("--detector-first", type=Path, help="weights of the detector's first phase, to skip it")
    parser.add_argument("--embedder-steps", type=int, default=1800)
    parser.add_argument("--generic-steps", type=int, default=1300)
    parser.add_argument("--detector-weights", type=Path, help="export these Ultralytics weights instead of training")
    parser.add_argument("--check-only", action="store_true", help="measure the models that are there")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.model in ("detector", "all"):
        from demo_detector import check_detector, export_detector, train_detector

        path = options.out / "demo_detector.onnx"
        if options.detector_weights:
            export_detector(options.detector_weights, options.out)
        elif not options.check_only:
            train_detector(options.out, options.work / "detector", options.detector_epochs, options.detector_first)
        print("detector", json.dumps(check_detector(path)), flush=True)
    if options.model in ("embedder", "all"):
        from demo_embedder import train_embedder
        from demo_embedder_check import check_embedder

        path = options.out / "demo_embedder.onnx"
        if not options.check_only:
            train_embedder(options.out, options.embedder_steps)
        print("embedder", json.dumps(check_embedder(path)), flush=True)
    if options.model in ("generic", "all"):
        from demo_embedder_check import check_embedder
        from generic_embedder import train_generic

        path = options.out / "generic_embedder.onnx"
        if not options.check_only:
            train_generic(options.out, options.generic_steps)
        print("generic", json.dumps(check_embedder(path)), flush=True)


if __name__ == "__main__":
    main()
