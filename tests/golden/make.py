#!/usr/bin/env python3
"""Writes what PyTorch computes for losses and optimizers, one .npz file for each, next to this file. Run by hand,
with a Python that has torch; the files are committed:

    python tests/golden/make.py [name...]

Everything is computed and stored in f64. `cases` is a JSON string: a list with an object for each case, of which
case i has its arrays under `i/<what>`.

A loss, {"name", "arguments", "tensor_arguments", "inputs", "extras"}: `arguments` are those of torch.nn's class,
by name; tensors among them (weight, pos_weight) are named in `tensor_arguments`. `inputs` are the float arguments of
the call that have a gradient, in order, `extras` those that follow (targets, lengths); GaussianNLLLoss alone is
called as (input, target, var). `i/loss` is what comes out, `i/cotangent` the derivative of some further result by it
(1 if it is a scalar), and `i/gradient/<input>` the derivative of that result by an input. Where the loss is NaN (the
mean of nothing) or infinite, so may they be. `distance_function` is a word: "pairwise" (torch's default, given as
None), "l1" (sum of the absolute differences along the last axis) or "cosine" (1 - cosine similarity).

CTCLoss: torch's derivative by the log-probabilities is that of the loss as a function of what log_softmax was
taken of: it holds exp(input) as well, and sums to 0 over the classes. A derivative by the numbers `input` itself
does not; both become the same once they go through log_softmax. Hence `i/logits` and `i/gradient/logits` are there
too, with input = log_softmax(logits), and are what to compare.

An optimizer, {"name", "arguments", "state"}: `i/parameter` before the first step, `i/gradient` [5, ...] for each
step, `i/parameters` [5, ...] after each step, and `i/state/<key>` [5, ...], torch's state after each step.
"""
import itertools
import json
import pathlib
import sys
import warnings

import numpy as np
import torch
from torch import nn

FOLDER = pathlib.Path(__file__).resolve().parent
REDUCTIONS = ("none", "mean", "sum")
STEPS = 5
DISTANCES = {"pairwise": None, "l1": lambda a, b: (a - b).abs().sum(-1),
             "cosine": lambda a, b: 1 - torch.cosine_similarity(a, b, -1)}


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


def uniform(*shape, low=0.05, high=0.95):
    return torch.empty(shape, dtype=torch.float64).uniform_(low, high)


def integers(high, *shape, low=0):
    return torch.randint(low, high, shape)


def signs(*shape):
    return 2.0 * torch.randint(0, 2, shape).double() - 1


def case(inputs, extras=None, tensors=None, **arguments):
    """One combination: what is called on (inputs, then extras), and the arguments of the class."""
    return {"inputs": inputs, "extras": extras or {}, "tensors": tensors or {}, "arguments": arguments}


def each_reduction(make, combinations=({},), reductions=REDUCTIONS):
    """`make(**arguments)` for every reduction and combination, and once for each of the words that came before
    `reduction`."""
    for arguments, reduction in itertools.product(combinations, reductions):
        yield make(**arguments, reduction=reduction)
    for old in ({"size_average": True}, {"size_average": False}, {"reduce": False}):
        yield make(**combinations[0], **old)


def product(**choices):
    """All combinations of arguments."""
    return [dict(zip(choices, values)) for values in itertools.product(*choices.values())]


def pairs(shapes=((4, 3), (2, 3, 4), ()), make_target=normal, combinations=({},)):
    """An input and a target of the same shape; in the first case of all some elements are equal."""
    for shape in shapes:
        yield from each_reduction(lambda **a: case({"input": normal(*shape)}, {"target": make_target(*shape)}, **a),
                                  combinations)
    x = normal(4, 3)
    yield case({"input": x}, {"target": torch.where(normal(4, 3) > 0, x, make_target(4, 3))}, **combinations[0])


def l1_loss():
    yield from pairs()


def mse_loss():
    yield from pairs()


def distances_at(bounds, **arguments):
    """Differences that lie exactly at the place where a loss changes its form, and on both sides."""
    x = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 2.0, -0.5, -1.0, -3.0], dtype=torch.float64)
    for reduction in ("none", "sum"):
        yield case({"input": x * bounds}, {"target": torch.zeros_like(x)}, **arguments, reduction=reduction)


