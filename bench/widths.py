#!/usr/bin/env python3
"""How long the first run at a new shape takes, next to the runs after it: PP-OCRv4 recognition at 20 widths.

    python bench/widths.py [--threads N] [--runs N] [--model FILE --input NAME --shape 1,3,48,W]

One session runs once at any width; then, for each of 20 widths from 96 to 1100 in a shuffled order, the first run and
the median of the runs after it are timed. The figure is the median over the widths of first / median.
"""
import argparse
import os
import statistics
import time

import numpy as np

import sardonyx as sx
from rows import FETCHED


def main():
    parser = argparse.ArgumentParser(description="The first run at a new shape, next to the runs after it.")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--runs", type=int, default=7, help="after the first at each width (default: %(default)s)")
    parser.add_argument("--model", default=FETCHED / "ppocr/ch_PP-OCRv4_rec_infer.onnx")
    parser.add_argument("--input", default="x")
    parser.add_argument("--shape", default="1,3,48,W", help="W stands for the width (default: %(default)s)")
    arguments = parser.parse_args()
    shape = arguments.shape.split(",")
    rng = np.random.default_rng(0)

    def run(width):
        dims = [width if d == "W" else int(d) for d in shape]
        values = {arguments.input: rng.standard_normal(dims).astype(np.float32)}
        start = time.perf_counter()
        session.run(None, values)
        return (time.perf_counter() - start) * 1e3

    session = sx.InferenceSession(arguments.model, threads=arguments.threads)
    widths = [int(w) for w in np.linspace(96, 1100, 20)]
    print(f"very first run, at 320: {run(320):.1f} ms")
    ratios = []
    for width in rng.permutation(widths):
        first = run(int(width))
        steady = statistics.median(run(int(width)) for _ in range(arguments.runs))
        ratios.append(first / steady)
        print(f"width {width}: first {first:.2f} ms, then {steady:.2f} ms, {ratios[-1]:.2f} times")
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    print(f"first run / steady run over {len(ratios)} widths: median {middle:.2f}, quartiles {low:.2f}, {high:.2f}")


if __name__ == "__main__":
    main()
