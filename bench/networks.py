"""Networks that bench/export_models.py and bench/export_training_models.py export and bench/engine.py trains.
It needs torch, and torchvision for the networks that come from there."""
import dataclasses
import functools
import math
import typing

import torch
from torch import nn


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


class Mlp(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


class Cnn(nn.Module):
    """Two convolutions, a pool and two linear layers, for pictures of 28 x 28."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)
        self.fc1, self.fc2 = nn.Linear(64 * 12 * 12, 128), nn.Linear(128, 10)

    def forward(self, x):
        x = nn.functional.relu(self.conv2(nn.functional.relu(self.conv1(x))))
        x = nn.functional.max_pool2d(x, 2).flatten(1)
        return self.fc2(nn.functional.relu(self.fc1(x)))


class BertClassifier(nn.Module):
    """The encoder, and what a sentence is by its first token."""

    def __init__(self, classes=4, hidden=384):
        super().__init__()
        self.bert = Bert(hidden=hidden)
        self.pooler, self.classifier = nn.Linear(hidden, hidden), nn.Linear(hidden, classes)

    def forward(self, input_ids, attention_mask, token_type_ids):
        first = self.bert(input_ids, attention_mask, token_type_ids)[:, 0]
        return self.classifier(torch.tanh(self.pooler(first)))


class LstmClassScores(LstmLanguageModel):
    """The scores as [batch, vocabulary, tokens]: where CrossEntropyLoss wants the classes."""

    def __init__(self):
        super().__init__(vocabulary=2000)

    def forward(self, tokens):
        return super().forward(tokens).transpose(1, 2)


def torchvision_network(name, **arguments):
    import torchvision
    return getattr(torchvision.models, name)(**arguments)


@dataclasses.dataclass
class TrainingNetwork:
    """`head` begins the names of the last layer's parameters. `adamw` and `sgd` are learning rates at which the
    losses of 8 steps fall clearly and yet f32 can follow them. `folded`: batch norm is part of the convolutions."""
    make: typing.Callable[[], nn.Module]
    head: str
    batch: int
    adamw: float
    sgd: float
    folded: bool = False

    def fold(self, network):
        """The function of a network in evaluation mode without batch norm, if it is to be folded: a network whose
        parameters have the names of the convolutions."""
        from torch.fx.experimental.optimization import fuse
        return fuse(network.eval()).requires_grad_() if self.folded else network  # fuse freezes biases

    def __call__(self):
        return self.fold(self.make()).train()


resnet18 = functools.partial(torchvision_network, "resnet18")
mobilenet_v3_large = functools.partial(torchvision_network, "mobilenet_v3_large", dropout=0.0)

# What bench/export_training_models.py exports and bench/train.py trains.
TRAINING = {
    "mlp": TrainingNetwork(Mlp, "4.", 64, adamw=3e-4, sgd=3e-2),
    "cnn": TrainingNetwork(Cnn, "fc2.", 64, adamw=3e-4, sgd=1e-2),
    "bert_classifier": TrainingNetwork(BertClassifier, "classifier.", 8, adamw=1e-4, sgd=1e-2),
    "lstm_language": TrainingNetwork(LstmClassScores, "output.", 8, adamw=3e-3, sgd=1.0),
    "resnet18": TrainingNetwork(resnet18, "fc.", 8, adamw=2e-5, sgd=5e-4, folded=True),
    "mobilenet_v3_large": TrainingNetwork(mobilenet_v3_large, "classifier.3.", 8, adamw=1e-4, sgd=1.2e-2, folded=True),
}
for _suffix in ("_bn", "_training"):
    TRAINING["resnet18" + _suffix] = TrainingNetwork(resnet18, "fc.", 8, adamw=5e-5, sgd=5e-4)
    TRAINING["mobilenet_v3_large" + _suffix] = TrainingNetwork(mobilenet_v3_large, "classifier.3.", 8, adamw=3e-4,
                                                               sgd=3.5e-2)


@torch.no_grad()
def collect_statistics(network, batches):
    """Batch norm takes the statistics of a few batches, each a tuple of the network's inputs."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average
    network.train()
    for batch in batches if norms else ():
        network(*batch)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    network.eval()
    return norms


@torch.no_grad()
def add_noise(network):
    """To parameters that start as a constant: biases, scales, layer scales, a zero head."""
    for parameter in network.parameters():
        if parameter.numel() > 1 and parameter.min() == parameter.max():
            parameter += 0.1 * torch.randn_like(parameter)


@torch.no_grad()
def settle(network, picture=None):
    """Gives the network statistics and weights that are not trivial: batch norm takes those of a few random inputs
    of the shape `picture` and is moved off them a little; constant parameters get noise."""
    for norm in collect_statistics(network, [(torch.randn(4, *picture),)] if picture else []):
        norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.8, 1.25)
    add_noise(network)
