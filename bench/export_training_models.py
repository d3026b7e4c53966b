#!/usr/bin/env python3
"""Exports the networks that bench/train.py trains, each with data and with what torch makes of it. Run by hand,
with a Python that has torch, torchvision and onnx (PyPI):

    python bench/export_training_models.py [name...] [--folder FOLDER]

FOLDER is $SARDONYX_TRAINING_MODELS, by default .deps/training_models: 1 GB. Each network becomes three files:
<name>.onnx (opset 17, dynamic batch), <name>.pt (the same weights for torch), and <name>.npz with

    x/<input>         [8, batch, ...]: the inputs of 8 steps
    y                 [8, batch, ...]: their classes
    lr, lr_sgd        learning rates of AdamW and of SGD with momentum 0.9
    losses            what torch's CrossEntropyLoss gives in 8 steps with AdamW(lr), before each update, in f32
    losses_sgd        the same with SGD(lr_sgd, momentum=0.9)
    losses_f64, losses_sgd_f64     the same in f64: how far they are from f32 says how well the losses can be known
    losses_untrained  of the 8 batches without any update
    trainable         names of the initializers that are trained: all floats but running statistics
    head              those of the last layer
    gradient/<name>   of the first step, computed in f64, rounded to f32; of an initializer over 4 MB instead
    norm/<name>, sample/<name>, sample_at/<name>     its norm, and some elements by their place in memory
    f32_error/<name>  how far torch's own gradient in f32 is from that: the norm of the difference over the norm.
                      Far above 1 where the gradient is 0 but for rounding, as of a bias that a softmax cancels
    statistics/<name> running mean or variance after the first step, in torch's sense: the variance is unbiased

They are of the exported function: its initializers are trained as they stand in the file (merged, transposed,
reordered, or with batch norm folded into them), by bench/torch_graph.py, whose losses are held against those of the
network that was exported. A network with batch norm comes three times: as everybody exports it, which folds batch
norm into the convolutions, so that what is trained has none; with `_bn`, exported with TrainingMode.PRESERVE from
evaluation mode, which keeps it; with `_training`, exported with TrainingMode.TRAINING, which switches it to batch
statistics. The latter two are trained with batch statistics. Dropout has ratio 0. Batch norm has the statistics of
the data, so that activations keep their scale where it is folded, as in a network that was trained.

An export is refused whose 8 losses say little: where f32 is off from f64 by more than 2e-3, or where training moves
the loss by less than 7 %.
"""
import argparse
import collections
import os
import pathlib
import sys
import warnings

try:
    import numpy as np
    import onnx
    import torch
    import torchvision  # noqa: F401
    from networks import TRAINING, add_noise, collect_statistics
    from torch_graph import TorchGraph
except ImportError as error:
    sys.exit(f"export_training_models: {error}: it needs torch, torchvision and onnx, for instance in an "
             "environment of its own: pip install torch torchvision onnx")

ROOT = pathlib.Path(__file__).resolve().parent.parent
OPSET = 17
SEED = 20
STEPS = 8
SMALL = 4 << 20  # bytes up to which a gradient is stored as a whole
SAMPLES = 1000
STATISTICS = 4  # batches that batch norm starts from


