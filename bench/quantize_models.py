#!/usr/bin/env python3
"""Quantizes models of bench/rows.py with onnxruntime.quantization, for bench/models.py --quantized.

    python bench/quantize_models.py DIR [--rows a,b]

Writes DIR/<row>.qdq.onnx, static quantization with QuantizeLinear and DequantizeLinear around every operator
(u8 activations, s8 weights with a scale for each channel), and for the row bert also <row>.dynamic.onnx.
Calibrated on the row's own input and on two that are like it: enough for a comparison of times.
"""
import argparse
import pathlib
import tempfile

import numpy as np
import onnx
import onnx.version_converter
from onnxruntime.quantization import (CalibrationDataReader, QuantFormat, QuantType, quant_pre_process,
                                      quantize_dynamic, quantize_static)

from rows import QUANTIZED, ROWS

DYNAMIC = ("bert",)


class Samples(CalibrationDataReader):
    def __init__(self, feeds):
        rng = np.random.default_rng(0)
        noisy = [{name: (value + 0.1 * rng.standard_normal(value.shape)).astype(value.dtype)
                  if value.dtype.kind == "f" else value for name, value in feeds.items()} for _ in range(2)]
        self.left = iter([feeds, *noisy])

    def get_next(self):
        return next(self.left, None)


def quantize(row, folder):
    with tempfile.TemporaryDirectory() as scratch:
        given, prepared = pathlib.Path(scratch) / "given.onnx", pathlib.Path(scratch) / "prepared.onnx"
        model = onnx.load(row.path())
        if model.opset_import[0].version < 13:  # scales for each channel
            model = onnx.version_converter.convert_version(model, 13)
        onnx.save(model, given)
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
        quantize_static(prepared, folder / f"{row.name}.qdq.onnx", Samples(row.inputs()),
                        quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
                        weight_type=QuantType.QInt8, per_channel=True)
        if row.name in DYNAMIC:
            quantize_dynamic(prepared, folder / f"{row.name}.dynamic.onnx", weight_type=QuantType.QInt8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--rows", default=",".join(QUANTIZED))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for row in ROWS:
        if row.name in arguments.rows.split(","):
            quantize(row, arguments.folder)
            print(row.name, flush=True)


if __name__ == "__main__":
    main()
