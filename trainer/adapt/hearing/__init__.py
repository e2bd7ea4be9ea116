"""Models before the gate: the pictures of held-out hours in, a verdict out."""