def pictures(shape, classes, batch):
    """Each class is a pattern under noise: 7 x 7 squares, or a number for each input."""
    used = min(classes, 10)
    if len(shape) == 3:
        side = shape[1] // 7
        patterns = torch.randn(used, shape[0], 7, 7).repeat_interleave(side, 2).repeat_interleave(side, 3)
    else:
        patterns = torch.randn(used, *shape)
    y = torch.randint(used, (STEPS, batch))
    return [patterns[y] + 0.5 * torch.randn(STEPS, batch, *shape)], y * (classes // used)


def sentences(batch, length=128, classes=4):
    """The class is the range that the words come from."""
    y = torch.randint(classes, (STEPS, batch))
    ids = 1000 + 5000 * y[..., None] + torch.randint(9000, (STEPS, batch, length))
    mask = (torch.arange(length) < torch.randint(length // 2, length + 1, (STEPS, batch, 1))).long()
    return [ids * mask, mask, torch.zeros_like(ids)], y


def texts(batch, length=64, vocabulary=2000, used=100):
    """The next token follows from the last one, mostly. Only some tokens occur, as in any text."""
    words = torch.randint(used, (STEPS, batch, length + 1))
    for place in range(length):
        known = torch.rand(STEPS, batch) < 0.9
        words[..., place + 1] = torch.where(known, (7 * words[..., place] + 3) % used, words[..., place + 1])
    tokens = words * (vocabulary // used)
    return [tokens[..., :-1].contiguous()], tokens[..., 1:].contiguous()


def data(name, batch):
    """({input: [steps, batch, ...]}, targets)."""
    if name == "bert_classifier":
        names, (x, y) = ["input_ids", "attention_mask", "token_type_ids"], sentences(batch)
    elif name == "lstm_language":
        names, (x, y) = ["tokens"], texts(batch)
    else:
        shape, classes = {"mlp": ((784,), 10), "cnn": ((1, 28, 28), 10)}.get(name, ((3, 224, 224), 1000))
        names, (x, y) = ["image"], pictures(shape, classes, batch)
    return dict(zip(names, x)), y


OPTIMIZERS = {"adamw": torch.optim.AdamW, "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr, momentum=0.9)}
LOSSES = {"adamw": "losses", "sgd": "losses_sgd"}


def losses_of(network, x, y, after_loss=lambda loss, step: None):
    """The losses of all steps; `after_loss` is called with each."""
    losses = []
    for step in range(STEPS):
        loss = torch.nn.functional.cross_entropy(network(*(values[step] for values in x.values())), y[step])
        losses.append(loss.item())
        after_loss(loss, step)
    return np.array(losses)


def train(network, parameters, x, y, optimizer, lr, after_first=lambda: None):
    """The losses of all steps; `after_first` is called when the first gradients are there."""
    optimizer = OPTIMIZERS[optimizer](parameters, lr=lr)

    def update(loss, step):
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            after_first()
        optimizer.step()
    return losses_of(network, x, y, update)


def reference(path, x, y, rates):
    """The arrays of the .npz that say what torch makes of a file."""
    found, rounded = {}, {}
    with torch.no_grad():
        found["losses_untrained"] = losses_of(TorchGraph(path, torch.float32), x, y)
    for optimizer, rate in rates.items():
        graph = TorchGraph(path, torch.float32)

        def keep():
            rounded.update({name: value.grad.numpy().copy() for name, value in graph.trainable.items()})
        found[LOSSES[optimizer]] = train(graph, graph.trainable.values(), x, y, optimizer, rate, keep)
    found["trainable"] = list(graph.trainable)

    def describe():
        for name, value in graph.trainable.items():
            gradient = value.grad.numpy()
            error = np.linalg.norm(rounded[name] - gradient) / (np.linalg.norm(gradient) or 1.0)
            found[f"f32_error/{name}"] = error
            if 4 * gradient.size <= SMALL:
                found[f"gradient/{name}"] = gradient.astype(np.float32)
                continue
            # Places where it is not zero: most rows of an embedding are not used.
            places = np.random.default_rng(0).permutation(np.flatnonzero(gradient))[:SAMPLES]
            found[f"norm/{name}"] = np.linalg.norm(gradient)
            found[f"sample_at/{name}"] = places
            found[f"sample/{name}"] = gradient.reshape(-1)[places].astype(np.float32)
        for name in graph.statistics:
            found[f"statistics/{name}"] = graph.values[name].numpy().astype(np.float32)

    for optimizer, rate in rates.items():
        graph = TorchGraph(path, torch.float64)
        found[LOSSES[optimizer] + "_f64"] = train(graph, graph.trainable.values(), x, y, optimizer, rate,
                                                  describe if optimizer == "adamw" else lambda: None)
    return found


def check(name, losses, found):
    """ValueError where the losses of the file are not those of the network, cannot be known or hardly move."""
    for optimizer, key in LOSSES.items():
        for what, expected, rtol in (("the network's losses", losses[optimizer], 2e-3),
                                     ("those in f64", found[key + "_f64"], 2e-3)):
            if not np.allclose(found[key], expected, rtol=rtol, atol=0):
                raise ValueError(f"{name}: {key}: expected {what}, {expected}, got {found[key]}")
        moved = np.abs(found[key] / found["losses_untrained"] - 1).max()
        if moved < 0.07:
            raise ValueError(f"{name}: {key}: expected losses that move by 7 %, got {moved:.2%}: {found[key]}")


def initializers_of(parameters, path):
    """The names under which a file has parameters, some of them transposed."""
    found = []
    for value in onnx.load(path).graph.initializer:
        array = onnx.numpy_helper.to_array(value)
        if any(np.array_equal(array, parameter) or np.array_equal(array, parameter.T) for parameter in parameters):
            found.append(value.name)
    if len(found) != len(parameters):
        raise ValueError(f"{path}: expected {len(parameters)} initializers, found {found}")
    return found


def export(name, folder):
    """Writes the three files of a network; returns how often each operator occurs, and the losses."""
    spec = TRAINING[name]
    torch.manual_seed(SEED)
    network = spec.make()
    x, y = data(name.removesuffix("_bn").removesuffix("_training"), spec.batch)
    add_noise(network)
    collect_statistics(network, zip(*(values[:STATISTICS] for values in x.values())))
    mode = torch.onnx.TrainingMode
    mode = mode.PRESERVE if name.endswith("_bn") else mode.TRAINING if name.endswith("_training") else mode.EVAL
    path = folder / f"{name}.onnx"
    torch.onnx.export(network, tuple(values[0] for values in x.values()), str(path), opset_version=OPSET,
                      dynamo=False, training=mode, input_names=list(x), output_names=["scores"],
                      dynamic_axes={value: {0: "batch"} for value in [*x, "scores"]})
    weights = spec.fold(network).state_dict()
    torch.save(weights, path.with_suffix(".pt"))
    rates, losses = {"adamw": spec.adamw, "sgd": spec.sgd}, {}
    for optimizer, rate in rates.items():
        trained = spec()
        trained.load_state_dict(weights)
        losses[optimizer] = train(trained, trained.parameters(), x, y, optimizer, rate)
    head = [value.numpy() for key, value in weights.items() if key.startswith(spec.head)]
    found = {"lr": spec.adamw, "lr_sgd": spec.sgd, "head": initializers_of(head, path), **reference(path, x, y, rates)}
    check(name, losses, found)
    arrays = {f"x/{key}": values.numpy() for key, values in x.items()}
    np.savez(path.with_suffix(".npz"), y=y.numpy(), **arrays, **found)
    nodes = collections.Counter(node.op_type for node in onnx.load(path).graph.node)
    told = {"untrained": found["losses_untrained"]}
    for optimizer, key in LOSSES.items():
        told |= {f"{optimizer}, network": losses[optimizer], f"{optimizer}, file": found[key],
                 f"{optimizer}, file in f64": found[key + "_f64"]}
    return nodes, told


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"which ({', '.join(TRAINING)}; default: all)")
    default = os.environ.get("SARDONYX_TRAINING_MODELS") or ROOT / ".deps/training_models"
    parser.add_argument("--folder", type=pathlib.Path, default=default, help="default: %(default)s")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in TRAINING:
            parser.error(f"expected one of {', '.join(TRAINING)}, got {name}")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    # Every export to ONNX warns that there is another exporter, and PRESERVE that it folds nothing.
    warnings.filterwarnings("ignore", module="torch.onnx")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for name in arguments.names or TRAINING:
        nodes, losses = export(name, arguments.folder)
        print(f"{name}: {', '.join(f'{count} {op}' for op, count in nodes.most_common())}")
        for what, values in losses.items():
            print(f"  losses, {what}: {' '.join(f'{value:.6f}' for value in values)}", flush=True)


if __name__ == "__main__":
    main()
