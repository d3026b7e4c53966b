#!/usr/bin/env python3
"""Makes a photograph with text to read: three signs, unevenly lit and seen at an angle, before a real one.

Prints the lines that were written, in reading order.
"""
import argparse
import pathlib
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))
import program

# Lines, letter height, text and board colours, and where the board's corners come to lie in a photograph of
# 1280 x 853: top left, top right, bottom right, bottom left.
SIGNS = [
    (["Visitor Entrance", "Open daily 9:30 - 17:45", "Tickets: 24 Yuan"], 64, (250, 248, 235), (38, 70, 110),
     [(95, 420), (655, 455), (640, 690), (80, 705)]),
    (["Platform 7", "Express to Dunmore"], 60, (30, 30, 30), (240, 205, 70),
     [(745, 130), (1215, 85), (1225, 245), (750, 265)]),
    (["No photography", "beyond this point"], 60, (170, 20, 20), (245, 242, 236),
     [(760, 520), (1200, 560), (1190, 720), (745, 690)]),
]


def board(lines, size, ink, ground):
    """A painted board with the lines centred on it."""
    font = ImageFont.load_default(size=size)
    widest = max(font.getlength(line) for line in lines)
    image = Image.new("RGB", (round(widest) + 2 * size, round(len(lines) * size * 1.6) + size), ground)
    draw = ImageDraw.Draw(image)
    draw.rectangle((8, 8, image.width - 9, image.height - 9), outline=ink, width=5)
    for row, line in enumerate(lines):
        draw.text((image.width / 2, size * (0.5 + 1.6 * row + 0.8)), line, fill=ink, font=font, anchor="mm")
    return image


def perspective(corners, width, height):
    """Pillow's coefficients of the map from the photograph to a board of width x height."""
    rows, values = [], []
    for (x, y), (u, v) in zip(corners, [(0, 0), (width, 0), (width, height), (0, height)]):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.linalg.solve(np.array(rows, float), np.array(values, float))


def make(background, seed):
    photo = background.convert("RGB").resize((1280, 853), Image.Resampling.LANCZOS)
    for lines, size, ink, ground, corners in SIGNS:
        image = board(lines, size, ink, ground)
        view = (photo.size, Image.Transform.PERSPECTIVE, perspective(corners, *image.size),
                Image.Resampling.BICUBIC)
        seen, shape = image.transform(*view), Image.new("L", image.size, 255).transform(*view)
        shadow = shape.filter(ImageFilter.GaussianBlur(9)).point(lambda value: value * 0.6)
        photo.paste((20, 20, 20), (12, 14), shadow)
        photo.paste(seen, (0, 0), shape)

    # Light that falls off to one side, a lens that is a little soft, and the noise of a sensor.
    rng = np.random.default_rng(seed)
    pixels = np.asarray(photo.filter(ImageFilter.GaussianBlur(0.8)), float)
    light = np.outer(np.linspace(1.05, 0.85, photo.height), np.linspace(1.1, 0.75, photo.width))
    pixels = pixels * light[:, :, None] + rng.normal(0, 5, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("background", help="any photograph, for example sklearn/china.jpg of the models")
    parser.add_argument("output", help="the JPEG or PNG file to write")
    parser.add_argument("--turn", type=int, default=0, choices=(0, 90, 180, 270), help="turn the photograph")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    options = parser.parse_args()
    with Image.open(options.background) as background:
        photo = make(background, options.seed)
    photo.rotate(options.turn, expand=True).save(options.output, quality=95, subsampling=0)
    signs = sorted(SIGNS, key=lambda sign: sign[4][0][1])
    print("\n".join(line for sign in signs for line in sign[0]))


if __name__ == "__main__":
    program.run(main)
