"""The modules that scripts/benchmarks/modules.py exports: networks of well-known shapes, trained for a minute on data that installed packages carry.

Images are scikit-learn's digits at 64×64, texts the docstrings of Python's standard library, series the steps of `firsttoken.distill`'s movements, sounds are made.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

TEXT_LENGTH = 64


class Residual(nn.Module):
    def __init__(self, given: int, gives: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(given, gives, 3, stride, 1, bias=False), nn.BatchNorm2d(gives)
        self.conv2, self.bn2 = nn.Conv2d(gives, gives, 3, 1, 1, bias=False), nn.BatchNorm2d(gives)
        same = stride == 1 and given == gives
        self.down = nn.Identity() if same else nn.Sequential(nn.Conv2d(given, gives, 1, stride, bias=False), nn.BatchNorm2d(gives))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.down(x))


class ResNet18(nn.Module):
    """He et al. 2015, arXiv:1512.03385."""

    def __init__(self, classes: int = 10, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.layers = nn.Sequential(
            *(
                block
                for n, (given, gives) in enumerate(itertools.pairwise(widths))
                for block in (Residual(given, gives, 1 + (n > 0)), Residual(gives, gives, 1))
            )
        )
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.layers(self.stem(image)).mean((2, 3)))


class Squeeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class Inverted(nn.Module):
    def __init__(self, given: int, inner: int, gives: int, kernel: int, stride: int, squeeze: bool, hard: bool) -> None:
        super().__init__()
        act = nn.Hardswish if hard else nn.ReLU
        parts: list[nn.Module] = []
        if inner != given:
            parts += [nn.Conv2d(given, inner, 1, bias=False), nn.BatchNorm2d(inner), act()]
        parts += [nn.Conv2d(inner, inner, kernel, stride, kernel // 2, groups=inner, bias=False), nn.BatchNorm2d(inner), act()]
        parts += [Squeeze(inner)] if squeeze else []
        self.block = nn.Sequential(*parts, nn.Conv2d(inner, gives, 1, bias=False), nn.BatchNorm2d(gives))
        self.residual = stride == 1 and given == gives

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.residual else self.block(x)


class MobileNetV3(nn.Module):
    """Like the small one of Howard et al. 2019, arXiv:1905.02244."""

    BLOCKS = (
        (16, 16, 16, 3, 2, True, False), (16, 72, 24, 3, 2, False, False), (24, 88, 24, 3, 1, False, False), (24, 96, 40, 5, 2, True, True),
        (40, 240, 40, 5, 1, True, True), (40, 120, 48, 5, 1, True, True), (48, 144, 48, 5, 1, True, True), (48, 288, 96, 5, 2, True, True),
        (96, 576, 96, 5, 1, True, True),
    )  # fmt: skip

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.blocks = nn.Sequential(*(Inverted(*block) for block in self.BLOCKS))
        self.last = nn.Sequential(nn.Conv2d(96, 576, 1, bias=False), nn.BatchNorm2d(576), nn.Hardswish())
        self.head = nn.Sequential(nn.Linear(576, 256), nn.Hardswish(), nn.Linear(256, classes))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.last(self.blocks(self.stem(image))).mean((2, 3)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        given = self.norm1(x)
        parts = [part(given).view(batch, length, self.heads, -1).transpose(1, 2) for part in (self.query, self.key, self.value)]
        x = x + self.out(F.scaled_dot_product_attention(*parts).transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Dosovitskiy et al. 2020, arXiv:2010.11929."""

    def __init__(self, width: int = 192, depth: int = 6, heads: int = 6, patch: int = 8, side: int = 64, classes: int = 10) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, (side // patch) ** 2 + 1, width))
        self.blocks, self.norm = nn.Sequential(*(Block(width, heads) for _ in range(depth))), nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


class Series(nn.Module):
    def __init__(self, layers: int, width: int = 128) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, width, layers, batch_first=True), nn.Linear(width, 4)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.lstm(series)[0][:, -1])


