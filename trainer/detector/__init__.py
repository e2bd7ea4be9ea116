"""Detectors: the frames they are judged on, their boxes, and the optional training with Ultralytics."""
