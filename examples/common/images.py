"""Reading photographs, and drawing on them what a model found, with Pillow."""
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

# A photograph of more pixels than this is refused before it is decoded.
MAX_PIXELS = 100_000_000
COLOURS = [(230, 25, 75), (0, 130, 200), (60, 180, 75), (245, 130, 48), (145, 30, 180), (0, 150, 150)]


def read(path):
    """The JPEG or PNG file as an RGB image, turned the right way up."""
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, expected at most {MAX_PIXELS}")
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        text = str(error)
        raise ValueError(text if str(path) in text else f"{path}: {text}") from None


def resize(image, width, height):
    """Bilinear, and averaging when it shrinks."""
    return image.resize((width, height), Image.Resampling.BILINEAR)


def planes(image, mean, deviation):
    """The image as the models take it: float32 [3, height, width], (x / 255 - mean) / deviation."""
    pixels = np.asarray(image, np.float32).transpose(2, 0, 1)
    return (pixels / 255 - np.float32(mean)) / np.float32(deviation)


def colour(index):
    return COLOURS[index % len(COLOURS)]


def outline(image, corners, index, label):
    """Draws a closed polygon with a label above its topmost corner."""
    draw = ImageDraw.Draw(image)
    thickness = max(2, min(image.size) // 300)
    points = [tuple(corner) for corner in corners]
    draw.line(points + points[:1], fill=colour(index), width=thickness)
    font = ImageFont.load_default(size=max(12, min(image.size) // 40))
    top = min(points, key=lambda point: (point[1], point[0]))
    box = draw.textbbox((0, 0), label, font=font)
    x = max(0, min(top[0], image.width - box[2]))
    y = max(0, top[1] - box[3] - thickness)
    draw.rectangle((x, y, x + box[2], y + box[3]), fill=colour(index))
    draw.text((x, y), label, fill="white", font=font)


def write_png(image, path):
    image.save(path, format="PNG")
