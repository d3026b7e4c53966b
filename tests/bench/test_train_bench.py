"""bench/train.py with an impostor in the place of sardonyx and without PyTorch: what its report holds, and that a
row whose losses are not the recorded ones has no figure. No time is asserted."""
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOSSES = np.array([2.5, 2.25, 2.0, 1.5, 1.25, 1.0, 0.5, 0.25])

# A module `sardonyx` that gives the losses of a list, over and over, and keeps what it was asked for.
IMPOSTOR = """
import itertools
import json
import pathlib

nan = float("nan")
__version__ = "0"


class optim:
    class AdamW:
        def __init__(self, lr):
            self.lr = lr


class Trainer:
    def __init__(self, model, loss, optimizer, threads, trainable="*", precision="highest"):
        asked = {"model": model, "loss": loss, "lr": optimizer.lr, "threads": threads, "trainable": trainable}
        pathlib.Path(__file__).with_name("asked.json").write_text(json.dumps(asked))
        self.losses = itertools.cycle(LOSSES)

    def step(self, x, y):
        assert x.shape == (2, 3) and y.shape == (2,)
        return next(self.losses)
"""


@pytest.fixture
def train(tmp_path):
    """Runs bench/train.py on one row: (exit code, report, what it printed)."""
    (tmp_path / "mlp.onnx").touch()
    np.savez(tmp_path / "mlp.npz", **{"x/image": np.zeros((8, 2, 3), np.float32)}, y=np.zeros((8, 2), np.int64),
             head=np.array(["last.weight", "last.bias"]), losses=LOSSES, losses_f64=LOSSES * (1 + 1e-6),
             lr=2e-3)

    def run(losses, *options, module=IMPOSTOR):
        (tmp_path / "sardonyx.py").write_text(module.replace("LOSSES", str(losses.tolist())))
        report = tmp_path / "report.json"
        command = [sys.executable, ROOT / "bench/train.py", "--models", tmp_path, "--rows", "mlp", "--rounds", "2",
                   "--round-ms", "1", "--threads", "1", "--engines", "sardonyx", "--json", report, *options]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True,
                              text=True, timeout=300)
        found = json.loads(report.read_text()) if report.is_file() else None
        return done.returncode, found, done.stdout + done.stderr
    return run


def test_report(train, tmp_path):
    code, report, text = train(LOSSES)
    assert code == 0, text
    row, = report["rows"]
    assert row["status"] == "measured" and row["reference"] == "file"
    assert row["losses"]["sardonyx"] == [2.5, 2.25, 2.0, 1.5]
    engine = row["engines"]["sardonyx"]
    assert len(engine["rounds_ms"]) == 2 and engine["peak_mb"] > 1
    assert json.loads((tmp_path / "asked.json").read_text()) == {
        "model": str(tmp_path / "mlp.onnx"), "loss": "CrossEntropyLoss", "lr": 2e-3, "threads": 1, "trainable": "*"}


def test_only_the_last_layer(train, tmp_path):
    code, _, text = train(LOSSES, "--frozen")
    assert code == 0, text
    assert json.loads((tmp_path / "asked.json").read_text())["trainable"] == ["last.weight", "last.bias"]


@pytest.mark.parametrize("step, off", [(0, 2e-4), (3, 2e-3), (2, np.nan)])
def test_another_loss_is_no_figure(train, step, off):
    losses = LOSSES.copy()
    losses[step] *= 1 + off
    code, report, text = train(losses)
    assert code == 1, text
    row, = report["rows"]
    assert row["status"] == "failed" and f"loss of step {step + 1}" in row["why"]
    assert "run_ms" not in row["engines"]["sardonyx"]


def test_what_is_missing_is_said(train):
    code, report, text = train(LOSSES, module='__version__ = "0"')
    assert code == 0, text
    assert report["rows"][0]["status"] == "skipped"
    assert "sardonyx: version 0 has no Trainer" in text
    code, report, text = train(LOSSES, "--rows", "cnn")
    assert code == 0 and "run bench/export_training_models.py" in report["rows"][0]["why"]
    assert train(LOSSES, "--rows", "cnn", "--missing", "fail")[0] == 1
    assert train(LOSSES, "--engines", "sardonyx,caffe")[0] == 2
