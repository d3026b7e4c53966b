"""Between numpy arrays and what the binding takes."""

from __future__ import annotations

import numpy as np

try:
    import ml_dtypes
except ImportError:  # arrays of the narrow types are then out of reach; everything else works
    ml_dtypes = None

# The codes are those of onnx.TensorProto.DataType.
_NATIVE = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9,
    "float16": 10, "float64": 11, "uint32": 12, "uint64": 13, "complex64": 14, "complex128": 15,
}
_NARROW = {
    "bfloat16": 16, "float8_e4m3fn": 17, "float8_e4m3fnuz": 18, "float8_e5m2": 19, "float8_e5m2fnuz": 20,
    "uint4": 21, "int4": 22, "float4_e2m1fn": 23, "float8_e8m0fnu": 24, "uint2": 25, "int2": 26,
    "float6_e2m3fn": 27, "float6_e3m2fn": 28,
}
_CODE = {np.dtype(name): code for name, code in _NATIVE.items()}
if ml_dtypes is not None:
    _CODE.update({np.dtype(getattr(ml_dtypes, n)): c for n, c in _NARROW.items() if hasattr(ml_dtypes, n)})
_DTYPE = {code: dtype for dtype, code in _CODE.items()}
# ml_dtypes keeps signed integers narrower than a byte in the low bits; the binding has them sign-extended.
_SIGNED_NARROW = {22: 0x0F, 26: 0x03}
_STORAGE = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_DIRECT = {np.dtype(n) for n in ("float32", "float64", "int32", "int64", "bool", "complex64", "complex128")}


def dtype_code(dtype):
    """The code of onnx.TensorProto.DataType; TypeError where there is none."""
    code = _CODE.get(np.dtype(dtype))
    if code is None:
        raise TypeError(f"no ONNX type for arrays of dtype {dtype}")
    return code


def to_binding(value):
    """An array (or list, dict, None) as the binding takes it; arrays are shared, not copied, if contiguous."""
    if value is None:
        return None
    if isinstance(value, (list, tuple)) and not _is_plain_list(value):
        return [to_binding(v) for v in value]
    if isinstance(value, dict):
        return {k: to_binding(v) for k, v in value.items()}
    if not isinstance(value, np.ndarray):
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            value = np.from_dlpack(value)
        else:
            value = np.asarray(value)
    if value.dtype.kind in "OUS":
        items = [v if isinstance(v, (str, bytes)) else str(v) for v in value.ravel().tolist()]
        return ("strings", items, list(value.shape))
    code = _CODE.get(value.dtype)
    if code is None:
        raise TypeError(f"no ONNX type for arrays of dtype {value.dtype}")
    if not value.flags.c_contiguous or not value.dtype.isnative:
        value = np.array(value, order="C", dtype=value.dtype.newbyteorder("="))
    if code in _SIGNED_NARROW:
        value = value.astype(np.int8)
    if value.dtype not in _DIRECT:
        value = value.view(_STORAGE[value.dtype.itemsize])
    return (value, code)


def _is_plain_list(value):
    """Whether a list holds numbers or strings, and so is an array rather than a sequence of tensors."""
    return bool(value) and all(isinstance(v, (int, float, str, bool, bytes)) for v in value)


def from_binding(value):
    """The inverse of to_binding."""
    if isinstance(value, tuple):
        if len(value) == 3:
            array = np.empty(len(value[1]), dtype=object)
            for i, item in enumerate(value[1]):
                try:
                    array[i] = item.decode("utf-8")
                except UnicodeDecodeError:
                    array[i] = item
            return array.reshape(value[2])
        array, code = value
        dtype = _DTYPE.get(code)
        if dtype is None:
            raise TypeError(f"an output of ONNX type {code} needs the package ml_dtypes")
        if code in _SIGNED_NARROW:
            array = np.asarray(array & _SIGNED_NARROW[code])
        return array if array.dtype == dtype else array.view(dtype)
    if isinstance(value, list):
        return [from_binding(v) for v in value]
    if isinstance(value, dict):
        return {k: _map_item(v) for k, v in value.items()}
    return value


def _map_item(value):
    item = from_binding(value)
    return item.item() if isinstance(item, np.ndarray) and item.shape == () else item
