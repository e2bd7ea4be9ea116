"""Engines are built once, kept under what they depend on, and never taken for others. With TensorRT-RTX for real."""

import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_app.errors import ModelError, StoreError
from edge_app.runtime.build import (
    BuildRequest,
    build_engine,
    engine_key,
    engine_problem,
    find_tensorrt,
    in_range,
    local_device,
)

FAKE = """
import os, signal, sys, time
__version__ = {version!r}
class ComputeCapability:
    __members__ = {{"SM86": 0, "SM89": 1}}
class NetworkDefinitionCreationFlag: pass
class MemoryPoolType:
    WORKSPACE = 0
class ILogger:
    class Severity:
        ERROR, INTERNAL_ERROR = 1, 0
class Builder:
    def __init__(self, logger):
        {body}
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`fake(body, version)` puts a module `tensorrt_rtx` in front whose builder does `body`."""

    def make(body: str, version: str = "9.9") -> None:
        folder = tmp_path / f"fake-{len(list(tmp_path.glob('fake-*')))}"
        folder.mkdir()
        (folder / "tensorrt_rtx.py").write_text(FAKE.format(version=version, body=body))
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.delitem(sys.modules, "tensorrt_rtx", raising=False)

    yield make
    sys.modules.pop("tensorrt_rtx", None)


@pytest.fixture
def request_of(tiny_onnx, tmp_path: Path):
    def make(onnx: Path | None = None, **changes) -> BuildRequest:
        return BuildRequest(onnx or tiny_onnx.mean_colour(), tmp_path / "engines", **{"device": "sm86", **changes})

    return make


@pytest.fixture
def rtx():
    return pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed (extra dev)")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed, most likely for memory"),
        (
            "print('oops', flush=True); os.kill(os.getpid(), signal.SIGSEGV)",
            r"crashed \(SIGSEGV\); its last words: oops",
        ),
        ("sys.exit(3)", "ended with code 3"),
        ("raise RuntimeError('no idea')", "the builder failed: RuntimeError: no idea"),
        ("print('[1]', '{}'); print('{\"error\": \"not this way\"}')", "not this way"),
        ("time.sleep(60)", "was stopped after 1 s"),
    ],
)
def test_a_builder_that_dies_takes_nobody_along(fake, request_of, body, said) -> None:
    fake(body)
    request = request_of(timeout_s=1.0 if "sleep" in body else 60.0)
    with pytest.raises(ModelError, match=said):
        build_engine(request)
    assert [path.name for path in request.folder.iterdir()] == [".lock"], "nothing half made is left"


def test_missing_modules_and_devices_say_what_to_do(fake, request_of) -> None:
    if local_device() is None:
        with pytest.raises(ModelError, match=r"no NVIDIA GPU was found here; .*--for sm86"):
            engine_key(request_of(device=None))
    fake("pass")
    with pytest.raises(ModelError, match=r"tensorrt_rtx 9\.9 cannot build for sm87; it can for sm86, sm89"):
        find_tensorrt("sm87", None)
    assert find_tensorrt(None, "sm89").__name__ in ("tensorrt", "tensorrt_rtx")
    with pytest.raises(ModelError, match=r"none\.onnx does not exist"):
        build_engine(request_of(Path("none.onnx")))


@pytest.mark.parametrize(
    ("version", "expected"),
    [("8.6.2", False), ("10.0", True), ("10.3.0.26", True), ("11.2.1", True), ("12.0.0.dev1", False), ("9.99", False)],
)
def test_versions_are_compared_as_numbers(version, expected) -> None:
    assert in_range(version, "10.0", "12.0") is expected


def test_without_tensorrt_it_says_how_to_get_it(fake, request_of, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)  # as an import that fails
    with pytest.raises(ModelError, match=r"needs the Python module tensorrt_rtx: .*JetPack.*pip install"):
        build_engine(request_of())


