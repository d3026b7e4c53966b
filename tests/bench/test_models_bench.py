"""bench/models.py on its smallest row: what its report holds, and that a row in which the engines disagree has no
figure. No time is asserted."""
import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = pathlib.Path(os.environ.get("SARDONYX_MODELS") or
                      pathlib.Path(os.environ.get("SARDONYX_DEPS") or ROOT / ".deps") / "models")

# A module `sardonyx` that asks onnxruntime, and then does something to the outputs.
IMPOSTOR = """
    import numpy as np
    import onnxruntime

    __version__ = "0"

    class InputError(Exception):
        pass

    class InferenceSession:
        def __init__(self, source, threads, precision, free_dimensions):
            if precision != "PRECISION":
                raise InputError(f"option 'precision': expected 'PRECISION', got '{precision}'")
            self.inner = onnxruntime.InferenceSession(source)
            self.get_outputs = self.inner.get_outputs

        def run(self, names, feeds):
            outputs = self.inner.run(names, feeds)
            BODY
            return outputs
    """


@pytest.fixture
def bench(tmp_path):
    """Runs bench/models.py on one row: (exit code, report, what it printed)."""
    model = MODELS / "silero_vad/silero_vad_op18_ifless.onnx"
    if not model.is_file():
        message = f"{model} is not there: run tools/fetch_models"
        if os.environ.get("SARDONYX_REQUIRE_MODELS"):
            pytest.fail(message)
        pytest.skip(message)

    def run(*options, engines="sardonyx,onnxruntime", impostor=None, precision="highest"):
        environment = dict(os.environ)
        if impostor is not None:
            module = textwrap.dedent(IMPOSTOR).replace("BODY", impostor).replace("PRECISION", precision)
            (tmp_path / "sardonyx.py").write_text(module)
            environment["PYTHONPATH"] = str(tmp_path)
        report = tmp_path / "report.json"
        command = [sys.executable, ROOT / "bench/models.py", "--rows", "silero_vad", "--rounds", "2", "--round-ms",
                   "20", "--threads", "1", "--engines", engines, "--json", report, *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        found = json.loads(report.read_text()) if report.is_file() else None
        return done.returncode, found, done.stdout + done.stderr
    return run


def only_row(report):
    row, = report["rows"]
    assert row["row"] == "silero_vad"
    return row


def test_report(bench):
    code, report, text = bench()
    assert code == 0, text
    row = only_row(report)
    assert row["status"] == "measured"
    assert set(row["engines"]) == {"sardonyx", "onnxruntime"}
    for engine in row["engines"].values():
        assert len(engine["rounds_ms"]) == len(engine["rounds_cpu_ms"]) == 2
        times = [*engine["rounds_ms"], *engine["run_ms"].values(), engine["load_ms"], engine["first_run_ms"]]
        assert min(times) > 0
        assert min(engine["rounds_ms"]) <= engine["run_ms"]["median"] <= max(engine["rounds_ms"])
        assert engine["peak_mb"] > 1
    assert 0 <= row["others_share"] <= 1
    # The outputs of two programs were compared: close, and not to the last bit.
    assert row["reference"] == "onnxruntime"
    assert 0 < row["errors"]["sardonyx"] <= report["settings"]["tolerance"] == 1e-3

    ours, theirs = (row["engines"][name]["rounds_ms"] for name in ("sardonyx", "onnxruntime"))
    ratio = row["ratios"]["onnxruntime"]
    assert ratio["median"] == pytest.approx((theirs[0] / ours[0] + theirs[1] / ours[1]) / 2)
    assert ratio["lower_quartile"] <= ratio["median"] <= ratio["upper_quartile"]
    assert row["best_peer"] == "onnxruntime"
    assert report["geometric_means"]["best peer"] == {"ratio": pytest.approx(ratio["median"]), "rows": 1}
    assert f"over 1 rows: {ratio['median']:.3f}" in text


@pytest.mark.parametrize("change, complaint", [
    ("outputs[1] = outputs[1] * np.float32(1.01)", "sardonyx: output stateN: expected within 0.001"),
    ("outputs[1] = outputs[1][:1]", "sardonyx: output stateN: expected shape (2, 1, 128), got (1, 1, 128)"),
    ("outputs[1][0, 0, 5] = np.nan", "sardonyx: output stateN: NaN or infinity elsewhere"),
    ("outputs.pop()", "sardonyx: expected 2 outputs, got 1"),
    ("raise RuntimeError('it is broken')", "sardonyx: RuntimeError: it is broken"),
    ("import os; os._exit(3)", "sardonyx: run: ended with exit code 3"),
])
def test_a_row_that_disagrees_has_no_figure(bench, change, complaint):
    code, report, text = bench(impostor=change)
    assert code == 1
    row = only_row(report)
    assert row["status"] == "failed" and complaint in row["why"]
    assert "ratios" not in row and "best peer" not in report["geometric_means"]
    assert complaint in text


def test_an_impostor_that_agrees_is_measured(bench):
    code, report, text = bench(impostor="pass")
    assert code == 0, text
    assert only_row(report)["errors"] == {"sardonyx": 0}


def test_tolerance(bench):
    code, report, _ = bench("--tolerance", "0")
    assert code == 1
    assert "expected within 0 of onnxruntime's largest value" in only_row(report)["why"]


@pytest.mark.parametrize("missing", ["skip", "fail"])
def test_an_engine_that_is_not_there_is_left_out(bench, missing):
    code, report, text = bench("--python", "openvino=/nowhere/python", "--missing", missing,
                               engines="sardonyx,onnxruntime,openvino")
    assert code == (missing == "fail")
    assert "engine left out: openvino: /nowhere/python" in text
    row = only_row(report)
    assert row["status"] == "measured" and set(row["ratios"]) == {"onnxruntime"}


def test_a_lower_precision_has_a_measure_of_its_own(bench):
    """A large error in one of 256 elements, and a small one in all, that is too large for f32."""
    engines = "sardonyx-medium,onnxruntime"
    for change in ("outputs[1][0, 0, 5] += 0.1", "outputs[1] *= np.float32(1.05)"):
        code, report, text = bench("--precision", "medium", engines=engines, impostor=change, precision="medium")
        assert code == 0, text
        assert 1e-3 < only_row(report)["errors"]["sardonyx-medium"] < 0.1
    code, report, _ = bench("--precision", "medium", engines=engines, impostor="outputs[1] *= np.float32(1.2)",
                            precision="medium")
    assert code == 1
    assert "expected within 0.1 of onnxruntime's root mean square, off by 0.2" in only_row(report)["why"]


def test_a_precision_that_is_refused_is_skipped(bench):
    code, report, text = bench("--precision", "medium", engines="sardonyx-medium,onnxruntime", impostor="pass")
    assert code == 0, text
    row = only_row(report)
    assert row["status"] == "skipped" and "ratios" not in row
    assert "silero_vad: skipped: sardonyx-medium: option 'precision': expected 'highest', got 'medium'" in text


@pytest.mark.parametrize("options", [["--rows", "nothing"], ["--rounds", "0"], ["--engines", "torch"],
                                     ["--python", "openvino"], ["--clock", "cpu", "--threads", "2"]], ids=" ".join)
def test_usage(bench, options):
    code, report, text = bench(*options)
    assert code == 2 and report is None
    assert options[0] in text and "expected" in text


def test_quantized_models(tmp_path):
    if not (MODELS / "ppocr/ch_PP-OCRv4_rec_infer.onnx").is_file() or not (MODELS / "sklearn/china.jpg").is_file():
        pytest.skip("no model: run tools/fetch_models")
    pytest.importorskip("PIL")
    pytest.importorskip("onnxruntime.quantization")
    quantize = [sys.executable, ROOT / "bench/quantize_models.py", tmp_path, "--rows", "ppocr_recognition"]
    assert subprocess.run(quantize, capture_output=True, timeout=300).returncode == 0
    report = tmp_path / "report.json"
    command = [sys.executable, ROOT / "bench/models.py", "--quantized", tmp_path, "--rounds", "1", "--round-ms", "10",
               "--threads", "1", "--json", report]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    row, = json.loads(report.read_text())["rows"]
    assert row["row"] == "ppocr_recognition.qdq" and row["status"] == "measured"
    assert 0 < row["errors"]["sardonyx"] < 0.15
