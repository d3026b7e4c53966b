"""The case table, exported as models, against ONNX Runtime: an independent answer for every operator that it
implements, and a test of the exporter."""

import os
import pathlib
import subprocess

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import sardonyx as sx

_PROGRAM = pathlib.Path(os.environ.get("SARDONYX_BUILD", pathlib.Path(__file__).parents[1] / "build")) / "tests" / "sardonyx_tests"

# What ONNX Runtime computes differently, with the reason.
_DIFFERENT = {
    "Unique": "the order of ties",
    "MaxUnpool": "places are counted within the output_shape",
    # python/test_ml.py has what it computes alike.
    "LinearRegressor": "one target is left as it is",
    "LinearClassifier": "of one score for two classes",
    "SVMRegressor": "post_transform is left out",
    "Normalizer": "the largest number, not the largest magnitude",
}


@pytest.fixture(scope="session")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    subprocess.run([_PROGRAM, "--export-cases", folder], check=True, stdout=subprocess.DEVNULL)
    return folder


def test_every_case_agrees(cases):
    compared, refused, wrong = 0, [], []
    for line in (cases / "cases.txt").read_text().splitlines():
        stem, tolerance, name = line.split("\t")
        path = cases / f"{stem}.onnx"
        try:
            onnx.checker.check_model(str(path), full_check=True)
        except onnx.checker.ValidationError as e:  # ONNX's inference does not find the rank of every output
            if "Field 'shape' of 'type' is required but missing" not in str(e):
                raise
        feeds = {k: v.astype(object) if v.dtype.kind == "U" else v for k, v in np.load(cases / f"{stem}.npz").items()}
        try:
            session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            expected = session.run(None, feeds)
        except Exception as e:  # an operator, type or form that it does not implement
            refused.append(f"{name}: {str(e)[:100]}")
            continue
        got = sx.InferenceSession(str(path)).run(None, feeds)
        compared += 1
        if name.split()[0] in _DIFFERENT:
            continue
        for g, e in zip(got, expected):
            if g.dtype.kind == "f":
                scale = max(1e-3, np.abs(e[np.isfinite(e)]).max(initial=0))
                same = g.shape == e.shape and np.allclose(g / scale, e / scale, rtol=0, atol=float(tolerance) * 3, equal_nan=True)
            else:
                same = g.shape == e.shape and np.array_equal(g, e)
            if not same:
                wrong.append(name)
                break
    print(f"{compared} cases compared, {len(refused)} refused by ONNX Runtime")
    assert not wrong, "\n".join(wrong)
    assert compared > 300, f"only {compared} compared; refused:\n" + "\n".join(refused)
