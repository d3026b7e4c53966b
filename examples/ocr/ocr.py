#!/usr/bin/env python3
"""Reads the text in a photograph with the PP-OCR models: where text is, which way up it is, what it says."""
import math
import pathlib
import sys

import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))
import geometry
import images
import program

SHORT_SIDE, LONG_SIDE = 736, 2000  # of the picture in which text is looked for
TEXT_PIXEL = 0.3                   # a pixel of text has at least this probability
BOX_SCORE = 0.5                    # and the mean over a box is at least this
GROW = 1.6                         # the model marks the core of a line; boxes are grown by this ratio
LINE_HEIGHT = 48                   # of the pictures of single lines
UPSIDE_DOWN = 0.9                  # a line is turned when the direction model is as sure as this


def blue_green_red(image, mean=0.5, deviation=0.5):
    """[1, 3, height, width] as the PP-OCR models were trained: channels in BGR order."""
    return np.ascontiguousarray(images.planes(image, mean, deviation)[None, ::-1])


def run(session, x):
    return session.run(None, {session.get_inputs()[0].name: x})[0]


class Ocr:
    def __init__(self, options):
        self.detector = program.open_session(options, "ppocr", "ch_PP-OCRv4_det_infer.onnx")
        self.direction = program.open_session(options, "ppocr", "ch_ppocr_mobile_v2.0_cls_infer.onnx")
        self.recogniser = program.open_session(options, "ppocr", "ch_PP-OCRv4_rec_infer.onnx")
        # Class 0 of the recogniser is the gap between characters; a space comes after all others.
        characters = self.recogniser.metadata["character"]
        self.characters = [""] + characters.removesuffix("\n").split("\n") + [" "]

    def read(self, image, least_confidence):
        """The lines in reading order: dicts of text, confidence, box and upside_down."""
        lines = []
        for corners in in_reading_order(self.find(image)):
            line = geometry.crop(image, corners)
            upside_down = self.is_upside_down(line)
            if upside_down:
                line = line.transpose(Image.Transpose.ROTATE_180)
                corners = np.roll(corners, 2, axis=0)
            text, confidence = self.recognise(line)
            if text and confidence >= least_confidence:
                lines.append({"text": text, "confidence": confidence, "upside_down": upside_down,
                              "box": [[round(float(x), 1), round(float(y), 1)] for x, y in corners]})
        return lines

    def find(self, image):
        """The corners of each line of text, from the top left one of the text on."""
        scale = max(1.0, SHORT_SIDE / min(image.size))
        scale = min(scale, LONG_SIDE / max(image.size))
        width, height = (max(32, round(side * scale / 32) * 32) for side in image.size)
        resized = images.resize(image, width, height)
        probability = run(self.detector, blue_green_red(resized))[0, 0]

        boxes = []
        for region in geometry.components(probability > TEXT_PIXEL):
            points = [(x, y) for row, first, end in region for x in (first, end) for y in (row, row + 1)]
            rectangle = geometry.smallest_rectangle(points)
            if min(rectangle.width, rectangle.height) < 3:
                continue
            if geometry.mean_inside(probability, rectangle) < BOX_SCORE:
                continue
            corners = rectangle.grown(GROW).corners() * [image.width / width, image.height / height]
            corners = np.clip(corners, 0, [image.width, image.height])
            across = np.hypot(*(corners[1] - corners[0]))
            down = np.hypot(*(corners[3] - corners[0]))
            if min(across, down) < 3:
                continue
            # A tall box holds a line that runs down (or up) the picture.
            boxes.append(np.roll(corners, -1, axis=0) if down >= 1.5 * across else corners)
        return boxes

    def is_upside_down(self, line):
        x = np.zeros((1, 3, LINE_HEIGHT, 192), np.float32)
        width = min(192, math.ceil(LINE_HEIGHT * line.width / line.height))
        x[..., :width] = blue_green_red(images.resize(line, width, LINE_HEIGHT))
        return bool(run(self.direction, x)[0, 1] > UPSIDE_DOWN)

    def recognise(self, line):
        """The text of one line and the mean probability of its characters."""
        width = max(1, math.ceil(LINE_HEIGHT * line.width / line.height))
        # Widths in steps of 32 keep the number of different input shapes small.
        x = np.zeros((1, 3, LINE_HEIGHT, max(320, math.ceil(width / 32) * 32)), np.float32)
        x[..., :width] = blue_green_red(images.resize(line, width, LINE_HEIGHT))
        steps = run(self.recogniser, x)[0]
        classes, probabilities = steps.argmax(axis=1), steps.max(axis=1)
        # The same class in neighbouring steps is one character; the gap separates repeated ones.
        kept = (classes != 0) & (np.diff(classes, prepend=0) != 0)
        text = "".join(self.characters[c] for c in classes[kept])
        return text, float(probabilities[kept].mean()) if kept.any() else 0.0


def in_reading_order(boxes):
    """From top to bottom; boxes side by side, from left to right."""
    centre = lambda box: box.mean(axis=0)
    rows = []
    for box in sorted(boxes, key=lambda box: centre(box)[1]):
        if rows and centre(box)[1] - centre(rows[-1][0])[1] < np.ptp(rows[-1][0][:, 1]) / 3:
            rows[-1].append(box)
        else:
            rows.append([box])
    return [box for row in rows for box in sorted(row, key=lambda box: centre(box)[0])]


def main():
    parser = program.parser(__doc__)
    parser.add_argument("photo", help="a JPEG or PNG file")
    parser.add_argument("-o", "--output", metavar="PNG",
                        help="write the photograph with the lines marked here")
    parser.add_argument("--least", type=program.fraction, default=0.5, metavar="P",
                        help="leave out lines of a lower confidence (default: %(default)s)")
    options = parser.parse_args()

    image = images.read(options.photo)
    lines = Ocr(options).read(image, options.least)
    if options.json:
        program.print_json(lines)
    else:
        for line in lines:
            x, y = line["box"][0]
            print(f"{line['confidence']:.3f}  at ({x:.0f}, {y:.0f})  {line['text']}")
    if options.output:
        for index, line in enumerate(lines):
            images.outline(image, line["box"], index, f"{line['text']} {line['confidence']:.2f}")
        images.write_png(image, options.output)


if __name__ == "__main__":
    program.run(main)
