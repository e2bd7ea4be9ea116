"""Unlabelled crops → cluster labels: exact, sparse, scalable."""
