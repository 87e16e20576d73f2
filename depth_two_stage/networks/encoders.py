# SPDX-License-Identifier: Apache-2.0
"""Encoders under torchvision's names, so that its files load without their classifiers."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from .plain_encoders import VGG, AlexNet
from .pretrained import file_facts, load_imagenet, read_torchvision

__all__ = [
    "LAYERS",
    "PLAIN",
    "BasicBlock",
    "Bottleneck",
    "ResNet",
    "encoder",
    "encoder_of",
    "load_encoder",
    "load_imagenet",
]

LAYERS = {"resnet18": ((2, 2, 2, 2), False), "resnet50": ((3, 4, 6, 3), True)}
PLAIN = {"alexnet": AlexNet, "vgg16": VGG}


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (ResNet-18)."""

    expansion = 1

    def __init__(self, cin: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(cin, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, cin, H, W) → (B, width, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """1×1, 3×3 (with the stride, as torchvision), 1×1 and a shortcut (ResNet-50)."""

    expansion = 4

    def __init__(self, cin: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(cin, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, cin, H, W) → (B, 4·width, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


def _shortcut(cin: int, cout: int, stride: int) -> nn.Module | None:
    if cin == cout and stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))


class ResNet(nn.Module):
    """ResNet without average pool and fc: (B, in_channels, H, W) → (B, out_channels, H/32, W/32).

    ``width`` multiplies every width (1.0 is the published network).
    """

    def __init__(self, name: str = "resnet50", in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        if name not in LAYERS:
            raise ValueError(f"encoder: expected one of {', '.join(LAYERS)}, got {name!r}")
        self.width = width
        depths, bottleneck = LAYERS[name]
        block = Bottleneck if bottleneck else BasicBlock
        widths = [max(1, round(width * base)) for base in (64, 128, 256, 512)]
        self.conv1 = nn.Conv2d(in_channels, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        cin = widths[0]
        for index, (depth, wide) in enumerate(zip(depths, widths, strict=True), start=1):
            layer = nn.Sequential()
            for number in range(depth):
                stride = 2 if index > 1 and number == 0 else 1
                layer.append(block(cin, wide, stride))
                cin = wide * block.expansion
            setattr(self, f"layer{index}", layer)
        self.out_channels = cin
        for module in self.modules():  # He et al., as torchvision initialises
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Stem and four stages."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def encoder(name: str, in_channels: int = 3, width: float = 1.0) -> nn.Module:
    """The encoder of a name: ``resnet18``, ``resnet50``, ``alexnet`` or ``vgg16``."""
    if name in LAYERS:
        return ResNet(name, in_channels, width)
    if name not in PLAIN:
        expected = ", ".join((*LAYERS, *PLAIN))
        raise ValueError(f"encoder: expected one of {expected}, got {name!r}")
    return PLAIN[name](in_channels, width)


def encoder_of(model: nn.Module) -> nn.Module | None:
    """The encoder inside a network, or itself; None where it has none that ImageNet files fit."""
    kinds = (ResNet, *PLAIN.values())
    return next((part for part in model.modules() if isinstance(part, kinds)), None)


def load_encoder(
    model: nn.Module, path: str | Path, extra: str = "mean", grey: str = "sum"
) -> dict[str, str]:
    """Start a network's encoder from a torchvision file (`pretrained`); what to remember of it.

    ``extra`` fills the stem's inputs beyond RGB: ``mean`` of the three, or ``zero``; ``grey`` is
    what a stem of grey images takes of them, their ``sum`` or ``mean``.
    """
    found = encoder_of(model)
    if found is None:
        raise ValueError(
            f"model: expected a network with one of the encoders {', '.join((*LAYERS, *PLAIN))}, "
            f"got {type(model).__name__} without"
        )
    load_imagenet(found, read_torchvision(path), extra, grey, str(path))
    return {**file_facts(path), "extra": extra, "grey": grey}
