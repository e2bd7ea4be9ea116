"""Crops of a site: how they come in, what of them is trained on and judged by, and how they leave."""