def test_a_folder_that_cannot_be_written(fake, request_of, tmp_path) -> None:
    fake("pass")
    (tmp_path / "engines").write_text("not a folder")
    with pytest.raises(StoreError, match="engines cannot be kept"):
        build_engine(request_of())


def test_an_engine_is_built_once_and_again_when_anything_changed(rtx, request_of, tiny_onnx) -> None:
    said: list[str] = []
    first = build_engine(request_of(), said.append)
    assert first.fresh
    assert any(line.startswith("Building engine: ") for line in said)
    assert first.path.stat().st_size > 1000
    assert first.path.name.endswith(f"-as-exported-b16-sm86-tensorrt_rtx-{rtx.__version__}.engine")
    said.clear()
    again = build_engine(request_of(), said.append)
    assert (again.path, again.fresh, said) == (first.path, False, [])
    for changes in ({"device": "sm89"}, {"max_batch": 4}, {"precision": "int8"}, {"onnx": tiny_onnx.two_outputs()}):
        other = build_engine(request_of(**changes))
        assert other.fresh
        assert other.path != first.path
    assert build_engine(request_of()).fresh is False


def test_damage_and_upgrades_mean_building_again(rtx, request_of) -> None:
    first = build_engine(request_of())
    beside = first.path.with_suffix(".json")
    for damage, said in (
        (lambda: first.path.write_bytes(first.path.read_bytes()[:-1]), "it is damaged"),
        (first.path.unlink, "it is damaged"),
        (beside.unlink, "nothing says what it was built from"),
        (lambda: beside.write_text("{"), "its description is damaged"),
    ):
        damage()
        assert said in str(engine_problem(first.path, first.key))
        assert build_engine(request_of()).fresh
        assert engine_problem(first.path, first.key) is None
    older = replace(first.key, version="1.0.0")
    assert engine_problem(first.path, older) == f"it was built for version {rtx.__version__}, needed is 1.0.0"
    for path in (first.path, beside):  # as if the upgrade had just happened
        path.rename(path.with_name(path.name.replace(rtx.__version__, "1.0.0")))
    rebuilt = build_engine(request_of())
    assert rebuilt.fresh
    assert sorted(path.suffix for path in rebuilt.path.parent.iterdir() if path.suffix) == [".engine", ".json"]


def test_what_the_parser_refuses_is_said_in_plain_words(rtx, request_of, tmp_path, tiny_onnx) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"\x08\x07" + b"garbage" * 50)
    wrong = {
        "this is no ONNX file": tmp_path / "junk.onnx",
        "does not know the operator Det, node 'the-node'": one_node(tmp_path / "det.onnx", "Det"),
        "does not know the operator Evil": one_node(tmp_path / "evil.onnx", "Evil", "com.evil"),
        "expected a model with one input, .*images, more": tiny_onnx.two_inputs(),
        "only the batch may have a free size": tiny_onnx.mean_colour(size=("height", "width")),
    }
    for said, path in wrong.items():
        with pytest.raises(ModelError, match=said) as caught:
            build_engine(request_of(path))
        assert str(path) in str(caught.value)


def test_a_fixed_batch_needs_no_profile(rtx, request_of, tiny_onnx) -> None:
    assert build_engine(request_of(tiny_onnx.mean_colour(batch=4))).fresh


def test_int8_engines_are_small(rtx, request_of, tmp_path) -> None:
    """Explicit Q/DQ nodes, nothing else: the weights arrive in the engine as INT8."""
    sizes = {}
    for quantized in (False, True):
        path = convolutions(tmp_path / f"{quantized}.onnx", quantized)
        sizes[quantized] = build_engine(request_of(path)).path.stat().st_size
    assert sizes[True] < 0.4 * sizes[False]


def test_two_builders_of_one_engine_wait_for_each_other(rtx, request_of) -> None:
    request = request_of()
    code = textwrap.dedent(f"""
        from pathlib import Path
        from edge_app.runtime.build import BuildRequest, build_engine
        built = build_engine(BuildRequest(Path({str(request.onnx)!r}), Path({str(request.folder)!r}), "sm86"))
        print(built.fresh)
    """)
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(child.communicate(timeout=120)[0] for child in both) == ["False\n", "True\n"]