def huber_loss():
    for value in (x for x in pairs(combinations=product(delta=[1.0, 0.3, 2.5]))
                  if not {"size_average", "reduce"} & set(x["arguments"])):
        yield value
    yield from distances_at(1.0, delta=1.0)
    yield from distances_at(0.5, delta=0.5)


def smooth_l1_loss():
    yield from pairs(combinations=product(beta=[1.0, 0.3, 2.5, 0.0]))
    yield from distances_at(1.0, beta=1.0)
    yield from distances_at(0.5, beta=0.5)


def class_targets(shape, classes, ignored=None):
    target = integers(classes, *shape)
    if ignored is not None:
        target = torch.where(torch.rand(shape) < 0.4, torch.tensor(ignored), target)
        if target.ndim:  # at least one of each kind
            target.view(-1)[0], target.view(-1)[-1] = ignored, 1 if ignored != 1 else 0
    return target


# Shapes of the input of losses over classes; the classes are axis 1, or the only one.
CLASS_SHAPES = ((5,), (4, 5), (3, 5, 4), (2, 5, 3, 2), (2, 3, 2, 2, 2))


def over_classes(make_input, combinations, shapes=CLASS_SHAPES):
    for shape in shapes:
        axis = min(1, len(shape) - 1)
        classes, target_shape = shape[axis], shape[:axis] + shape[axis + 1:]

        def make(weighted=False, ignored=None, **a):
            tensors = {"weight": uniform(classes, high=2)} if weighted else None
            if ignored is not None and ignored != -100:
                a["ignore_index"] = ignored
            return case({"input": make_input(*shape)}, {"target": class_targets(target_shape, classes, ignored)},
                        tensors, **a)

        yield from each_reduction(make, combinations)


def cross_entropy_loss():
    combinations = product(weighted=[False, True], ignored=[None, -100, 2], label_smoothing=[0.0, 0.1])
    yield from over_classes(normal, combinations, [(4, 5), (2, 4, 3)])
    few = [{}, {"ignored": -100, "label_smoothing": 0.1}, {"weighted": True, "ignored": 2, "label_smoothing": 0.3}]
    yield from over_classes(normal, few, [(5,), (2, 5, 2, 2), (1, 3, 2, 2, 2)])
    for shape in ((5,), (4, 5), (2, 3, 4), (1, 4, 2, 3)):
        axis = min(1, len(shape) - 1)
        for weighted, smoothing, reduction in itertools.product([False, True], [0.0, 0.2], REDUCTIONS):
            tensors = {"weight": uniform(shape[axis], high=2)} if weighted else None
            yield case({"input": normal(*shape)}, {"target": normal(*shape).softmax(axis)}, tensors,
                       label_smoothing=smoothing, reduction=reduction)
    # Large scores, everything ignored, class 0 ignored, smoothing of everything.
    yield case({"input": 1000 * normal(4, 5)}, {"target": integers(5, 4)})
    for reduction in REDUCTIONS:
        yield case({"input": normal(4, 5)}, {"target": torch.full((4,), -100)}, reduction=reduction)
    yield case({"input": normal(4, 5)}, {"target": torch.tensor([0, 0, 3, 1])}, ignore_index=0)
    yield case({"input": normal(4, 5)}, {"target": integers(5, 4)}, label_smoothing=1.0)


def log_probabilities(*shape):
    return normal(*shape).log_softmax(min(1, len(shape) - 1))


def nll_loss():
    yield from over_classes(log_probabilities, product(weighted=[False, True], ignored=[None, -100, 2]))


def nll_loss_2d():
    yield from over_classes(log_probabilities, product(weighted=[False, True], ignored=[None, -100, 2]),
                            [(2, 4, 3, 5), (1, 3, 2, 2)])


