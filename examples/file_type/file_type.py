#!/usr/bin/env python3
"""Names the type of files by their content, with the Magika model: file_type.py FILE..."""
import json
import os
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))
import program

WHITESPACE = b" \t\n\r\v\f"
BATCH = 64


class FileTypes:
    """The model, and the rules around it that come with it in its configuration."""

    def __init__(self, options):
        self.session = program.open_session(options, "magika", "model.onnx")
        self.config = read_json(program.model_file(options, "magika", "config.min.json"))
        self.kinds = read_json(program.model_file(options, "magika", "content_types_kb.min.json"))

    def features(self, path):
        """The model's input for a file, or the name of its type when that needs no model."""
        if os.path.isdir(path):
            return "directory"
        block = self.config["block_size"]
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            first = file.read(block)
            file.seek(max(0, size - block))
            last = file.read(block)
        if not first:
            return "empty"
        beginning = first.lstrip(WHITESPACE)[:self.config["beg_size"]]
        ending = last.rstrip(WHITESPACE)[-self.config["end_size"]:]
        # The model is not asked about fewer bytes than it was trained for.
        if min(size, len(beginning)) < self.config["min_file_size_for_dl"]:
            return "txt" if is_utf8(first) else "unknown"
        length = self.config["beg_size"] + self.config["end_size"]
        row = np.full(length, self.config["padding_token"], np.int32)
        row[:len(beginning)] = np.frombuffer(beginning, np.uint8)
        row[length - len(ending):] = np.frombuffer(ending, np.uint8)
        return row

    def decide(self, scores):
        """The name of the type and its score, given the model's answer."""
        best = int(np.argmax(scores))
        score = float(scores[best])
        label = self.config["target_labels_space"][best]
        needed = self.config["thresholds"].get(label, self.config["medium_confidence_threshold"])
        name = self.config["overwrite_map"].get(label, label)
        if score < needed:  # too unsure to say more than text or not text
            name = "txt" if self.kinds[name]["is_text"] else "unknown"
        return name, score

    def identify(self, paths):
        """One (type, score) for each path; an OSError stands in the place of a file that cannot be read."""
        results = [None] * len(paths)
        for start in range(0, len(paths), BATCH):
            rows, places = [], []
            for place in range(start, min(start + BATCH, len(paths))):
                try:
                    found = self.features(paths[place])
                except OSError as error:
                    results[place] = error
                    continue
                if isinstance(found, str):
                    results[place] = (found, 1.0)
                else:
                    rows.append(found)
                    places.append(place)
            if rows:
                scores = self.session.run(None, {self.session.get_inputs()[0].name: np.stack(rows)})[0]
                for place, row in zip(places, scores):
                    results[place] = self.decide(row)
        return results


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def is_utf8(data):
    try:
        data.decode("utf-8")
        return True
    except UnicodeDecodeError:
        return False


def main():
    parser = program.parser(__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE")
    options = parser.parse_args()

    model = FileTypes(options)
    report, failed = [], False
    for path, result in zip(options.files, model.identify(options.files)):
        if isinstance(result, OSError):
            failed = True
            print(f"file_type: {path}: {result.strerror}", file=sys.stderr)
            continue
        name, score = result
        kind = model.kinds.get(name, {})
        report.append({"path": path, "type": name, "score": score,
                       "description": kind.get("description") or name,
                       "mime_type": kind.get("mime_type") or ""})
    if options.json:
        program.print_json(report)
    else:
        width = max((len(entry["path"]) for entry in report), default=0)
        for entry in report:
            print(f"{entry['path']:<{width}}  {entry['type']:<12} {entry['score']:.3f}"
                  f"  {entry['description']}")
    return 3 if failed else 0


if __name__ == "__main__":
    program.run(main)
