#!/usr/bin/env python3
"""Makes a WAV file with something like speech: two voices from a formant synthesizer, between pauses.

Prints where each stretch begins and ends, in seconds.
"""
import argparse
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))
import program
import wav

RATE = 16000
# Seconds, three formants in Hz, loudness of the voice, loudness of the breath.
SOUNDS = {
    "a": (0.15, (730, 1090, 2440), 1.0, 0.0), "e": (0.14, (530, 1840, 2480), 1.0, 0.0),
    "i": (0.14, (270, 2290, 3010), 1.0, 0.0), "o": (0.15, (570, 840, 2410), 1.0, 0.0),
    "u": (0.14, (300, 870, 2240), 1.0, 0.0), "m": (0.08, (250, 1100, 2300), 0.5, 0.0),
    "s": (0.09, (400, 1800, 2600), 0.0, 0.5), "t": (0.06, (400, 1700, 2600), 0.0, 0.0),
    " ": (0.08, (500, 1500, 2500), 0.0, 0.0),
}
# Seconds of silence before each phrase, what is said, pitch in Hz.
PHRASES = [(1.0, "masito ame satu imo", 120), (1.2, "tosame i uta sima", 190)]


def resonator(signal, frequency, bandwidth):
    """A filter with one peak, whose frequency may change from sample to sample."""
    radius = np.exp(-np.pi * bandwidth / RATE)
    feedback = 2 * radius * np.cos(2 * np.pi * np.broadcast_to(frequency, signal.shape) / RATE)
    gain = 1 - feedback + radius * radius
    result = np.zeros(len(signal))
    before = last = 0.0
    for i in range(len(signal)):
        before, last = last, gain[i] * signal[i] + feedback[i] * last - radius * radius * before
        result[i] = last
    return result


def say(phrase, pitch, rng):
    sounds = [SOUNDS[letter] for letter in phrase]
    lengths = [int(sound[0] * RATE) for sound in sounds]

    def glide(values):  # one sound goes over into the next within 40 ms
        window = np.hanning(int(0.04 * RATE))
        steps = np.pad(np.repeat(np.array(values, float), lengths), len(window), "edge")
        return np.convolve(steps, window / window.sum(), "same")[len(window):-len(window)]

    voice, breath = glide([s[2] for s in sounds]), glide([s[3] for s in sounds])
    count = len(voice)
    time = np.arange(count) / RATE
    melody = pitch * (1.15 - 0.35 * time / time[-1]) * (1 + 0.03 * np.sin(2 * np.pi * 4.5 * time))
    pulses = np.diff(np.floor(np.cumsum(melody / RATE)), prepend=0)
    signal = voice * (40 * resonator(pulses, 0.0, 120) + rng.normal(0, 0.02, count))
    for formant, bandwidth in enumerate((60, 90, 150)):
        signal = resonator(signal, glide([s[1][formant] for s in sounds]), bandwidth)
    for frequency, bandwidth in ((3500, 250), (4500, 300)):
        signal = resonator(signal, frequency, bandwidth)
    signal = np.diff(signal, prepend=0)
    return 0.5 * signal / abs(signal).max() + 0.15 * np.diff(rng.normal(0, 1, count) * breath, prepend=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", help="the WAV file to write")
    parser.add_argument("--rate", type=int, default=RATE, help="samples a second (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    parts, place = [], 0.0
    for pause, phrase, pitch in PHRASES:
        spoken = say(phrase, pitch, rng)
        parts += [np.zeros(int(pause * RATE)), spoken]
        print(f"{place + pause:.2f} {place + pause + len(spoken) / RATE:.2f}")
        place += pause + len(spoken) / RATE
    sound = np.concatenate(parts + [np.zeros(RATE)])
    sound += rng.normal(0, 0.002, len(sound))
    wav.write(options.output, wav.resample(sound.astype(np.float32), RATE, options.rate), options.rate)


if __name__ == "__main__":
    program.run(main)