def ctc_loss():
    classes = 6

    def make(steps, labels, lengths=None, joined=False, blank=0, **a):
        """`labels` is a list of targets, one for each sequence; without lengths there is no batch."""
        batch = () if lengths is None else (len(labels),)
        logits = normal(steps, *batch, classes)
        longest = max(map(len, labels))
        padded = torch.tensor([label + [(blank + 1) % classes] * (longest - len(label)) for label in labels])
        target = torch.tensor(sum(labels, [])) if joined else padded if batch else padded[0]
        sizes = [torch.tensor(lengths or [steps]), torch.tensor([len(label) for label in labels])]
        if not batch:
            sizes = [size[0] for size in sizes]
        extras = {"target": target.long(), "input_lengths": sizes[0], "target_lengths": sizes[1]}
        return case({"logits": logits}, extras, blank=blank, **a)

    for joined, (blank, labels), zero, reduction in itertools.product(
            [False, True], [(0, [[1, 2, 3], [2, 2], [4]]), (5, [[1, 0, 1], [3, 3, 3], [2]])], [False, True],
            REDUCTIONS):
        yield make(8, labels, [8, 7, 5], joined, blank, zero_infinity=zero, reduction=reduction)
    for zero, reduction in itertools.product([False, True], REDUCTIONS):
        # The second target does not fit into its steps: its loss is infinite.
        yield make(6, [[1, 2], [3, 3, 3], [2, 1]], [6, 4, 3], zero_infinity=zero, reduction=reduction)
        yield make(7, [[1, 1, 2]], zero_infinity=zero, reduction=reduction)
    for reduction in REDUCTIONS:
        yield make(5, [[1, 2], [], [3]], [5, 4, 1], reduction=reduction)  # an empty target, a single step
        yield make(5, [[1, 2], [], [3]], [5, 4, 1], True, reduction=reduction)


def poisson_nll_loss():
    for log_input, full in itertools.product([True, False], repeat=2):
        for shape in ((4, 3), (2, 3, 2)):
            yield from each_reduction(
                lambda **a: case({"input": normal(*shape) if log_input else uniform(*shape, high=4)},
                                 {"target": integers(6, *shape).double()}, log_input=log_input, full=full, **a),
                product(eps=[1e-8, 0.1]))
    yield case({"input": torch.zeros(3, dtype=torch.float64)}, {"target": torch.ones(3).double()}, log_input=False)


def gaussian_nll_loss():
    shapes = [((4, 3), (4, 3)), ((4, 3), (4, 1)), ((4, 3), (4,)), ((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (2, 3, 1))]
    for (shape, variances), full, eps, reduction in itertools.product(shapes, [False, True], [1e-6, 0.3], REDUCTIONS):
        # With eps 0.3 some variances are below it.
        yield case({"input": normal(*shape)}, {"target": normal(*shape)}, full=full, eps=eps, reduction=reduction) | {
            "variance": uniform(*variances, high=1.5)}


def kl_div_loss():
    def make(shape, log_target, zeros=False, **a):
        target = normal(*shape).log_softmax(-1)
        target = target if log_target else target.exp()
        if zeros:
            target[0] = 0
        return case({"input": normal(*shape).log_softmax(-1)}, {"target": target}, log_target=log_target, **a)

    for shape, log_target in itertools.product([(4, 5), (2, 3, 4), (5,)], [False, True]):
        yield from each_reduction(lambda **a: make(shape, log_target, **a), reductions=(*REDUCTIONS, "batchmean"))
    for reduction in (*REDUCTIONS, "batchmean"):
        yield make((3, 4), False, zeros=True, reduction=reduction)


def binary(make_input, names):
    """Losses of numbers between 0 and 1, or of their logits, with weights of several shapes."""
    shapes = ((6,), (4, 3), (2, 3, 4))
    for shape in shapes:
        for present in itertools.product([False, True], repeat=len(names)):
            def make(**a):
                tensors = {name: uniform(*shape[-1:], high=2.5) if name == "pos_weight" or len(shape) > 2
                           else uniform(*shape, high=2.5) for name, there in zip(names, present) if there}
                return case({"input": make_input(*shape)}, {"target": uniform(*shape, low=0, high=1)}, tensors, **a)
            yield from each_reduction(make)


def bce_loss():
    yield from binary(uniform, ["weight"])
    for reduction in REDUCTIONS:  # logarithms stay above -100
        x = torch.tensor([0.0, 1.0, 0.0, 1.0, 1e-60], dtype=torch.float64)
        yield case({"input": x}, {"target": torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0]).double()}, reduction=reduction)


def bce_with_logits_loss():
    yield from binary(normal, ["weight", "pos_weight"])
    for reduction in REDUCTIONS:
        x = torch.tensor([0.0, 800.0, -800.0, 800.0, -800.0], dtype=torch.float64)
        yield case({"input": x}, {"target": torch.tensor([0.5, 1.0, 0.0, 0.0, 1.0]).double()}, reduction=reduction)


