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
import math
import os
import pathlib
import sys

try:
    import numpy as np
    import onnx
    import torch
    import torchvision
    from torch import nn
except ImportError as error:
    sys.exit(f"export_models: {error}: it needs torch, torchvision and onnx, for instance in an environment "
             "of its own: pip install torch torchvision onnx")

ROOT = pathlib.Path(__file__).resolve().parent.parent
OPSET = 17
SEED = 20


class BertAttention(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.heads, self.size = heads, hidden // heads
        self.query, self.key, self.value, self.output = (nn.Linear(hidden, hidden) for _ in range(4))

    def split(self, x):
        return x.view(x.size(0), x.size(1), self.heads, self.size).permute(0, 2, 1, 3)

    def forward(self, x, mask):
        query, key, value = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = query @ key.transpose(-1, -2) / math.sqrt(self.size) + mask
        context = (scores.softmax(-1) @ value).permute(0, 2, 1, 3).contiguous()
        return self.output(context.view(context.size(0), context.size(1), self.heads * self.size))


class BertLayer(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.attention = BertAttention(hidden, heads)
        self.attention_norm, self.output_norm = nn.LayerNorm(hidden, 1e-12), nn.LayerNorm(hidden, 1e-12)
        self.intermediate, self.output = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, x, mask):
        x = self.attention_norm(self.attention(x, mask) + x)
        return self.output_norm(self.output(nn.functional.gelu(self.intermediate(x))) + x)


class Bert(nn.Module):
    """An encoder written the way Hugging Face's exports look: one node a step, the mask added to the scores."""

    def __init__(self, vocabulary=30522, positions=512, layers=6, hidden=384, heads=12):
        super().__init__()
        self.words = nn.Embedding(vocabulary, hidden)
        self.positions = nn.Embedding(positions, hidden)
        self.types = nn.Embedding(2, hidden)
        self.norm = nn.LayerNorm(hidden, 1e-12)
        self.layers = nn.ModuleList(BertLayer(hidden, heads) for _ in range(layers))

    def forward(self, input_ids, attention_mask, token_type_ids):
        positions = torch.arange(input_ids.size(1), device=input_ids.device).unsqueeze(0)
        x = self.norm(self.words(input_ids) + self.positions(positions) + self.types(token_type_ids))
        mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
        for layer in self.layers:
            x = layer(x, mask)
        return x


class LstmLanguageModel(nn.Module):
    """What the next token is, after each: the scores of a vocabulary of 10,000."""

    def __init__(self, vocabulary=10000, hidden=512, layers=2):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.lstm = nn.LSTM(hidden, hidden, layers, batch_first=True)
        self.output = nn.Linear(hidden, vocabulary)

    def forward(self, tokens):
        return self.output(self.lstm(self.embedding(tokens))[0])


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


@torch.no_grad()
def settle(network, inputs):
    """Gives the network statistics and weights that are not trivial: batch norm takes the statistics of a few
    random inputs and is moved off them a little; parameters that start as a constant (biases, scales, layer
    scales, a zero head) get noise."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if norms:
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain average
        network.train()
        network(torch.randn(4, *inputs["image"].shape[1:]))
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
            norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
            norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.8, 1.25)
    for parameter in network.parameters():
        if parameter.numel() > 1 and parameter.min() == parameter.max():
            parameter += 0.1 * torch.randn_like(parameter)
    network.eval()


def export(name, folder):
    """Writes the two files of a network; returns how often each operator occurs in the first."""
    make, make_inputs, output = NETWORKS[name]
    torch.manual_seed(SEED)
    network, inputs = make(), make_inputs()
    settle(network, inputs)
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
