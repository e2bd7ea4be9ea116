"""From a checkpoint to a signed bundle: ONNX, INT8 with explicit Q/DQ nodes, the gate, and what ships in the end."""
