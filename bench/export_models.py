#!/usr/bin/env python3
"""Exports the networks of bench/models.py that no package carries, with random weights: ResNet-50,
MobileNetV3-large, EfficientNet-B0, ViT-B/16 and ConvNeXt-tiny of torchvision, a BERT encoder and an LSTM
language model. Run by hand, with a Python that has torch, torchvision and onnx (PyPI):

    python bench/export_models.py [name...] [--folder FOLDER]

Each becomes FOLDER/<name>.onnx (opset 17, dynamic batch) next to FOLDER/<name>.npz, which holds one input and
the output that torch computes from it. FOLDER is $SARDONYX_BENCH_MODELS, by default .deps/bench_models: 760 MB.
"""
import argparse
import collections
import os
import pathlib
import sys

try:
    import numpy as np
    import onnx
    import torch
    import torchvision
    from networks import Bert, LstmLanguageModel, settle
except ImportError as error:
    sys.exit(f"export_models: {error}: it needs torch, torchvision and onnx, for instance in an environment "
             "of its own: pip install torch torchvision onnx")

ROOT = pathlib.Path(__file__).resolve().parent.parent
OPSET = 17
SEED = 20


def picture():
    return {"image": torch.randn(1, 3, 224, 224)}


def sentence():
    ids, mask = torch.randint(1000, 30000, (1, 128)), torch.ones(1, 128, dtype=torch.int64)
    ids[:, 120:], mask[:, 120:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros(1, 128, dtype=torch.int64)}


def tokens():
    return {"tokens": torch.randint(0, 10000, (8, 64))}


# name: (what makes the network, what makes its input, name of its output)
NETWORKS = {
    "resnet50": (torchvision.models.resnet50, picture, "scores"),
    "mobilenet_v3_large": (torchvision.models.mobilenet_v3_large, picture, "scores"),
    "efficientnet_b0": (torchvision.models.efficientnet_b0, picture, "scores"),
    "vit_b_16": (torchvision.models.vit_b_16, picture, "scores"),
    "convnext_tiny": (torchvision.models.convnext_tiny, picture, "scores"),
    "bert": (Bert, sentence, "last_hidden_state"),
    "lstm": (LstmLanguageModel, tokens, "scores"),
}


def export(name, folder):
    """Writes the two files of a network; returns how often each operator occurs in the first."""
    make, make_inputs, output = NETWORKS[name]
    torch.manual_seed(SEED)
    network, inputs = make(), make_inputs()
    settle(network, inputs["image"].shape[1:] if "image" in inputs else None)
    with torch.no_grad():
        expected = network(*inputs.values())
    spread = expected.std().item()
    if not 1e-3 < spread < 1e3:
        raise ValueError(f"{name}: expected outputs of a moderate size, got a standard deviation of {spread:g}")
    path = folder / f"{name}.onnx"
    torch.onnx.export(network, tuple(inputs.values()), str(path), opset_version=OPSET, dynamo=False,
                      input_names=list(inputs), output_names=[output],
                      dynamic_axes={value: {0: "batch"} for value in [*inputs, output]})
    arrays = {f"input.{key}": value.numpy() for key, value in inputs.items()}
    np.savez(path.with_suffix(".npz"), **arrays, **{f"output.{output}": expected.numpy()})
    graph = onnx.load(path, load_external_data=False).graph
    return collections.Counter(node.op_type for node in graph.node)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"which ({', '.join(NETWORKS)}; default: all)")
    default = os.environ.get("SARDONYX_BENCH_MODELS") or ROOT / ".deps/bench_models"
    parser.add_argument("--folder", type=pathlib.Path, default=default, help="default: %(default)s")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in NETWORKS:
            parser.error(f"expected one of {', '.join(NETWORKS)}, got {name}")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or NETWORKS:
        counts = export(name, arguments.folder)
        print(f"{name}: {', '.join(f'{count} {op}' for op, count in counts.most_common())}", flush=True)


if __name__ == "__main__":
    main()