class Sounds(nn.Module):
    """Whisper-tiny's encoder (Radford et al. 2022, arXiv:2212.04356), weights as they are drawn, over ``[batch, 80, 2 * positions]``."""

    def __init__(self, positions: int = 1500) -> None:
        super().__init__()
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        shape = {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536, "num_mel_bins": 80}
        self.encoder = WhisperEncoder(WhisperConfig(**shape, max_source_positions=positions))

    def forward(self, mel: Tensor) -> Tensor:
        return self.encoder(mel).last_hidden_state


@dataclass
class Data:
    """Inputs and classes to train on and to compare on; without classes nothing is trained."""

    train: Tensor
    held_out: Tensor
    train_labels: Tensor | None = None
    labels: Tensor | None = None


def split(inputs: Tensor, labels: Tensor, share: float = 0.7) -> Data:
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    inputs, labels, count = inputs[order], labels[order], int(share * len(inputs))
    return Data(inputs[:count], inputs[count:], labels[:count], labels[count:])


def digits() -> Data:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = F.interpolate(torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, size=(64, 64), mode="bilinear")
    return split((images.expand(-1, 3, -1, -1).contiguous() - 0.3) / 0.35, torch.tensor(labels))


def texts() -> Data:
    import sysconfig

    from tokenizers import Tokenizer

    from firsttoken.distill.classifiers.encoder import LIBRARIES, docstrings_of, minilm_folder

    tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(TEXT_LENGTH)
    tokenizer.enable_padding(length=TEXT_LENGTH, pad_id=0)
    found = [
        (n, text) for n, name in enumerate(LIBRARIES) for text in dict.fromkeys(docstrings_of(Path(sysconfig.get_paths()["stdlib"], name)))
    ]
    tokens = torch.tensor([one.ids for one in tokenizer.encode_batch([text for _, text in found])])
    return split(tokens, torch.tensor([n for n, _ in found]))


def movements() -> Data:
    from firsttoken.distill.classifiers.data import movement

    series, labels = movement(1)
    return split(series.float(), labels)


def sounds(frames: int = 3000) -> Data:
    generator = torch.Generator().manual_seed(3)
    made = torch.randn(6, 80, frames, generator=generator).cumsum(2) * 0.05
    made = (made - made.mean((1, 2), keepdim=True)) / made.std((1, 2), keepdim=True)
    return Data(made[:2], made[2:])


def minilm() -> nn.Module:
    from firsttoken.distill.classifiers.encoder import LIBRARIES
    from firsttoken.distill.classifiers.encoder import minilm as pretrained

    return pretrained(len(LIBRARIES))


SUBJECTS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Data], float]] = {
    "resnet18": (ResNet18, digits, 1e-3),
    "mobilenetv3": (MobileNetV3, digits, 3e-3),
    "vit": (ViT, digits, 1e-3),
    "minilm": (minilm, texts, 5e-5),
    "lstm2": (lambda: Series(2), movements, 3e-3),
    "lstm3": (lambda: Series(3), movements, 3e-3),
    "whisper-encoder": (Sounds, sounds, 0.0),
}


def subject(name: str, seconds: float, kept: Path) -> tuple[nn.Module, Data]:
    """A network, trained for ``seconds`` of CPU time where ``kept`` does not have it, and its data."""
    make, read, rate = SUBJECTS[name]
    torch.manual_seed(1)
    data, network, path = read(), make(), kept / f"{name}.pt"
    if path.is_file():
        network.load_state_dict(torch.load(path))
    elif data.train_labels is not None:
        train(network, data.train, data.train_labels, seconds, rate)
        kept.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), path)
    return network.eval(), data


def train(network: nn.Module, inputs: Tensor, labels: Tensor, seconds: float, rate: float) -> None:
    """AdamW for so many seconds of this process, the rate rising over the first fifth and falling to 0."""
    network.train()
    optimizer, start, batch = torch.optim.AdamW(network.parameters(), rate), time.process_time(), 16
    while (passed := (time.process_time() - start) / seconds) < 1:
        chosen = torch.from_numpy(np.random.default_rng(int(passed * 1e9)).choice(len(inputs), batch, replace=False))
        for group in optimizer.param_groups:
            group["lr"] = rate * 2 * min(1.0, 5 * passed) * (1 - passed)
        optimizer.zero_grad()
        F.cross_entropy(network(inputs[chosen]), labels[chosen]).backward()
        optimizer.step()
