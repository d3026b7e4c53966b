#!/usr/bin/env python3
"""Measures Sardonyx against other engines on whole models: how long a run takes, side by side.

    python bench/models.py [--threads N] [--rows a,b] [--rounds N] [--round-ms MS] [--json FILE]
                           [--python ENGINE=PYTHON]...

Every engine runs in a process of its own that loads the model once. The engines take turns, one at a time, for
many rounds; the figure of a row is the median over the rounds of a peer's time divided by Sardonyx's (over 1:
Sardonyx is faster). All engines get the same input, and their outputs are compared with onnxruntime's: a row in
which they disagree has no figure. docs/performance.md says more.
Exit code: 0 measured, 1 a row failed or disagreed (or, with --missing fail, could not run), 2 usage.
"""
import argparse
import collections
import contextlib
import json
import os
import pathlib
import platform
import select
import subprocess
import sys
import tempfile
import time

import numpy as np

from rows import ROOT, ROWS, Missing, quantized_rows

OURS = ("sardonyx", "sardonyx-medium")
REFERENCE = "onnxruntime"
ENGINES = {"highest": ["sardonyx", REFERENCE, "openvino"],
           "medium": ["sardonyx-medium", REFERENCE, "openvino-bf16"],
           "quantized": ["sardonyx", REFERENCE]}
QUIET = 0.05  # share of the CPUs that other programs may use before the report says so
# How far an output may be off: what is taken of the differences and of the values, and their ratio. With bf16
# single elements may differ by much, for instance at the edge of an object; in quantized models half a step that is
# rounded the other way comes out much larger.
MEASURES = {"highest": ("largest value", lambda values: np.abs(values).max(initial=0)),
            "medium": ("root mean square", lambda values: np.sqrt(np.mean(values**2)) if values.size else 0.0)}
MEASURES["quantized"] = MEASURES["medium"]
TOLERANCE = {"highest": 1e-3, "medium": 0.1, "quantized": 0.15}
TIME_LIMIT = 600  # seconds that an engine may take for one answer
PAUSE = 0.02  # seconds between turns, for the threads of the engine before to go to sleep


class EngineError(Exception):
    """An engine could not do it. `refused`: it says that it does not offer it."""

    def __init__(self, message, refused=False):
        super().__init__(message)
        self.refused = refused


class Engine:
    """A process that runs bench/engine.py, for one engine and one model."""

    def __init__(self, name, python):
        self.name = name
        self.log = tempfile.TemporaryFile("w+")
        environment = dict(os.environ)
        build = pathlib.Path(os.environ.get("SARDONYX_BUILD") or ROOT / "build") / "python"
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(build)]))
        try:
            self.process = subprocess.Popen([python, ROOT / "bench/engine.py", name], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=self.log, env=environment)
        except OSError as error:
            self.log.close()
            raise EngineError(f"{name}: {python}: {error.strerror}") from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        self.log.close()

    def ask(self, what, **request):
        """The answer to one request of bench/engine.py."""
        try:
            self.process.stdin.write(json.dumps({"do": what, **request}).encode() + b"\n")
            self.process.stdin.flush()
            if not select.select([self.process.stdout], [], [], TIME_LIMIT)[0]:
                raise EngineError(f"{self.name}: {what}: no answer after {TIME_LIMIT} s")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            self.log.seek(0)
            said = self.log.read().strip().splitlines()[-1:] or ["without a word"]
            raise EngineError(f"{self.name}: {what}: ended with exit code {self.process.wait()}: {said[0]}")
        answer = json.loads(line)
        for problem in ("refused", "error"):
            if problem in answer:
                raise EngineError(f"{self.name}: {' '.join(answer[problem].split())}", problem == "refused")
        return answer


