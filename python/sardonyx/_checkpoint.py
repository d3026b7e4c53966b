"""Checkpoints: the safetensors format (an 8-byte length, a JSON header, the tensors' bytes)."""

from __future__ import annotations

import json
import os
import struct
import tempfile

import numpy as np

from ._sardonyx import FileError

_WORDS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
          "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}
_NAMES = {dtype: word for word, dtype in _WORDS.items()}
_LONGEST_HEADER = 100_000_000


def _dtype(name):
    if name == "bfloat16":
        import ml_dtypes
        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def write(path, tensors, notes):
    """Writes {name: array} and a JSON-able dict; the file is complete or not there."""
    header, at = {"__metadata__": {"sardonyx": json.dumps(notes)}}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": _NAMES[array.dtype.name], "shape": list(array.shape),
                        "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = os.fspath(path)
    try:
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=".checkpoint")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(struct.pack("<Q", len(text)) + text)
                for array in tensors.values():
                    file.write(np.ascontiguousarray(array).tobytes())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error


def read(path):
    """({name: array}, notes). FileError for what is no complete checkpoint of Sardonyx."""
    def refuse(what):
        raise FileError(f"{os.fspath(path)}: expected a checkpoint of Sardonyx, got {what}")

    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise FileError(f"{os.fspath(path)}: {error.strerror}") from error
    if len(data) < 8:
        refuse("a file that is too short")
    length = struct.unpack("<Q", data[:8])[0]
    if length > min(_LONGEST_HEADER, len(data) - 8):
        refuse("a damaged header")
    try:
        header = json.loads(data[8:8 + length])
        notes = json.loads(header.pop("__metadata__")["sardonyx"])
        tensors = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            dtype, shape = _dtype(_WORDS[entry["dtype"]]), tuple(entry["shape"])
            body = data[8 + length + begin:8 + length + end]
            if len(body) != end - begin or begin < 0:
                refuse("a file that was cut off")
            tensors[name] = np.frombuffer(body, dtype).reshape(shape).copy()
        notes["updates"], notes["hyper"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        refuse(f"a damaged header ({error})")
    return tensors, notes
