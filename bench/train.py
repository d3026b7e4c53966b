#!/usr/bin/env python3
"""Measures a training step of Sardonyx against PyTorch's: forward, loss, backward and AdamW, side by side.

    python bench/train.py [--torch-python PYTHON] [--frozen] [--threads N] [--rows a,b] [--engines a,b]
                          [--precision highest|medium] [--rounds N] [--round-ms MS] [--clock wall|cpu]
                          [--models FOLDER] [--json FILE]

The networks are those that bench/export_training_models.py wrote. Sardonyx trains the .onnx file, PyTorch the
network that it was exported from, both from the same weights on the same batches. As in bench/models.py, every
engine runs in a process of its own, the engines take turns for many rounds, and the figure of a row is the median
over the rounds of a peer's time divided by Sardonyx's (over 1: Sardonyx is faster). `torch` is eager PyTorch with
every option left alone, `torch-tuned` has pictures channels last and the fused optimizer, `torch-compile` is
compiled, with the fused optimizer. On demand `sardonyx-recompute` computes activations again in
four pieces and keeps no gradients. At precision medium Sardonyx is next to tuned PyTorch in f32 and under autocast to bf16.
The losses of the first steps are compared with eager PyTorch's: a row in which
they disagree has no figure. Peak memory is that of the process, with the engine's libraries and, for
torch-compile, its compiler. With --frozen only the last layer is trained.
Without Sardonyx or without PyTorch those that are there are timed; what is left out is said.
Exit code: 0 measured, 1 a row failed or disagreed (or, with --missing fail, could not run), 2 usage.
"""
import argparse
import contextlib
import os
import pathlib
import sys

import numpy as np

from models import OURS, Engine, EngineError, conclude, geometric_means, machine, probe, say, time_row
from rows import ROOT, Missing, present

REFERENCE = "torch"
USUAL = {"highest": ("sardonyx", "torch", "torch-tuned", "torch-compile"), "medium": ("sardonyx-medium", "torch-tuned", "torch-bf16")}
ENGINES = {**USUAL, "highest": (*USUAL["highest"], "sardonyx-recompute")}
ROWS = ("mlp", "cnn", "resnet18", "resnet18_bn", "mobilenet_v3_large", "mobilenet_v3_large_bn", "bert_classifier",
        "lstm_language")
EXTRA_ROWS = ("resnet18_training", "mobilenet_v3_large_training")  # the steps of _bn, written in another way
STEPS = 4  # of which the losses are compared
# How far a loss may be off, relative to eager PyTorch's: the first, and the later ones, where what was rounded
# differently grows. It grows as much in PyTorch itself, in f32 and f64, hence the factor on that difference.
FIRST, LATER, SPREAD = 1e-4, 1e-3, 10.0
MEDIUM = 0.03  # every loss, in bf16


def tolerances(recorded, frozen, precision):
    """For each of the first steps, from the losses that bench/export_training_models.py recorded."""
    if precision == "medium":
        return np.full(STEPS, MEDIUM)
    limits = np.full(STEPS, LATER)
    limits[0] = FIRST
    if not frozen:
        exact = recorded["losses_f64"][:STEPS]
        apart = np.abs(recorded["losses"][:STEPS] - exact) / np.abs(exact)
        limits = np.maximum(limits, SPREAD * np.maximum.accumulate(apart))
    return limits


def compare(losses, expected, limits):
    """({engine: largest relative error}, complaints)."""
    errors, complaints = {}, []
    for name, found in losses.items():
        error = np.abs(np.array(found) - expected) / np.abs(expected)
        errors[name] = float(error.max())
        for step in np.flatnonzero(~(error <= limits))[:1]:
            complaints.append(f"{name}: loss of step {step + 1}: expected {expected[step]:.7g} within "
                              f"{limits[step]:.2g} of it, got {found[step]:.7g}")
    return errors, complaints


def load(child, model, data, trainable, threads):
    """(load and first step in milliseconds, losses of the first steps)."""
    found = child.ask("load_training", model=str(model), data=str(data), trainable=trainable, threads=threads)
    first = child.ask("steps", count=STEPS)
    return {"load_ms": found["load_ms"], "first_run_ms": first["first_ms"]}, first["losses"]


