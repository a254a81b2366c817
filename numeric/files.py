"""Read a matrix from a file, exactly as the file states it.

.npy (no pickles), .safetensors, .mtx (Matrix Market), and text (.csv, .txt, ...): integers,
fractions such as 22/7 and decimals, which are taken as the decimal fractions they are.
"""

from __future__ import annotations

import json
import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from theory.errors import InputError, UnsupportedError

#: a matrix with more entries is not read: exact arithmetic on it would take days
MAX_ENTRIES = 10_000_000
_NUMBER = re.compile(r"[+-]?(\d+(/\d+)?|(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d{1,4})?)")
_NUMPY_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "i1", "U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8", "BOOL": "?",
}  # fmt: skip


def read_matrix(path: str | Path, *, tensor: str | None = None) -> Any:
    """The matrix in a file: a NumPy array (.npy, .safetensors, .mtx) or rows of Fractions (text).

    Args:
        path: the file; its suffix says the format, anything unknown is read as text.
        tensor: which tensor of a .safetensors file, where it holds more than one matrix.

    Returns:
        shape (rows, columns); entries are checked to be finite by ``numeric.matrices``.

    Raises:
        InputError: no such file, a ragged or non-numeric or malformed file, not two-dimensional.
        UnsupportedError: a format that is not read here, or more than ``MAX_ENTRIES`` entries.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file {str(path)!r}; give a .npy, .safetensors, .mtx or text file")
    suffix = path.suffix.lower()
    if tensor is not None and suffix != ".safetensors":
        raise InputError(f"--tensor {tensor} is for .safetensors files; {path.name} holds one")
    if suffix in (".pt", ".pth", ".pkl", ".pickle", ".npz", ".mat", ".h5"):
        raise UnsupportedError(f"{suffix} files are not read; save the matrix as .npy")
    try:
        if suffix == ".npy":
            return _two_dimensional(_read_npy(path), path.name)
        if suffix == ".safetensors":
            return _read_safetensors(path, tensor)
        return _read_mtx(path) if suffix == ".mtx" else _read_text(path)
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror or error}") from error


def _two_dimensional(array: np.ndarray[Any, Any], what: str) -> np.ndarray[Any, Any]:
    if array.ndim != 2:
        raise InputError(f"{what} has shape {array.shape}; a matrix has two dimensions")
    _check_size(array.shape[0], array.shape[1], what)
    return array


def _check_size(rows: int, columns: int, what: str) -> None:
    if rows * columns > MAX_ENTRIES:
        raise UnsupportedError(
            f"{what} is {rows} x {columns}: more than {MAX_ENTRIES} entries; take a part of it"
        )


def _read_npy(path: Path) -> np.ndarray[Any, Any]:
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path.name} is no .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path.name} holds several arrays; save the one as .npy")
    return array


def _read_safetensors(path: Path, name: str | None) -> np.ndarray[Any, Any]:
    """The format is 8 bytes of header length, a JSON header, and the raw data."""
    data = path.read_bytes()
    try:
        (length,) = struct.unpack("<Q", data[:8])
        if length > len(data) - 8:
            raise ValueError(f"its header claims {length} bytes")
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        matrices = [key for key, entry in header.items() if len(entry["shape"]) == 2]
        if name is None:
            if len(matrices) != 1:
                raise InputError(
                    f"{path.name} holds {len(matrices)} matrices; choose one with --tensor: "
                    + ", ".join(matrices[:12])
                    + (", ..." if len(matrices) > 12 else "")
                )
            name = matrices[0]
        if name not in header:
            raise InputError(f"no tensor {name!r} in {path.name}; it holds {', '.join(header)}")
        entry = header[name]
        begin, end = entry["data_offsets"]
        raw = data[8 + length :][begin:end]
        kind = entry["dtype"]
        if kind == "BF16":  # the upper half of a float32
            flat = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        elif kind in _NUMPY_TYPES:
            flat = np.frombuffer(raw, _NUMPY_TYPES[kind])
        else:
            raise UnsupportedError(f"tensor {name!r} is of type {kind}, which is not read here")
        return _two_dimensional(flat.reshape(entry["shape"]), f"tensor {name!r}")
    except InputError:
        raise
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path.name} is no .safetensors file: {error}") from error


def _read_mtx(path: Path) -> np.ndarray[Any, Any]:
    from scipy.io import mminfo, mmread

    try:
        rows, columns, *_ = mminfo(path)
        _check_size(int(rows), int(columns), path.name)
        matrix = mmread(path)
    except InputError:
        raise
    except (ValueError, OSError, TypeError, OverflowError) as error:
        raise InputError(f"{path.name} is no Matrix Market file: {error}") from error
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix)


def _read_text(path: Path) -> list[list[Fraction]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not text: {error}; save the matrix as .npy") from error
    rows: list[list[Fraction]] = []
    first = 0
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        cells = re.split(r"\s*[,;]\s*|\s+", line.strip("[],;"))
        row = [_number(cell, path.name, number, at) for at, cell in enumerate(cells, 1)]
        if rows and len(row) != len(rows[0]):
            raise InputError(
                f"{path.name} is ragged: line {number} has {len(row)} numbers, "
                f"line {first} has {len(rows[0])}"
            )
        first = first or number
        rows.append(row)
    return rows


def _number(cell: str, name: str, line: int, column: int) -> Fraction:
    where = f"{name}, line {line}, column {column}: {cell[:40]!r}"
    if cell.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise InputError(f"{where} is not finite; rank needs finite numbers")
    if not _NUMBER.fullmatch(cell):
        raise InputError(f"{where} is no number; write integers, fractions 22/7 or decimals 0.5")
    try:
        return Fraction(cell)
    except (ZeroDivisionError, ValueError) as error:
        raise InputError(f"{where} divides by zero or is too long to read") from error
