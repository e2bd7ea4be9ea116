"""ONNX files: what is read from them, done to their nodes and weights, and computed with them."""
