"""Under which terms a trained network stands: what its makers say of the starting weights and of the crops."""

from __future__ import annotations

from edge_app.contract.errors import ContractError
from edge_app.contract.model import read_manifest
from trainer.models.embedder import ModelSettings

UNKNOWN = "unknown"


def licence_of(note: str, start: ModelSettings) -> str:
    """The note of the configuration; without one what the start says of itself, and that the rest is unknown."""
    return note or f"starting weights: {_of_start(start)}; crops: {UNKNOWN} (licence_note of the training run says it)"


def _of_start(start: ModelSettings) -> str:
    """The manifest beside the weights, or timm's entry of a network that it brings."""
    if start.weights is not None:
        try:
            manifest = read_manifest(start.weights)
        except ContractError:
            manifest = None
        return (manifest.licence_note if manifest else "") or f"{UNKNOWN}, {start.weights.name}"
    if start.pretrained:
        import timm

        described = timm.get_pretrained_cfg(start.backbone)
        return f"{getattr(described, 'license', None) or UNKNOWN}, {start.backbone} of timm"
    return "none, it began at random"
