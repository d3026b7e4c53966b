#!/usr/bin/env python3
"""Where the time of one run goes, from the call in Python down to the kernels: for models so small that it matters.

    python bench/overhead.py [--threads N] [ROW...]      (default: silero_vad, magika; the rows of bench/rows.py)

Medians in microseconds. "in Python" is what Python code does around the binding, "binding" what makes arrays of values
and values of arrays, "session" what a run takes besides its kernels: checking feeds, finding the plan, putting tensors
in their places. Kernels are timed one by one (sardonyx bench --per-op), which lets each wait for the clock.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np

import sardonyx as sx
from rows import ROOT, ROWS
from sardonyx import _values

SECONDS = 2


def median_us(function):
    times, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def measure(row, threads):
    feeds = row.inputs()
    session = sx.InferenceSession(row.path(), threads=threads, free_dimensions=row.dimensions)
    converted = {name: _values.to_binding(value) for name, value in feeds.items()}
    called = median_us(lambda: session.run(None, feeds))
    bound = median_us(lambda: session._session.run([], converted, {}, None))
    program = pathlib.Path(os.environ.get("SARDONYX_BUILD") or ROOT / "build") / "sardonyx"
    with tempfile.TemporaryDirectory() as folder:
        arguments = []
        for name, value in feeds.items():
            np.save(f"{folder}/{name}.npy", value)
            arguments += ["-i", f"{name}={folder}/{name}.npy"]
        for name, size in row.dimensions.items():
            arguments += ["--dim", f"{name}={size}"]
        done = subprocess.run([program, "bench", row.path(), "--per-op", "--json", "--threads", str(threads),
                               "--seconds", str(SECONDS), *arguments], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    run = result["latency_ms"]["p50"] * 1e3
    inner = [1e3 * row["ms"] for row in result["operators"] if row["operator"] not in ("If", "Loop", "Scan")]
    kernels = min(sum(inner), run)
    return {"in Python": called - bound, "binding": bound - run, "session": run - kernels, "kernels": kernels,
            "together": called}


def main():
    parser = argparse.ArgumentParser(description="Where the time of one run goes, from the call in Python down.")
    parser.add_argument("rows", nargs="*", default=["silero_vad", "magika"], metavar="ROW")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    known = {row.name: row for row in ROWS}
    for name in arguments.rows:
        if name not in known:
            parser.error(f"row: expected one of {', '.join(known)}, got {name!r}")
    for name in arguments.rows:
        print(name, *(f"{what} {us:.1f}" for what, us in measure(known[name], arguments.threads).items()), sep="  ")


if __name__ == "__main__":
    main()
