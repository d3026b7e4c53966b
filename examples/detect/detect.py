#!/usr/bin/env python3
"""Finds people in a photograph with a YOLOv8 model: faces and other parts, each with a box and a score."""
import ast
import pathlib
import sys

import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))
import images
import program

OVERLAP = 0.45  # of two boxes of one class that overlap more (intersection over union), the better one stays


def letterbox(image, size):
    """The image in the top left corner of a black square, and the scale that got it there."""
    scale = size / max(image.size)
    square = Image.new("RGB", (size, size))
    square.paste(images.resize(image, *(max(1, round(side * scale)) for side in image.size)))
    return square, scale


def suppress(boxes, scores, classes):
    """Indices of the boxes that no better box of the same class covers, best first."""
    left, top = boxes[:, 0], boxes[:, 1]
    right, bottom = left + boxes[:, 2], top + boxes[:, 3]
    area = boxes[:, 2] * boxes[:, 3]
    order, kept = np.argsort(-scores, kind="stable"), []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(int(best))
        width = np.minimum(right[best], right[order]) - np.maximum(left[best], left[order])
        height = np.minimum(bottom[best], bottom[order]) - np.maximum(top[best], top[order])
        common = width.clip(0) * height.clip(0)
        covered = common > OVERLAP * (area[best] + area[order] - common)
        order = order[~(covered & (classes[order] == classes[best]))]
    return kept


def detect(session, image, size, least):
    """A dict of class, score and box [x, y, width, height] in pixels of the image for each thing found."""
    names = ast.literal_eval(session.metadata["names"])
    square, scale = letterbox(image, size)
    x = images.planes(square, 0, 1)[None]
    found = session.run(None, {session.get_inputs()[0].name: x})[0][0]  # [4 + classes, places]
    classes, scores = found[4:].argmax(axis=0), found[4:].max(axis=0)
    sure = scores >= least
    classes, scores = classes[sure], scores[sure]
    centre, extent = found[:2, sure].T / scale, found[2:4, sure].T / scale
    first = np.clip(centre - extent / 2, 0, image.size)
    end = np.clip(centre + extent / 2, 0, image.size)
    boxes = np.concatenate([first, end - first], axis=1)
    return [{"class": names[int(classes[i])], "score": float(scores[i]),
             "box": [round(float(value), 1) for value in boxes[i]]} for i in suppress(boxes, scores, classes)]


def main():
    parser = program.parser(__doc__)
    parser.add_argument("photo", help="a JPEG or PNG file")
    parser.add_argument("-o", "--output", metavar="PNG", help="write the photograph with the boxes here")
    parser.add_argument("--least", type=program.fraction, default=0.25, metavar="P",
                        help="leave out what has a lower score (default: %(default)s)")
    parser.add_argument("--size", type=int, default=320, metavar="N",
                        help="side of the square the model sees, a multiple of 32 (default: %(default)s)")
    options = parser.parse_args()
    if options.size % 32 or not 32 <= options.size <= 2048:
        parser.error(f"--size: expected a multiple of 32 up to 2048, got {options.size}")

    image = images.read(options.photo)
    found = detect(program.open_session(options, "nudenet", "320n.onnx"), image, options.size, options.least)
    if options.json:
        program.print_json(found)
    else:
        for thing in found:
            x, y, width, height = thing["box"]
            print(f"{thing['score']:.3f}  {width:.0f} x {height:.0f} at ({x:.0f}, {y:.0f})  {thing['class']}")
    if options.output:
        for index, thing in enumerate(found):
            x, y, width, height = thing["box"]
            corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
            images.outline(image, corners, index, f"{thing['class']} {thing['score']:.2f}")
        images.write_png(image, options.output)


if __name__ == "__main__":
    program.run(main)