def disagreement(got, expected, size):
    """The size of the difference of two arrays relative to that of the values expected, or why there is none."""
    if got.shape != expected.shape:
        return f"expected shape {expected.shape}, got {got.shape}"
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected)
    if not np.array_equal(got[~finite], expected[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
        return "NaN or infinity elsewhere"
    scale, difference = size(expected[finite]), size(got[finite] - expected[finite])
    return float(difference / scale) if scale else float(difference)


def compare(outputs, reference, precision, tolerance):
    """({engine: largest error}, complaints) of the outputs {engine: {name: array}} against those of one of them.
    An engine may call an output by a name of its own: the order counts."""
    errors, complaints = {}, []
    measure, size = MEASURES[precision]
    for engine, arrays in outputs.items():
        if engine == reference:
            continue
        if len(arrays) != len(outputs[reference]):
            complaints.append(f"{engine}: expected {len(outputs[reference])} outputs, got {len(arrays)}")
            continue
        errors[engine] = 0.0
        for got, (name, expected) in zip(arrays.values(), outputs[reference].items()):
            error = disagreement(got, expected, size)
            if isinstance(error, str):
                complaints.append(f"{engine}: output {name}: {error}")
            else:
                errors[engine] = max(errors[engine], error)
                if not error <= tolerance:
                    complaints.append(f"{engine}: output {name}: expected within {tolerance:g} of {reference}'s "
                                      f"{measure}, off by {error:.3g}")
    return errors, complaints


def quartiles(values):
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {"median": float(middle), "lower_quartile": float(low), "upper_quartile": float(high)}


def busy_seconds():
    """CPU seconds that all programs of the machine have used, with what its host took away."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def time_rounds(children, rounds, round_ms):
    """({engine: [milliseconds a run in each round]}, the same in CPU time, share of the machine's CPUs that
    other programs used meanwhile). The engines take turns."""
    wall, cpu = {name: [] for name in children}, {name: [] for name in children}
    total = others = 0
    guess = {name: child.ask("time", warm_up=1, runs=2)["run_ms"] for name, child in children.items()}
    for _ in range(rounds):
        for name, child in children.items():
            time.sleep(PAUSE)
            runs = max(1, round(round_ms / max(guess[name], 1e-3)))
            warm_up = 1 + runs // 10
            start, busy = time.monotonic(), busy_seconds()
            answer = child.ask("time", warm_up=warm_up, runs=runs)
            total += (time.monotonic() - start) * os.cpu_count()
            others += busy_seconds() - busy - answer["cpu_ms"] / 1000 * (warm_up + runs)
            guess[name] = answer["run_ms"]
            wall[name].append(answer["run_ms"])
            cpu[name].append(answer["cpu_ms"])
    return wall, cpu, min(max(others / total, 0), 1)


def load(child, row, folder, threads):
    """Loads the model of a row and runs it once: (load and first run in milliseconds, outputs)."""
    found = child.ask("load", model=str(row.path()), inputs=str(folder / "inputs.npz"),
                      dimensions=row.dimensions, threads=threads)
    first = child.ask("run", outputs=str(folder / "outputs.npz"))
    with np.load(folder / "outputs.npz") as file:
        outputs = dict(zip(first["names"], (file[index] for index in file.files)))
    return {"load_ms": found["load_ms"], "first_run_ms": first["run_ms"]}, outputs


def measure_row(row, children, folder, settings):
    """What the report says of a row: "status" is measured, skipped or failed, and "why"."""
    result = {"row": row.name, "engines": {}}
    try:
        np.savez(folder / "inputs.npz", **row.inputs())
        expected = row.expected()
        row.path()
    except Missing as error:
        return {**result, "status": "skipped", "why": str(error), "missing": True}

    outputs = {"torch": expected} if expected else {}
    ours = next(name for name in children if name in OURS)
    for name in list(children):
        try:
            result["engines"][name], outputs[name] = load(children[name], row, folder, settings.threads)
        except EngineError as error:
            result["engines"][name] = {"why": str(error)}
            if name == ours:
                return {**result, "status": "skipped" if error.refused else "failed", "why": str(error)}
            del children[name]

    reference = REFERENCE if REFERENCE in children else "torch"
    if reference not in outputs:
        return {**result, "status": "skipped", "why": f"{REFERENCE}, with which outputs are compared, did not run"}
    errors, complaints = compare(outputs, reference, settings.precision, settings.tolerance)
    result.update(reference=reference, errors=errors)
    if complaints:
        return {**result, "status": "failed", "why": "; ".join(complaints)}
    del outputs

    return time_row(result, children, settings)


def time_row(result, children, settings):
    """The report of a row whose engines agree, with their times, memory, and ratios to Sardonyx's time where it is
    among them."""
    try:
        wall, cpu, result["others_share"] = time_rounds(children, settings.rounds, settings.round_ms)
        for name, child in children.items():
            result["engines"][name].update(
                rounds_ms=wall[name], run_ms=quartiles(wall[name]),
                rounds_cpu_ms=cpu[name], cpu_ms=quartiles(cpu[name]), **child.ask("memory"))
    except EngineError as error:
        return {**result, "status": "failed", "why": str(error)}
    times = {"wall": wall, "cpu": cpu}[settings.clock]
    ours = next((name for name in children if name in OURS), None)
    result["ratios"] = {name: quartiles(np.divide(times[name], times[ours]))
                        for name in children if ours and name != ours}
    result["best_peer"] = min(result["ratios"], key=lambda name: result["ratios"][name]["median"], default=None)
    return {**result, "status": "measured"}


def probe(pythons, settings):
    """({engine: what is known of it}, [(name, Python)] of those that are there)."""
    engines, available = {}, []
    for name in settings.engines:
        python = pythons.get(name) or pythons.get(name.split("-")[0]) or sys.executable
        engines[name] = {"python": python}
        try:
            with Engine(name, python) as child:
                engines[name].update(child.ask("hello"))
                available.append((name, python))
        except EngineError as error:
            engines[name]["why"] = str(error)
            say(f"without {error}")
    return engines, available


def measure(rows, pythons, settings):
    """Probes the engines, then measures row after row; returns the whole report."""
    engines, available = probe(pythons, settings)
    report = {"machine": machine(), "settings": vars(settings), "engines": engines, "rows": []}
    for row in rows:
        with contextlib.ExitStack() as stack:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            if any(name in OURS for name, _ in available):
                children = {name: stack.enter_context(Engine(name, python)) for name, python in available}
                result = measure_row(row, children, folder, settings)
            else:
                result = {"row": row.name, "engines": {}, "status": "failed", "why": "sardonyx is not there"}
        report["rows"].append(result)
        say(f"{row.name}: {result.get('why') or result['status']}")
    report["geometric_means"] = geometric_means(report["rows"])
    report["machine"]["load_average_after"] = os.getloadavg()
    return report


def geometric_means(rows):
    """{peer, or "best peer": {"ratio", "rows"}} over the rows that have a figure for it."""
    ratios = collections.defaultdict(list)
    for row in rows:
        for peer, ratio in row.get("ratios", {}).items():
            ratios[peer].append(ratio["median"])
        if row.get("best_peer"):
            ratios["best peer"].append(row["ratios"][row["best_peer"]]["median"])
    return {peer: {"ratio": float(np.exp(np.mean(np.log(found)))), "rows": len(found)}
            for peer, found in ratios.items()}


def machine():
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {"cpu": names[0] if names else platform.machine(), "cpus": len(os.sched_getaffinity(0)),
            "system": platform.platform(), "load_average_before": os.getloadavg()}


def say(text):
    print(text, file=sys.stderr, flush=True)


def print_table(head, lines):
    """Left-aligned first column, right-aligned others."""
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    for line in [head, *lines]:
        cells = [cell.ljust(width) if column == 0 else cell.rjust(width)
                 for column, (cell, width) in enumerate(zip(line, widths))]
        print("  ".join(cells).rstrip())


def number(value):
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def print_report(report):
    settings = report["settings"]
    names = [name for name, engine in report["engines"].items() if "why" not in engine]
    versions = ", ".join(f"{name} {report['engines'][name]['version']}" for name in names)
    print(f"\n{report['machine']['cpu']}, {settings['threads']} threads, precision {settings['precision']}, "
          f"{settings['rounds']} rounds of {settings['round_ms']} ms\n{versions}\n")
    measured = [row for row in report["rows"] if row["status"] == "measured"]

    def cells(row, describe):
        engines = [row["engines"].get(name, {}) for name in names]
        return [describe(engine) if "run_ms" in engine else "-" for engine in engines]

    lines, clock = [], {"wall": "run_ms", "cpu": "cpu_ms"}[settings["clock"]]
    for row in measured:
        ratio = row["ratios"].get(row["best_peer"])
        spread = [ratio[key] for key in ("median", "lower_quartile", "upper_quartile")] if ratio else []
        lines.append([row["row"], *cells(row, lambda engine: number(engine[clock]["median"])),
                      row["best_peer"] or "-", *([f"{value:.2f}" for value in spread] or ["-"] * 3)])
    unit = "CPU ms a run" if settings["clock"] == "cpu" else "ms a run"
    print_table([unit, *names, "best peer", "peer/ours", "25 %", "75 %"], lines)
    for peer, mean in report["geometric_means"].items():
        print(f"geometric mean of {peer}/ours over {mean['rows']} rows: {mean['ratio']:.3f}")
    others = np.mean([row["others_share"] for row in measured]) if measured else 0
    if others > QUIET:
        print(f"Other programs used {others:.0%} of the machine's CPUs meanwhile: measure again when it is quiet.")
    print()
    print_table(["load ms/first run ms/peak MB", *names],
                [[row["row"], *cells(row, lambda engine: "/".join(
                    number(engine[key]) for key in ("load_ms", "first_run_ms", "peak_mb")))] for row in measured])
    print()
    for name, engine in report["engines"].items():
        if "why" in engine:
            print(f"engine left out: {engine['why']}")
    for row in report["rows"]:
        for engine in row["engines"].values():
            if "why" in engine and engine["why"] != row.get("why"):
                print(f"{row['row']}: left out: {engine['why']}")
        if row["status"] != "measured":
            print(f"{row['row']}: {row['status']}: {row['why']}")


def parse_arguments():
    parser = argparse.ArgumentParser(description="Measures Sardonyx against other engines on whole models.",
                                     epilog="docs/performance.md says how, and what the table means.")
    add = parser.add_argument
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every engine (default: %(default)s)")
    add("--precision", choices=["highest", "medium"], default="highest",
        help="highest: f32 as f32; medium: bf16 where it pays")
    add("--quantized", metavar="DIR", help="the models that bench/quantize_models.py wrote there")
    add("--rows", metavar="A,B", help="only these rows: " + ", ".join(row.name for row in ROWS))
    add("--engines", metavar="A,B", help="only these engines: " + ", ".join(ENGINES["highest"]) +
        "; for medium " + ", ".join(ENGINES["medium"]))
    add("--python", metavar="ENGINE=PYTHON", action="append", default=[],
        help="the Python in which an engine is installed (default: this one)")
    add("--rounds", type=int, default=15, help="default: %(default)s")
    add("--round-ms", type=float, default=300, help="how long an engine runs in a round (default: %(default)s)")
    add("--clock", choices=["wall", "cpu"], default="wall", help="what is compared: wall time, or CPU time, "
        "which with one thread tells something on a busy machine too (default: %(default)s)")
    add("--tolerance", type=float, help="how far outputs may differ, of the largest value, or for medium of the "
        "root mean square (default: {highest:g}, {medium:g}, {quantized:g})".format(**TOLERANCE))
    add("--missing", choices=["skip", "fail"], default="skip", help="what to do without a model or an engine")
    add("--json", metavar="FILE", help="writes everything that was measured")
    arguments = parser.parse_args()
    rows = ROWS
    if arguments.quantized:
        arguments.precision, rows = "quantized", quantized_rows(pathlib.Path(arguments.quantized))

    def chosen(text, all_names, what):
        names = text.split(",") if text else all_names
        for name in names:
            if name not in all_names:
                parser.error(f"{what}: expected some of {', '.join(all_names)}, got {name!r}")
        return names

    names = chosen(arguments.rows, [row.name for row in rows], "--rows")
    rows = [row for row in rows if row.name in names]
    arguments.rows = names
    arguments.engines = chosen(arguments.engines, ENGINES[arguments.precision], "--engines")
    if arguments.clock == "cpu" and arguments.threads != 1:
        parser.error("--clock cpu: expected --threads 1: more threads wait for each other, and some do so busily")
    if arguments.tolerance is None:
        arguments.tolerance = TOLERANCE[arguments.precision]
    for name in ("threads", "rounds", "round_ms"):
        if not getattr(arguments, name) > 0:
            parser.error(f"--{name.replace('_', '-')}: expected more than 0, got {getattr(arguments, name)}")
    pythons = {}
    for text in arguments.python:
        name, equals, python = text.partition("=")
        if not equals or name not in ENGINES["highest"] + ENGINES["medium"]:
            parser.error(f"--python: expected ENGINE=PYTHON, got {text!r}")
        pythons[name] = python
    del arguments.python
    return arguments, pythons, rows


def conclude(report, settings):
    """Prints the report and writes it where asked; whether a row failed, or what must not be missing is."""
    print_report(report)
    if settings.json:
        pathlib.Path(settings.json).write_text(json.dumps(report, indent=1) + "\n")
    failed = any(row["status"] == "failed" for row in report["rows"])
    if settings.missing == "fail":
        failed |= any("why" in engine for engine in report["engines"].values())
        failed |= any(row.get("missing") for row in report["rows"])
    return failed


def main():
    settings, pythons, rows = parse_arguments()
    return int(conclude(measure(rows, pythons, settings), settings))


if __name__ == "__main__":
    sys.exit(main())
