"""One adaptation, stage by stage, from crops to a bundle."""
