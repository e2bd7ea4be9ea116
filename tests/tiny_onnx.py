"""Tiny ONNX models, made where they are needed."""

from pathlib import Path

import numpy as np


class TinyOnnx:
    """Writes ONNX files of one or two operations. Inputs are (batch, 3, height, width)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def constant(self, values: np.ndarray, size: tuple[int, int] = (32, 32), batch: int | str = "batch") -> Path:
        """Gives `values` (…) as (batch, …) whatever it sees."""
        from onnx import helper, numpy_helper

        ones = [1] * values.ndim
        nodes = [
            helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
            helper.make_node("Reshape", ["nothing", "shape"], ["column"]),
            helper.make_node("Add", ["column", "values"], ["output"]),
        ]
        constants = [
            numpy_helper.from_array(np.array([1, 2, 3]), "axes"),
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
            numpy_helper.from_array(np.array([-1, *ones]), "shape"),
            numpy_helper.from_array(values[None].astype(np.float32), "values"),
        ]
        return self._write("constant", nodes, constants, (batch, 3, *size), {"output": (batch, *values.shape)})

    def mean_colour(self, size: tuple[int, int] = (32, 32), batch: int | str = "batch") -> Path:
        """An embedder of three values: the mean of each input channel."""
        from onnx import helper, numpy_helper

        nodes = [helper.make_node("ReduceMean", ["images", "axes"], ["output"], keepdims=0)]
        axes = numpy_helper.from_array(np.array([2, 3]), "axes")
        return self._write("mean_colour", nodes, [axes], (batch, 3, *size), {"output": (batch, 3)})

    def without_batch(self, size: tuple[int, int] = (32, 32)) -> Path:
        """Mixes the pictures of a batch into one output row."""
        from onnx import helper, numpy_helper

        nodes = [helper.make_node("ReduceMean", ["images", "axes"], ["output"], keepdims=1)]
        axes = numpy_helper.from_array(np.array([0, 2, 3]), "axes")
        return self._write("without_batch", nodes, [axes], ("batch", 3, *size), {"output": (1, 3, 1, 1)})

    def endless(self, size: tuple[int, int] = (32, 32)) -> Path:
        """An embedder of three values, behind a loop whose condition never becomes false."""
        from onnx import TensorProto, helper, numpy_helper

        body = helper.make_graph(
            [helper.make_node("Identity", [one], [other]) for one, other in (("going", "on"), ("sum", "more"))],
            "body",
            [
                helper.make_tensor_value_info("round", TensorProto.INT64, []),
                helper.make_tensor_value_info("going", TensorProto.BOOL, []),
                helper.make_tensor_value_info("sum", TensorProto.FLOAT, None),
            ],
            [
                helper.make_tensor_value_info("on", TensorProto.BOOL, []),
                helper.make_tensor_value_info("more", TensorProto.FLOAT, None),
            ],
        )
        nodes = [
            helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0),
            helper.make_node("Loop", ["", "true", "mean"], ["output"], body=body),
        ]
        constants = [numpy_helper.from_array(np.array([2, 3]), "axes"), numpy_helper.from_array(np.array(True), "true")]
        return self._write("endless", nodes, constants, ("batch", 3, *size), {"output": ("batch", 3)})

    def hungry(self, gigabytes: int, size: tuple[int, int] = (32, 32)) -> Path:
        """An embedder of three values that fills so much memory on the way."""
        from onnx import helper, numpy_helper

        nodes = [
            helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0),
            helper.make_node("Shape", ["mean"], ["batch"], start=0, end=1),
            helper.make_node("Mul", ["batch", "many"], ["length"]),
            helper.make_node("ConstantOfShape", ["length"], ["heap"]),
            helper.make_node("ReduceMax", ["heap"], ["nothing"], keepdims=0),
            helper.make_node("Add", ["mean", "nothing"], ["output"]),
        ]
        many = numpy_helper.from_array(np.array([gigabytes << 28]), "many")  # of 4 bytes each
        axes = numpy_helper.from_array(np.array([2, 3]), "axes")
        return self._write("hungry", nodes, [axes, many], ("batch", 3, *size), {"output": ("batch", 3)})

    def two_outputs(self, size: tuple[int, int] = (32, 32)) -> Path:
        from onnx import helper

        nodes = [helper.make_node("Identity", ["images"], [name]) for name in ("first", "second")]
        shape = ("batch", 3, *size)
        return self._write("two_outputs", nodes, [], shape, {"first": shape, "second": shape})

    def two_inputs(self, size: tuple[int, int] = (32, 32)) -> Path:
        from onnx import helper

        nodes = [helper.make_node("Add", ["images", "more"], ["output"])]
        shape = ("batch", 3, *size)
        return self._write("two_inputs", nodes, [], shape, {"output": shape}, also=("more",))

    def _write(self, name, nodes, constants, shape, outputs, also=()) -> Path:
        import onnx
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info(each, TensorProto.FLOAT, shape) for each in ("images", *also)],
            [helper.make_tensor_value_info(each, TensorProto.FLOAT, size) for each, size in outputs.items()],
            constants,
        )
        path = self._folder / f"{name}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
        return path
