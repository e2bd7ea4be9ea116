"""A network of two layers as an ONNX file, with all that makes reading one hard."""

from pathlib import Path

import numpy as np
import onnx


def small_onnx(path: Path) -> Path:
    """Two convolutions with folded batch norm, a gate with shared weights, a global pooling and a class layer."""
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    weights = {
        "w1": generator.standard_normal((8, 3, 3, 3)) / 5,
        "b1": generator.standard_normal(8),
        "g": generator.standard_normal((8, 8, 1, 1)),
        "gb": generator.standard_normal(8),
        "w2": generator.standard_normal((6, 8, 1, 1)) / 3,
        "b2": generator.standard_normal(6),
        "fc": generator.standard_normal((4, 6)),
        "fcb": generator.standard_normal(4),
    }
    make = helper.make_node
    nodes = [
        make(
            "Conv",
            ["image", "w1", "b1"],
            ["c1"],
            name="/stem/conv.0",
            pads=[1, 1, 1, 1],
            strides=[2, 2],
            kernel_shape=[3, 3],
        ),
        make("Relu", ["c1"], ["r1"]),
        make("GlobalAveragePool", ["r1"], ["p1"]),
        make("Conv", ["p1", "g", "gb"], ["g1"], kernel_shape=[1, 1]),
        make("Sigmoid", ["g1"], ["s1"]),
        make("Mul", ["r1", "s1"], ["m1"]),
        make("Conv", ["m1", "w2", "b2"], ["map"], name="/last/conv", kernel_shape=[1, 1]),
        make("GlobalAveragePool", ["map"], ["p2"]),
        make("Shape", ["p2"], ["shape"]),
        make("Reshape", ["p2", "flat"], ["rows"]),
        make("Gemm", ["rows", "fc", "fcb"], ["classes"], transB=1),
    ]
    initialisers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    initialisers.append(numpy_helper.from_array(np.array([-1, 6], np.int64), "flat"))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 8])
    output = helper.make_tensor_value_info("classes", TensorProto.FLOAT, ["batch", 4])
    model = helper.make_model(helper.make_graph(nodes, "g", [image], [output], initialisers),
                              opset_imports=[helper.make_opsetid("", 13)], ir_version=8)  # fmt: skip
    onnx.save(model, str(path))
    return path
