"""An accepted model as a signed bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.adapt.rounds import Round
from trainer.adapt.settings import SiteSettings
from trainer.export import bundle as bundles
from trainer.export import run as export
from trainer.export.ladder import Confirm


def bundle(
    settings: SiteSettings,
    one: Round,
    files: tuple[Path, Path, Path],
    cache: Path,
    say: Callable[[str], None],
    *,
    confirm: Confirm,
) -> dict[str, Any]:
    """Export the model (`files`: model, table of its crops, bundle to write), and say what became of it. `confirm` is
    what a smaller network must pass besides the export's own gate. The serial is the round's time, so that the same
    round gives the same serial. Raises `DataError` when no precision passes."""
    model, table, path = files
    key = settings.key or settings.folder / "signing-key.pem"
    signer = bundles.signing_key(key)
    exported = export.export(export.Request(model, table, "table", cache, settings.precision, confirm=confirm), say)
    manifest = bundles.write(exported, path, f"{settings.site}-{one.number:06d}", signer, one.began_s)
    return {
        "bundle": path.name,
        "bytes": path.stat().st_size,
        "serial": manifest.serial,
        "precision": manifest.embedder.precision,
        "precision_reason": manifest.embedder.precision_reason,
        "threshold_shift": manifest.threshold_shift,
        "gates": [gate.model_dump() for gate in manifest.embedder.gates],
    }
