"""WAV files: reading any PCM or float one, writing 16-bit ones, and changing the rate."""
import struct

import numpy as np

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE


def read(path):
    """(samples, rate): one channel (the mean of all), float32 from -1 to 1."""
    with open(path, "rb") as file:
        data = file.read()
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError(f"{path}: not a WAV file: expected RIFF and WAVE at its start")
    chunks, place = {}, 12
    while place + 8 <= len(data):
        name, size = data[place:place + 4], struct.unpack_from("<I", data, place + 4)[0]
        # A size that reaches beyond the file (of a recording that was cut off) means: all there is.
        chunks.setdefault(name, data[place + 8:place + 8 + size])
        place += 8 + size + size % 2
    if len(chunks.get(b"fmt ", b"")) < 16 or b"data" not in chunks:
        raise ValueError(f"{path}: broken WAV file: expected a format and a data chunk")
    encoding, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunks[b"fmt "])
    if encoding == EXTENSIBLE and len(chunks[b"fmt "]) >= 26:
        encoding = struct.unpack_from("<H", chunks[b"fmt "], 24)[0]
    if channels == 0 or not 1000 <= rate <= 1_000_000:
        raise ValueError(f"{path}: broken WAV file: {channels} channels at {rate} Hz")

    body = chunks[b"data"]
    body = body[:len(body) // (channels * max(1, bits // 8)) * channels * max(1, bits // 8)]
    if encoding == FLOAT and bits in (32, 64):
        samples = np.frombuffer(body, f"<f{bits // 8}")
        if not np.isfinite(samples).all():
            raise ValueError(f"{path}: broken WAV file: a sample is not a finite number")
    elif encoding == PCM and bits == 8:
        samples = np.frombuffer(body, np.uint8) / 128.0 - 1
    elif encoding == PCM and bits == 24:
        bytes_ = np.frombuffer(body, np.uint8).reshape(-1, 3)
        widened = np.zeros((len(bytes_), 4), np.uint8)
        widened[:, 1:] = bytes_
        samples = widened.view("<i4")[:, 0] / 2.0**31
    elif encoding == PCM and bits in (16, 32):
        samples = np.frombuffer(body, f"<i{bits // 8}") / 2.0**(bits - 1)
    else:
        raise ValueError(f"{path}: WAV encoding {encoding} with {bits} bits: expected PCM or float")
    return samples.reshape(-1, channels).mean(axis=1, dtype=np.float64).astype(np.float32), rate


def write(path, samples, rate):
    body = np.round(np.clip(samples, -1, 32767 / 32768) * 32768).astype("<i2").tobytes()
    with open(path, "wb") as file:
        file.write(b"RIFF" + struct.pack("<I", 36 + len(body)) + b"WAVEfmt "
                   + struct.pack("<IHHIIHH", 16, PCM, 1, rate, 2 * rate, 2, 16)
                   + b"data" + struct.pack("<I", len(body)) + body)


def resample(samples, rate, wanted, crossings=16):
    """The sound at another rate, low-passed below half the lower of both (a sinc under a Hann window)."""
    if rate == wanted or len(samples) == 0:
        return samples
    cutoff = min(1.0, wanted / rate)
    reach = crossings / cutoff
    count = -(-len(samples) * wanted // rate)
    padded = np.pad(samples.astype(np.float64), int(reach) + 1)
    taps = np.arange(-int(reach), int(reach) + 2)
    result = np.empty(count, np.float32)
    for start in range(0, count, 4096):
        position = np.arange(start, min(start + 4096, count)) * (rate / wanted)
        whole = np.floor(position).astype(np.int64)
        distance = (position - whole)[:, None] - taps
        weight = cutoff * np.sinc(cutoff * distance) * (0.5 + 0.5 * np.cos(np.pi * distance / reach))
        weight[abs(distance) >= reach] = 0
        near = padded[whole[:, None] + taps + int(reach) + 1]
        result[start:start + len(position)] = (weight * near).sum(axis=1)
    return result
