#!/usr/bin/env python3
"""Finds where somebody speaks in a WAV file with the Silero voice activity model."""
import pathlib
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))
import images
import program
import wav

RATE = 16000
WINDOW = 512      # samples the model looks at in one step
CONTEXT = 64      # and those before it, which it wants to see again
HYSTERESIS = 0.15  # speech ends only when the probability is this much below the threshold
MIN_SPEECH, MIN_SILENCE, MARGIN = (round(seconds * RATE) for seconds in (0.25, 0.1, 0.03))


def probabilities(session, sound):
    """The probability of speech in each window."""
    sound = np.concatenate([np.zeros(CONTEXT), sound, np.zeros(-len(sound) % WINDOW)]).astype(np.float32)
    state = np.zeros((2, 1, 128), np.float32)
    rate = np.array(RATE, np.int64)
    result = []
    for start in range(0, len(sound) - CONTEXT, WINDOW):
        window = sound[None, start:start + CONTEXT + WINDOW]
        probability, state = session.run(None, {"input": window, "state": state, "sr": rate})
        result.append(float(probability[0, 0]))
    return result


def intervals(probability, length, threshold):
    """[start, end) in samples of each stretch of speech."""
    found = []
    start = silence = None
    for window, value in enumerate(probability):
        here = window * WINDOW
        if value >= threshold:
            start = here if start is None else start
            silence = None
        elif start is not None and value < max(threshold - HYSTERESIS, 0.01):
            silence = here if silence is None else silence
            if here - silence >= MIN_SILENCE:
                found.append([start, silence])
                start = silence = None
    if start is not None:
        found.append([start, length])
    found = [[first, end] for first, end in found if end - first > MIN_SPEECH]

    # A margin on both sides, or half of the pause where two would overlap.
    bounds = [0] + [sample for pair in found for sample in pair] + [length]
    pauses = [bounds[i + 1] - bounds[i] for i in range(0, len(bounds), 2)]
    widths = [min(MARGIN, pause // 2) for pause in pauses]
    if found:
        widths[0], widths[-1] = min(MARGIN, pauses[0]), min(MARGIN, pauses[-1])
    return [[first - widths[i], end + widths[i + 1]] for i, (first, end) in enumerate(found)]


def plot(sound, probability, found):
    """The waveform, the probability of speech and the intervals, one above the other."""
    width, height, left, middle = 1200, 420, 50, 260
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=14)
    place = lambda sample: left + sample * (width - left - 10) / max(1, len(sound))
    for start, end in found:
        draw.rectangle((place(start), 10, place(end), height - 30), fill=(214, 236, 214))
    columns = np.linspace(0, len(sound), width - left - 10 + 1).astype(int)
    for column, (first, end) in enumerate(zip(columns[:-1], columns[1:])):
        if first < end:
            low, high = sound[first:end].min(), sound[first:end].max()
            draw.line((left + column, 130 - 110 * high, left + column, 130 - 110 * low), fill=(0, 90, 170))
    level = lambda value: height - 30 - value * (height - 30 - middle)
    for value in (0, 0.5, 1):
        draw.line((left, level(value), width - 10, level(value)), fill=(200, 200, 200))
        draw.text((left - 6, level(value)), str(value), fill="black", font=font, anchor="rm")
    line = [(place((i + 0.5) * WINDOW), level(value)) for i, value in enumerate(probability)]
    if len(line) > 1:
        draw.line(line, fill=(200, 30, 30), width=2)
    seconds = len(sound) / RATE
    for tick in range(0, int(seconds) + 1, max(1, int(seconds / 12))):
        draw.text((place(tick * RATE), height - 14), f"{tick} s", fill="black", font=font, anchor="mm")
    return image


def main():
    parser = program.parser(__doc__)
    parser.add_argument("sound", help="a WAV file")
    parser.add_argument("-o", "--output", metavar="PNG", help="write a plot here")
    parser.add_argument("--threshold", type=program.fraction, default=0.5, metavar="P",
                        help="probability from which it is speech (default: %(default)s)")
    options = parser.parse_args()

    sound, rate = wav.read(options.sound)
    sound = wav.resample(sound, rate, RATE)
    session = program.open_session(options, "silero_vad", "silero_vad.onnx")
    probability = probabilities(session, sound)
    found = intervals(probability, len(sound), options.threshold)
    if options.json:
        program.print_json({"seconds": len(sound) / RATE, "probabilities": probability,
                            "speech": [[start / RATE, end / RATE] for start, end in found]})
    else:
        for start, end in found:
            print(f"{start / RATE:8.2f} s to {end / RATE:8.2f} s")
        total = sum(end - start for start, end in found) / RATE
        print(f"{total:.2f} s of speech in {len(sound) / RATE:.2f} s")
    if options.output:
        images.write_png(plot(sound, probability, found), options.output)


if __name__ == "__main__":
    program.run(main)