def measure_row(name, children, settings):
    """What the report says of a row: "status" is measured, skipped or failed, and "why"."""
    result, data = {"row": name, "engines": {}}, settings.models / f"{name}.npz"
    try:
        model = present(settings.models / f"{name}.onnx", "bench/export_training_models.py")
        present(data, "bench/export_training_models.py")
    except Missing as error:
        return {**result, "status": "skipped", "why": str(error), "missing": True}
    with np.load(data) as file:
        recorded = {key: file[key] for key in ("head", "losses", "losses_f64")}

    losses, failed = {}, []
    trainable = recorded["head"].tolist() if settings.frozen else None
    for engine in list(children):
        try:
            result["engines"][engine], losses[engine] = load(children[engine], model, data, trainable,
                                                             settings.threads)
        except EngineError as error:
            result["engines"][engine] = {"why": str(error)}
            if engine in OURS and not error.refused:
                failed.append(str(error))
            del children[engine]
    if failed or not children:
        return {**result, "status": "failed" if failed else "skipped", "why": "; ".join(failed) or "no engine ran"}

    result.update(losses=losses, reference=REFERENCE if REFERENCE in losses else None if settings.frozen else "file")
    if result["reference"]:
        expected = np.array(losses.get(REFERENCE, recorded["losses"][:STEPS]))
        result["errors"], complaints = compare(losses, expected, tolerances(recorded, settings.frozen, settings.precision))
        if complaints:
            return {**result, "status": "failed", "why": "; ".join(complaints)}

    return time_row(result, children, settings)


def measure(pythons, settings):
    """Probes the engines, then measures row after row; returns the whole report."""
    engines, available = probe(pythons, settings)
    described = {**vars(settings), "models": str(settings.models)}
    report = {"machine": machine(), "settings": described, "engines": engines, "rows": []}
    for name in settings.rows:
        with contextlib.ExitStack() as stack:
            children = {engine: stack.enter_context(Engine(engine, python)) for engine, python in available}
            result = measure_row(name, children, settings)
        report["rows"].append(result)
        say(f"{name}: {result.get('why') or result['status']}")
    report["geometric_means"] = geometric_means(report["rows"])
    report["machine"]["load_average_after"] = os.getloadavg()
    return report


def parse_arguments():
    parser = argparse.ArgumentParser(description="Measures a training step of Sardonyx against PyTorch's.",
                                     epilog="The models are those of bench/export_training_models.py.")
    add = parser.add_argument
    add("--torch-python", metavar="PYTHON", default=sys.executable,
        help="the Python in which PyTorch is installed (default: this one)")
    add("--frozen", action="store_true", help="only the last layer is trained")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every engine (default: %(default)s)")
    add("--rows", metavar="A,B", help=f"only these rows: {', '.join(ROWS)}; or {', '.join(EXTRA_ROWS)}")
    add("--engines", metavar="A,B", help=f"only these engines: {', '.join(ENGINES['highest'])}; for medium "
        f"{', '.join(ENGINES['medium'])}")
    add("--precision", choices=["highest", "medium"], default="highest",
        help="highest: f32 as f32; medium: bf16 between f32 parameters (default: %(default)s)")
    add("--rounds", type=int, default=15, help="default: %(default)s")
    add("--round-ms", type=float, default=300, help="how long an engine trains in a round (default: %(default)s)")
    add("--clock", choices=["wall", "cpu"], default="wall", help="what is compared: wall time, or CPU time, "
        "which with one thread tells something on a busy machine too (default: %(default)s)")
    add("--models", metavar="FOLDER", type=pathlib.Path,
        default=os.environ.get("SARDONYX_TRAINING_MODELS") or ROOT / ".deps/training_models",
        help="where bench/export_training_models.py wrote them (default: %(default)s)")
    add("--missing", choices=["skip", "fail"], default="skip", help="what to do without a model or an engine")
    add("--json", metavar="FILE", help="writes everything that was measured")
    arguments = parser.parse_args()

    def chosen(text, default, known, what):
        names = text.split(",") if text else list(default)
        for name in names:
            if name not in known:
                parser.error(f"{what}: expected some of {', '.join(known)}, got {name!r}")
        return names

    arguments.rows = chosen(arguments.rows, ROWS, (*ROWS, *EXTRA_ROWS), "--rows")
    arguments.engines = chosen(arguments.engines, USUAL[arguments.precision], ENGINES[arguments.precision],
                               "--engines")
    if arguments.clock == "cpu" and arguments.threads != 1:
        parser.error("--clock cpu: expected --threads 1: more threads wait for each other, and some do so busily")
    for name in ("threads", "rounds", "round_ms"):
        if not getattr(arguments, name) > 0:
            parser.error(f"--{name.replace('_', '-')}: expected more than 0, got {getattr(arguments, name)}")
    pythons = {"torch": arguments.torch_python}
    del arguments.torch_python
    return arguments, pythons


def main():
    settings, pythons = parse_arguments()
    report = measure(pythons, settings)
    failed = conclude(report, settings)
    if settings.missing == "fail":
        failed |= any("why" in engine for row in report["rows"] for engine in row["engines"].values())
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
