"""The ONNX backend suite, through sardonyx.backend: every case as a session runs it by default, at every stage, and
with each pass left out that changes its graph. Cases listed in onnx_backend_failures.txt are expected to fail, each
with its reason; one that passes all the same is reported as a failure."""

import pathlib

import onnx.backend.test
import pytest

import sardonyx.backend
import variants

_FAILURES = dict(
    line.rstrip("\n").split("\t", 1)
    for line in (pathlib.Path(__file__).parent / "onnx_backend_failures.txt").read_text().splitlines()
    if line and not line.startswith("#"))


class _EveryWay:
    """sardonyx.backend, whose prepared models give [(what, outputs)], an item for each way of running them."""

    supports_device = staticmethod(sardonyx.backend.supports_device)

    class Prepared:
        def __init__(self, model):
            self.ways = [("default", sardonyx.backend.prepare(model))]
            for what, session in variants.sessions(model.SerializeToString()):
                self.ways.append((what, sardonyx.backend.SardonyxRep(session)))

        def run(self, inputs):
            return [(what, list(prepared.run(inputs))) for what, prepared in self.ways]

    @classmethod
    def prepare(cls, model, device="CPU", **kwargs):
        return cls.Prepared(model)


class _Suite(onnx.backend.test.BackendTest):
    @classmethod
    def assert_similar_outputs(cls, ref_outputs, outputs, rtol, atol, model_dir=None):
        for what, answer in outputs:  # of Prepared.run
            try:
                onnx.backend.test.BackendTest.assert_similar_outputs(ref_outputs, answer, rtol, atol, model_dir)
            except AssertionError as error:
                raise AssertionError(f"{what}: {error}") from error


_suite = _Suite(_EveryWay, __name__)
# The models of the zoo are not in the package; they would be downloaded.
_suite.exclude(r"test_(bvlc_alexnet|densenet121|inception_v1|inception_v2|resnet50|shufflenet|squeezenet|vgg19|zfnet512)_.*")
_suite.exclude(r".*_cuda$")

for _name, _class in _suite.enable_report().test_cases.items():
    for _case in [n for n in dir(_class) if n.startswith("test_")]:
        if _case in _FAILURES:
            setattr(_class, _case, pytest.mark.xfail(strict=True, reason=_FAILURES[_case])(getattr(_class, _case)))
    globals()[_name] = _class