def margin_ranking_loss():
    for shape in ((5,), (4, 3)):
        yield from each_reduction(
            lambda **a: case({"input1": normal(*shape), "input2": normal(*shape)}, {"target": signs(*shape)}, **a),
            product(margin=[0.0, 0.5, 2.0]))


def hinge_embedding_loss():
    for shape in ((5,), (4, 3), (2, 3, 2)):
        yield from each_reduction(lambda **a: case({"input": 2 * normal(*shape)}, {"target": signs(*shape)}, **a),
                                  product(margin=[1.0, 0.3, 2.0]))


def multi_label_margin_loss():
    for target in ([[3, 0, -1, 1], [0, 1, 2, 3], [-1, 2, 0, 1], [2, -1, -1, -1]], [1, 3, -1, 0]):
        target = torch.tensor(target)
        yield from each_reduction(lambda **a: case({"input": normal(*target.shape)}, {"target": target}, **a))


def soft_margin_loss():
    for shape in ((5,), (4, 3), (2, 3, 2)):
        yield from each_reduction(lambda **a: case({"input": 2 * normal(*shape)}, {"target": signs(*shape)}, **a))


def multi_label_soft_margin_loss():
    for shape, weighted in itertools.product([(4, 5), (5,), (2, 3, 4)], [False, True]):
        yield from each_reduction(lambda **a: case(
            {"input": normal(*shape)}, {"target": integers(2, *shape).double()},
            {"weight": uniform(shape[-1], high=2)} if weighted else None, **a))


def cosine_embedding_loss():
    for shape in ((4, 5), (5,)):
        for target in (torch.tensor([1.0, -1.0, -1.0, 1.0]).double(), -torch.ones(4).double()):
            target = target if len(shape) == 2 else target[0]
            yield from each_reduction(
                lambda **a: case({"input1": normal(*shape), "input2": normal(*shape)}, {"target": target}, **a),
                product(margin=[0.0, 0.4, -0.3]))


def multi_margin_loss():
    for shape, p, weighted in itertools.product([(4, 5), (5,)], [1, 2], [False, True]):
        yield from each_reduction(
            lambda **a: case({"input": normal(*shape)}, {"target": integers(shape[-1], *shape[:-1])},
                             {"weight": uniform(shape[-1], high=2)} if weighted else None, p=p, **a),
            product(margin=[1.0, 0.3]))


def triplets(shape):
    return {name: normal(*shape) for name in ("anchor", "positive", "negative")}


def triplet_margin_loss():
    for shape in ((4, 5), (5,)):
        yield from each_reduction(lambda **a: case(triplets(shape), **a),
                                  product(margin=[1.0, 0.2], p=[2.0, 1.0, 3.0], swap=[False, True]))
    for reduction in REDUCTIONS:
        yield case(triplets((4, 5)), eps=0.1, margin=2.0, reduction=reduction)


def triplet_margin_with_distance_loss():
    for shape, function in itertools.product([(4, 5), (5,)], DISTANCES):
        for margin, swap, reduction in itertools.product([1.0, 0.2], [False, True], REDUCTIONS):
            yield case(triplets(shape), distance_function=function, margin=margin, swap=swap, reduction=reduction)


LOSSES = {"L1Loss": l1_loss, "MSELoss": mse_loss, "CrossEntropyLoss": cross_entropy_loss, "NLLLoss": nll_loss,
          "NLLLoss2d": nll_loss_2d, "CTCLoss": ctc_loss, "PoissonNLLLoss": poisson_nll_loss,
          "GaussianNLLLoss": gaussian_nll_loss, "KLDivLoss": kl_div_loss, "BCELoss": bce_loss,
          "BCEWithLogitsLoss": bce_with_logits_loss, "MarginRankingLoss": margin_ranking_loss,
          "HingeEmbeddingLoss": hinge_embedding_loss, "MultiLabelMarginLoss": multi_label_margin_loss,
          "HuberLoss": huber_loss, "SmoothL1Loss": smooth_l1_loss, "SoftMarginLoss": soft_margin_loss,
          "MultiLabelSoftMarginLoss": multi_label_soft_margin_loss, "CosineEmbeddingLoss": cosine_embedding_loss,
          "MultiMarginLoss": multi_margin_loss, "TripletMarginLoss": triplet_margin_loss,
          "TripletMarginWithDistanceLoss": triplet_margin_with_distance_loss}


