#!/usr/bin/env python3
"""Fine-tunes a real model: PP-OCR's text direction classifier (two classes) learns handwritten digits (ten).

    python examples/finetune_digits/finetune_digits.py [--output digits.onnx] [--epochs N] [--threads N]

The model is imported as it is, its last layer replaced, and all of it trained on scikit-learn's 1,797 scanned
digits, a fifth of which are held out. Prints the accuracy on those before and after, writes the trained model as
ONNX, and scores the file again: with ONNX Runtime where that is installed, else with Sardonyx.
"""
import argparse
import gzip
import os
import pathlib
import sys
import time

import numpy as np

import sardonyx as sx

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MODELS = pathlib.Path(os.environ.get("SARDONYX_MODELS", ROOT / ".deps/models"))
SCALE = 6  # a pixel of the 8 x 8 scans becomes a square: the model reads lines of text 48 pixels high


def digits():
    """Images [1797, 3, 48, 48] from -1 to 1 and digits [1797], shuffled."""
    with gzip.open(MODELS / "sklearn/digits.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",")
    table = table[np.random.default_rng(0).permutation(len(table))]
    images = (table[:, :64].reshape(-1, 1, 8, 8) / 8 - 1).astype(np.float32)
    images = np.kron(images, np.ones((1, 3, SCALE, SCALE), np.float32))
    return images, table[:, 64].astype(np.int64)


def batches(images, labels, size, rng):
    """A list whose order is another one each time it is iterated."""
    class Loader:
        def __len__(self):
            return len(labels) // size

        def __iter__(self):
            order = rng.permutation(len(labels))
            for i in range(len(self)):
                chosen = order[i * size:(i + 1) * size]
                yield images[chosen], labels[chosen]
    return Loader()


def accuracy(predict, images, labels):
    hits = [predict(images[i:i + 60]).argmax(1) == labels[i:i + 60] for i in range(0, len(labels), 60)]
    return 100 * np.concatenate(hits).mean()


def scored_by(path):
    """(a name, a function from images to logits) for the written file."""
    try:
        import onnxruntime
    except ImportError:
        session = sx.InferenceSession(path)
        return "Sardonyx", lambda x: session.run(None, {session.get_inputs()[0].name: x})[0]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return "ONNX Runtime", lambda x: session.run(None, {session.get_inputs()[0].name: x})[0]


def main():
    parser = argparse.ArgumentParser(description="Fine-tunes PP-OCR's direction classifier on handwritten digits.")
    parser.add_argument("--output", default="digits.onnx", help="where the trained model goes (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="0: all CPUs (default)")
    arguments = parser.parse_args()

    images, labels = digits()
    held_out = len(labels) // 5
    model = sx.replace_head(MODELS / "ppocr/ch_ppocr_mobile_v2.0_cls_infer.onnx", classes=10)
    trainer = sx.Trainer(model, loss="CrossEntropyLoss", optimizer=sx.optim.AdamW(lr=2e-3),
                         threads=arguments.threads)
    trained = sum(int(np.prod(shape)) for _, _, shape, _ in trainer.parameter_info())
    print(f"{trained} weights in {len(trainer.parameter_info())} tensors, {len(labels) - held_out} digits to learn "
          f"from, {held_out} held out")
    before = accuracy(lambda x: trainer.predict(x)[0], images[:held_out], labels[:held_out])
    print(f"accuracy on held-out digits before: {before:.1f} %", flush=True)

    start = time.monotonic()
    loader = batches(images[held_out:], labels[held_out:], 32, np.random.default_rng(1))

    def anneal(epoch):
        trainer.lr = 2e-3 * 0.5 * (1 + np.cos(np.pi * epoch / arguments.epochs))

    trainer.fit(loader, arguments.epochs, before_epoch=anneal)
    after = accuracy(lambda x: trainer.predict(x)[0], images[:held_out], labels[:held_out])
    print(f"accuracy on held-out digits after:  {after:.1f} %, in {time.monotonic() - start:.1f} s")

    trainer.export(arguments.output)
    name, predict = scored_by(arguments.output)
    print(f"written: {arguments.output}; {name} scores it: {accuracy(predict, images[:held_out], labels[:held_out]):.1f} %")
    return 0 if after > before else 1


if __name__ == "__main__":
    sys.exit(main())
