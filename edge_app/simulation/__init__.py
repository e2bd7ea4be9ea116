"""A synthetic site with ground truth: roads, vehicles, cameras; as pictures, as detections, or as tracklets."""