def sgd():
    weight_decays, maximizes = [0.0, 0.1], [False, True]
    yield from product(lr=[0.1], momentum=[0.0], weight_decay=weight_decays, maximize=maximizes)
    yield from product(lr=[0.1], momentum=[0.9], dampening=[0.0, 0.3], weight_decay=weight_decays,
                       maximize=maximizes)
    yield from product(lr=[0.1], momentum=[0.9, 0.5], nesterov=[True], weight_decay=weight_decays,
                       maximize=maximizes)
    yield from [{"lr": 0.0, "momentum": 0.9}, {}]


def adamw():
    yield from product(lr=[1e-3], amsgrad=[False, True], maximize=[False, True], weight_decay=[0.01, 0.0, 0.3])
    yield from product(lr=[0.05], betas=[[0.9, 0.999], [0.5, 0.8], [0.0, 0.0]], eps=[1e-8, 1e-2],
                       amsgrad=[False, True])
    yield {}


OPTIMIZERS = {"SGD": sgd, "AdamW": adamw}


def loss_case(name, spec, arrays, index):
    """Adds the arrays of a case; returns its description."""
    inputs = {key: value.clone().requires_grad_() for key, value in spec["inputs"].items()}
    called, extras = dict(inputs), spec["extras"]
    if "logits" in inputs:
        called = {"input": inputs["logits"].log_softmax(-1)}
        called["input"].retain_grad()
    values = [*called.values(), *extras.values()]
    if "variance" in spec:  # follows the target
        inputs["var"] = called["var"] = spec["variance"].clone().requires_grad_()
        values.append(called["var"])
    arguments = dict(spec["arguments"])
    if "distance_function" in arguments:
        arguments["distance_function"] = DISTANCES[arguments["distance_function"]]
    loss = getattr(nn, name)(**arguments, **spec["tensors"])(*values)
    cotangent = normal(*loss.shape) if loss.ndim else torch.ones_like(loss)
    loss.backward(cotangent)
    given = {**inputs, **called}
    stored = {**given, **extras, **spec["tensors"], "loss": loss,
              "cotangent": cotangent, **{f"gradient/{key}": value.grad for key, value in given.items()}}
    arrays.update({f"{index}/{key}": value.detach().numpy() for key, value in stored.items()})
    return {"name": name, "arguments": spec["arguments"], "tensor_arguments": list(spec["tensors"]),
            "inputs": list(called), "extras": list(extras)}


def optimizer_case(name, arguments, arrays, index):
    parameter, gradients = normal(3, 4), normal(STEPS, 3, 4)
    gradients[1, 0], gradients[:, 1, 1] = 0, 0  # a gradient of zero for a step, and one for all steps
    value = parameter.clone().requires_grad_()
    optimizer = getattr(torch.optim, name)([value], **arguments)
    parameters, states = [], []
    for gradient in gradients:
        value.grad = gradient.clone()
        optimizer.step()
        parameters.append(value.detach().clone())
        states.append({key: torch.as_tensor(state).double().clone() for key, state in optimizer.state[value].items()
                       if state is not None})
    stored = {"parameter": parameter, "gradient": gradients, "parameters": torch.stack(parameters)}
    stored |= {f"state/{key}": torch.stack([state[key] for state in states]) for key in states[0]}
    arrays.update({f"{index}/{key}": array.numpy() for key, array in stored.items()})
    return {"name": name, "arguments": arguments, "state": list(states[0])}


def make(name):
    """Writes the file of a loss or an optimizer; returns the number of its cases and of its bytes."""
    torch.manual_seed(sum(map(ord, name)))
    specs, add = (LOSSES[name](), loss_case) if name in LOSSES else (OPTIMIZERS[name](), optimizer_case)
    arrays = {}
    cases = [add(name, spec, arrays, index) for index, spec in enumerate(specs)]
    path = FOLDER / f"{name}.npz"
    np.savez_compressed(path, cases=np.array(json.dumps(cases, allow_nan=False)), **arrays)
    return len(cases), path.stat().st_size


def main():
    known = [*LOSSES, *OPTIMIZERS]
    for name in sys.argv[1:]:
        if name not in known:
            sys.exit(f"make.py: expected some of {', '.join(known)}, got {name!r}")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # torch calls some of the documented arguments old
    for name in sys.argv[1:] or known:
        cases, size = make(name)
        print(f"{name}: {cases} cases, {size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
