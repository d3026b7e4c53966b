"""Runs the command line of the build under test."""

import os
import pathlib
import subprocess

PROGRAM = pathlib.Path(os.environ.get("SARDONYX_BUILD", pathlib.Path(__file__).parents[2] / "build")) / "sardonyx"


def sardonyx(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=120)
