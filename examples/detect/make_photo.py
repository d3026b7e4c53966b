#!/usr/bin/env python3
"""Makes a picture with faces to find: two drawn portraits in front of a photograph."""
import argparse
import pathlib
import sys

from PIL import Image, ImageDraw, ImageFilter

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))
import program


def portrait(skin, hair, coat):
    """A face and shoulders of 400 x 440 on a transparent ground."""
    image = Image.new("RGBA", (400, 440))
    draw = ImageDraw.Draw(image)
    darker = tuple(value * 9 // 10 for value in skin)
    draw.pieslice((20, 350, 380, 640), 180, 360, fill=coat)
    draw.rectangle((160, 310, 240, 400), fill=darker)
    draw.ellipse((100, 40, 300, 340), fill=skin)
    draw.pieslice((90, 20, 310, 260), 180, 360, fill=hair)
    draw.rectangle((110, 140, 290, 160), fill=skin)
    for x in (150, 250):
        draw.ellipse((x - 22, 155, x + 22, 180), fill="white")
        draw.ellipse((x - 9, 157, x + 9, 177), fill=(60, 40, 20))
        draw.line((x - 25, 143, x + 25, 139), fill=hair, width=6)
    draw.polygon([(200, 180), (185, 240), (215, 240)], fill=darker)
    draw.ellipse((160, 270, 240, 295), fill=(180, 80, 80))
    draw.line((160, 282, 240, 282), fill=(110, 40, 40), width=3)
    return image.filter(ImageFilter.GaussianBlur(4))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("background", help="any photograph, for example sklearn/china.jpg of the models")
    parser.add_argument("output", help="the JPEG or PNG file to write")
    options = parser.parse_args()
    with Image.open(options.background) as background:
        photo = background.convert("RGB").resize((1280, 853), Image.Resampling.LANCZOS)
    for place, size, colours in (((150, 413), (400, 440), ((224, 172, 140), (60, 40, 20), (40, 60, 120))),
                                 ((760, 468), (350, 385), ((236, 190, 160), (90, 60, 30), (120, 40, 50)))):
        person = portrait(*colours).resize(size, Image.Resampling.BILINEAR)
        photo.paste(person, place, person)
    photo.save(options.output, quality=95, subsampling=0)


if __name__ == "__main__":
    program.run(main)