def test_the_command_builds_what_is_in_a_bundle(rtx, tiny_onnx, tmp_path) -> None:
    import tiny_bundle
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    car = tiny_onnx.constant(np.array([[8, 12, 24, 24, 0.9, 0]], np.float32))
    bundle, public = tmp_path / "site.bundle", tmp_path / "site.pub"
    tiny_bundle.write(bundle, tiny_onnx.mean_colour(), car)
    public.write_bytes(tiny_bundle.KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    command = [sys.executable, "-m", "edge_app", "build-engine", bundle, "--for", "sm86", "--out", tmp_path / "engines"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (refused.returncode, "public key" in refused.stderr) == (65, True), refused.stderr
    done = subprocess.run([*command, "--key", public], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["embedder.onnx", "detector.onnx"]
    names = sorted(path.name for path in (tmp_path / "engines").glob("*.engine"))
    assert ["-int8-" in name for name in names].count(True) == 1
    keys = [
        json.loads(path.with_suffix(".json").read_text())["key"] for path in (tmp_path / "engines").glob("*.engine")
    ]
    assert {key["precision"] for key in keys} == {"int8", "fp32"}


def one_node(path: Path, operator: str, domain: str = "") -> Path:
    import onnx
    from onnx import helper

    images = helper.make_tensor_value_info("images", 1, ("batch", 3, 8, 8))
    output = helper.make_tensor_value_info("output", 1, None)
    node = helper.make_node(operator, ["images"], ["output"], name="the-node", domain=domain)
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(
        helper.make_model(helper.make_graph([node], "g", [images], [output]), opset_imports=opsets, ir_version=9), path
    )
    return path


def convolutions(path: Path, quantized: bool, layers: int = 3, width: int = 256) -> Path:
    """A few wide convolutions; quantized, each has INT8 weights per channel and INT8 activations per tensor."""
    import onnx
    from onnx import helper, numpy_helper

    noise = np.random.default_rng(0)
    nodes, constants, flow = [], [], "images"
    for index in range(layers):
        shape = (width, 3 if index == 0 else width, 3, 3)
        weight, name = f"w{index}", f"x{index}"
        if quantized:
            values = noise.integers(-127, 128, shape, np.int8)
            scales = {f"{weight}-scale": np.full(width, 1e-3, np.float32), f"{name}-scale": np.float32(0.02)}
            zeros = {f"{weight}-zero": np.zeros(width, np.int8), f"{name}-zero": np.int8(0)}
            constants += [numpy_helper.from_array(np.asarray(value), key) for key, value in {**scales, **zeros}.items()]
            constants.append(numpy_helper.from_array(values, f"{weight}-int8"))
            quantities = [f"{name}-scale", f"{name}-zero"]
            nodes += [
                helper.make_node(
                    "DequantizeLinear", [f"{weight}-int8", f"{weight}-scale", f"{weight}-zero"], [weight], axis=0
                ),
                helper.make_node("QuantizeLinear", [flow, *quantities], [f"{name}-q"]),
                helper.make_node("DequantizeLinear", [f"{name}-q", *quantities], [f"{name}-dq"]),
            ]
            flow = f"{name}-dq"
        else:
            constants.append(numpy_helper.from_array(noise.normal(0, 0.05, shape).astype(np.float32), weight))
        nodes.append(helper.make_node("Conv", [flow, weight], [f"{name}-conv"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"{name}-conv"], [f"{name}-out"]))
        flow = f"{name}-out"
    images = helper.make_tensor_value_info("images", 1, ("batch", 3, 32, 32))
    output = helper.make_tensor_value_info(flow, 1, ("batch", width, 32, 32))
    graph = helper.make_graph(nodes, "convolutions", [images], [output], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path
