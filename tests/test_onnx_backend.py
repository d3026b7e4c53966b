"""The ONNX backend suite, through sardonyx.backend. Cases listed in onnx_backend_failures.txt are expected to
fail, each with its reason; one that passes all the same is reported as a failure."""

import pathlib

import onnx.backend.test
import pytest

import sardonyx.backend

_FAILURES = dict(
    line.rstrip("\n").split("\t", 1)
    for line in (pathlib.Path(__file__).parent / "onnx_backend_failures.txt").read_text().splitlines()
    if line and not line.startswith("#"))

_suite = onnx.backend.test.BackendTest(sardonyx.backend, __name__)
# The models of the zoo are not in the package; they would be downloaded.
_suite.exclude(r"test_(bvlc_alexnet|densenet121|inception_v1|inception_v2|resnet50|shufflenet|squeezenet|vgg19|zfnet512)_.*")
_suite.exclude(r".*_cuda$")

for _name, _class in _suite.enable_report().test_cases.items():
    for _case in [n for n in dir(_class) if n.startswith("test_")]:
        if _case in _FAILURES:
            setattr(_class, _case, pytest.mark.xfail(strict=True, reason=_FAILURES[_case])(getattr(_class, _case)))
    globals()[_name] = _class
