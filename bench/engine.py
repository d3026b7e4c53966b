"""One engine in a process of its own: bench/models.py and bench/train.py start it and ask it to load a model, to run
or train it, and to time a number of runs or steps. Requests and answers are lines of JSON, over stdin and stdout:

    {"do": "hello"}                                             -> {"version", "imported_mb"}
    {"do": "load", "model", "inputs", "dimensions", "threads"}  -> {"load_ms"}, or {"refused": why}
    {"do": "run", "outputs"}                                    -> {"run_ms", "names"}
    {"do": "load_training", "model", "data", "trainable", "threads"} -> {"load_ms"}, or {"refused": why}
    {"do": "steps", "count"}                                    -> {"first_ms", "losses"}
    {"do": "time", "warm_up", "runs"}                           -> {"run_ms", "cpu_ms"}
    {"do": "memory"}                                            -> {"peak_mb"}

`inputs` is an .npz file, `outputs` the file to which to write outputs 0, 1, ... in the model's order;
`dimensions` gives the sizes of the model's symbolic dimensions. After `load_training` a run is a training step
(forward, loss, backward, AdamW) on the next batch of `data`, a file of bench/export_training_models.py, over and
over; `trainable` names the initializers to train, or null for all. An exception is answered with {"error"}.
It needs only numpy and the engine: the engines may be installed in different environments.
"""
import itertools
import json
import os
import pathlib
import sys
import time

import numpy as np


class Refused(Exception):
    """The engine does not offer what is asked of it, and says so."""


class Sardonyx:
    precision = "highest"
    training = {}  # further arguments of Trainer

    def __init__(self):
        import sardonyx
        self.module, self.version = sardonyx, sardonyx.__version__

    def load(self, model, feeds, dimensions, threads):
        try:
            session = self.module.InferenceSession(model, threads=threads, precision=self.precision,
                                                   free_dimensions=dimensions)
        except self.module.InputError as error:
            if "'precision'" in str(error):
                raise Refused(str(error)) from error
            raise
        self.names = [output.name for output in session.get_outputs()]
        return lambda: session.run(None, feeds)

    def load_training(self, model, batches, lr, trainable, threads):
        if not hasattr(self.module, "Trainer"):
            raise Refused(f"version {self.version} has no Trainer")
        arguments = {} if trainable is None else {"trainable": trainable}
        trainer = self.module.Trainer(model, loss="CrossEntropyLoss", optimizer=self.module.optim.AdamW(lr=lr),
                                      threads=threads, precision=self.precision, **arguments, **self.training)
        batches = itertools.cycle((x if len(x) > 1 else next(iter(x.values())), y) for x, y in batches)
        return lambda: trainer.step(*next(batches))


class SardonyxMedium(Sardonyx):
    precision = "medium"


class SardonyxRecompute(Sardonyx):
    training = {"recompute": 4, "keep_gradients": False}


class OnnxRuntime:
    def __init__(self):
        import onnxruntime
        self.module, self.version = onnxruntime, onnxruntime.__version__

    def load(self, model, feeds, dimensions, threads):
        options = self.module.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        for name, size in dimensions.items():
            options.add_free_dimension_override_by_name(name, size)
        session = self.module.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in session.get_outputs()]
        return lambda: session.run(None, feeds)


