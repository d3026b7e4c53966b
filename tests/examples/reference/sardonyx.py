"""The part of Sardonyx's Python interface that the examples use, over ONNX Runtime.

With this folder first in PYTHONPATH an example program computes what ONNX Runtime computes.
"""
import onnxruntime


class Error(Exception):
    pass


class InferenceSession:
    def __init__(self, path, providers=("cpu",), threads=0):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.metadata = self.session.get_modelmeta().custom_metadata_map
        self.get_inputs = self.session.get_inputs
        self.run = self.session.run
