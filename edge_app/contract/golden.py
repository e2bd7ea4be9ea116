"""The golden file of a bundle: a few crops and the embeddings that the model must give for them, wherever it runs.

An uncompressed `.npz` of four arrays. Crops are already of the network's size, so that no resizer can blur the
comparison: what differs is the engine. The trainer draws them, so that a bundle shows nobody.
"""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.errors import BundleError

MAX_CROPS = 64
LIMIT_BYTES = 64 << 20
_ARRAYS = {"crops": ("|u1", 4), "rows": ("<f4", 2), "float_rows": ("<f4", 2), "min_cosine": ("<f8", 0)}


@dataclass(frozen=True, slots=True)
class Golden:
    """N crops of one size with what is expected of them. Raises `BundleError` when the arrays do not fit together."""

    crops: NDArray[np.uint8]  # (N, h, w, 3) BGR, of the network's size
    rows: NDArray[np.float32]  # (N, D) unit rows: the bundle's model on ONNX Runtime
    float_rows: NDArray[np.float32]  # (N, D) unit rows: the same network before it was quantized
    min_cosine: float  # an engine whose rows are less similar to `rows` than this is refused

    def __post_init__(self) -> None:
        count = len(self.crops) if self.crops.ndim == 4 else 0
        fits = (
            0 < count <= MAX_CROPS
            and self.crops.shape[3] == 3
            and self.crops.dtype == np.uint8
            and self.rows.ndim == 2
            and self.rows.shape == self.float_rows.shape
            and len(self.rows) == count
        )
        if not fits:
            shapes = f"crops {self.crops.shape}, rows {self.rows.shape}, float_rows {self.float_rows.shape}"
            raise BundleError(
                f"the golden file needs 1 to {MAX_CROPS} crops (N, h, w, 3) and rows (N, D), has {shapes}"
            )
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused in the next line
            lengths = np.linalg.norm(np.concatenate([self.rows, self.float_rows]).astype(np.float64), axis=1)
        if not (np.abs(lengths - 1) < 1e-3).all():
            raise BundleError("the golden file's embeddings are not rows of unit length")
        if not (math.isfinite(self.min_cosine) and 0 < self.min_cosine <= 1):
            raise BundleError(f"the golden file's min_cosine is {self.min_cosine}; it lies between 0 and 1")


def golden_bytes(golden: Golden) -> bytes:
    """The file. The same arrays give the same bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, (dtype, _) in _ARRAYS.items():
            array = io.BytesIO()
            values = np.ascontiguousarray(getattr(golden, name), dtype).reshape(np.shape(getattr(golden, name)))
            np.lib.format.write_array(array, values, version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), array.getvalue())  # dated 1980, not now
    return file.getvalue()


def parse_golden(content: bytes, where: str) -> Golden:
    """The file's content, or a `BundleError`; never allocates more than the file is long."""
    if len(content) > LIMIT_BYTES:
        raise BundleError(f"{where} is {len(content)} bytes long; at most {LIMIT_BYTES} are allowed")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if sorted(entry.filename for entry in entries) != sorted(f"{name}.npy" for name in _ARRAYS):
                raise ValueError(f"expected the arrays {', '.join(_ARRAYS)}")
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(content) for entry in entries):
                raise ValueError("compressed arrays are not allowed (a small file could unpack to a large one)")
            arrays = {name: _array(archive.read(f"{name}.npy"), name) for name in _ARRAYS}
        return Golden(arrays["crops"], arrays["rows"], arrays["float_rows"], float(arrays["min_cosine"]))
    except BundleError as error:
        raise BundleError(f"{where}: {error}") from None
    except Exception as error:  # zipfile and numpy answer damage with errors of a dozen kinds
        raise BundleError(f"{where} is not a golden file: {error or type(error).__name__}") from None


def _array(content: bytes, name: str) -> NDArray[Any]:
    """One `.npy`, of the type and rank that belong to its name."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{name} is written in another version of the npy format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    expected, rank = _ARRAYS[name]
    if dtype.str != expected or len(shape) != rank or fortran or min(shape, default=1) < 1:
        raise ValueError(f"{name} should be {rank}-dimensional {expected}, is {shape} {dtype.str}")
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"{name} says {shape} and holds {len(content) - file.tell()} bytes")
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape)