class OpenVino:
    precision = "f32"

    def __init__(self):
        import openvino
        self.module, self.version = openvino, openvino.__version__

    def load(self, model, feeds, dimensions, threads):
        core = self.module.Core()
        network = core.read_model(model)
        network.reshape({name: list(value.shape) for name, value in feeds.items()})
        compiled = core.compile_model(network, "CPU", {
            "INFERENCE_PRECISION_HINT": self.precision, "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0})  # else it rounds activations to int8 where weights are int8
        got = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if got != self.precision:
            raise Refused(f"INFERENCE_PRECISION_HINT: expected {self.precision}, got {got}")
        request = compiled.create_infer_request()
        outputs = list(compiled.outputs)
        self.names = [output.any_name for output in outputs]

        def run():  # arrays go in and come out without a copy
            results = request.infer(feeds, share_inputs=True, share_outputs=True)
            return [results[output] for output in outputs]
        return run


class OpenVinoBf16(OpenVino):
    precision = "bf16"


class Torch:
    """PyTorch as its tutorials train: eager, every option left alone."""
    channels_last = fused = compiled = bf16 = False

    def __init__(self):
        import torch
        self.module, self.version = torch, torch.__version__

    def load_training(self, model, batches, lr, trainable, threads):
        from networks import TRAINING
        torch, path = self.module, pathlib.Path(model)
        torch.set_num_threads(threads)
        spec = TRAINING[path.stem]
        network = spec()
        network.load_state_dict(torch.load(path.with_suffix(".pt")))
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(trainable is None or name.startswith(spec.head))
        batches = [([torch.from_numpy(value) for value in x.values()], torch.from_numpy(y)) for x, y in batches]
        if self.channels_last and batches[0][0][0].ndim == 4:
            network.to(memory_format=torch.channels_last)
            batches = [([x.to(memory_format=torch.channels_last)], y) for (x,), y in batches]
        options = {"fused": True} if self.fused else {}
        optimizer = torch.optim.AdamW((value for value in network.parameters() if value.requires_grad), lr=lr,
                                      **options)
        batches = itertools.cycle(batches)

        def loss_of(x, y):
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                return torch.nn.functional.cross_entropy(network(*x), y)
        if self.compiled:
            loss_of = torch.compile(loss_of)

        def step():
            optimizer.zero_grad()
            loss = loss_of(*next(batches))
            loss.backward()
            optimizer.step()
            return loss.item()
        return step


class TorchTuned(Torch):
    """Eager, with pictures channels last and the fused optimizer."""
    channels_last = fused = True


class TorchBf16(TorchTuned):
    """The same under autocast to bf16."""
    bf16 = True


class TorchCompile(Torch):
    """Forward, loss and backward compiled, and the fused optimizer."""
    fused = compiled = True


ENGINES = {"sardonyx": Sardonyx, "sardonyx-medium": SardonyxMedium, "sardonyx-recompute": SardonyxRecompute,
           "onnxruntime": OnnxRuntime, "openvino": OpenVino, "openvino-bf16": OpenVinoBf16,
           "torch": Torch, "torch-tuned": TorchTuned, "torch-bf16": TorchBf16, "torch-compile": TorchCompile}


def peak_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def milliseconds(function, times=1):
    """The mean time of a call, and what the last call returned."""
    result = None
    start = time.perf_counter()
    for _ in range(times):
        result = function()
    return (time.perf_counter() - start) * 1000 / times, result


class Worker:
    """Answers requests."""

    def __init__(self, name):
        self.engine = ENGINES[name]()
        self.imported_mb = peak_mb()
        self.run_model = None

    def hello(self):
        return {"version": self.engine.version, "imported_mb": self.imported_mb}

    def load(self, model, inputs, dimensions, threads):
        with np.load(inputs) as file:
            feeds = {name: file[name] for name in file.files}
        taken, self.run_model = milliseconds(lambda: self.engine.load(model, feeds, dimensions, threads))
        return {"load_ms": taken}

    def run(self, outputs):
        taken, results = milliseconds(self.run_model)
        np.savez(outputs, **{str(index): value for index, value in enumerate(results)})
        return {"run_ms": taken, "names": self.engine.names}

    def load_training(self, model, data, trainable, threads):
        with np.load(data) as file:
            arrays = {name: file[name] for name in file.files if name == "y" or name.startswith("x/")}
            lr = float(file["lr"])
        targets = arrays.pop("y")
        batches = [({name[2:]: values[index] for name, values in arrays.items()}, target)
                   for index, target in enumerate(targets)]
        taken, self.run_model = milliseconds(
            lambda: self.engine.load_training(model, batches, lr, trainable, threads))
        return {"load_ms": taken}

    def steps(self, count):
        taken, loss = milliseconds(self.run_model)
        return {"first_ms": taken, "losses": [float(loss), *(float(self.run_model()) for _ in range(count - 1))]}

    def time(self, warm_up, runs):
        for _ in range(warm_up):
            self.run_model()
        start = time.process_time()  # of all threads
        taken = milliseconds(self.run_model, runs)[0]
        return {"run_ms": taken, "cpu_ms": (time.process_time() - start) * 1000 / runs}

    def memory(self):
        return {"peak_mb": peak_mb()}


def main():
    # What a library prints goes to stderr, away from the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            worker = worker or Worker(sys.argv[1])
            answer = getattr(worker, request.pop("do"))(**request)
        except Refused as error:
            answer = {"refused": str(error)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
