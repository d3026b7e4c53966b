"""What the example programs have in common: their options, where models lie, errors and exit codes.

Exit codes: 0 all went well, 2 wrong usage, 3 a file that is missing or broken.
"""
import argparse
import json
import os
import pathlib
import sys

import sardonyx as sx

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def parser(description):
    """A parser with the options that every example has."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--models", metavar="DIR", default=default_models(),
                        help="folder that tools/fetch_models filled, or $SARDONYX_MODELS"
                             " (default: %(default)s)")
    result.add_argument("--threads", type=thread_count, default=0, metavar="N",
                        help="threads to compute with (default: all CPUs this process may use)")
    result.add_argument("--json", action="store_true", help="print the results as JSON")
    return result


def default_models():
    return os.environ.get("SARDONYX_MODELS") or str(REPOSITORY / ".deps" / "models")


def thread_count(text):
    value = int(text)
    if not 0 <= value <= 1024:
        raise argparse.ArgumentTypeError(f"expected 0 to 1024, got {value}")
    return value


def fraction(text):
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected 0 to 1, got {text}")
    return value


def model_file(options, *parts):
    """The path of one file of a model; FileNotFoundError says how to get it."""
    path = os.path.join(options.models, *parts)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: no such file (tools/fetch_models downloads the models)")
    return path


def open_session(options, *parts):
    return sx.InferenceSession(model_file(options, *parts), providers=["cpu"], threads=options.threads)


def print_json(value):
    print(json.dumps(value, ensure_ascii=False, indent=1))


def run(main):
    """Calls main() and turns its errors into a message and an exit code."""
    program = pathlib.Path(sys.argv[0]).stem
    try:
        sys.exit(main() or 0)
    except (OSError, ValueError, sx.Error) as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(3)
