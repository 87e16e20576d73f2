# SPDX-License-Identifier: Apache-2.0
"""Encoders under torchvision's names, so that its files load without their classifiers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .plain_encoders import VGG, AlexNet

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


@torch.no_grad()
def load_imagenet(encoder: nn.Module, state: dict[str, Tensor], extra: str = "mean") -> None:
    """Load a torchvision state dict; its classifier is dropped, channels beyond RGB get ``extra``.

    ``extra`` is ``mean`` (of the other three) or ``zero``.
    """
    if extra not in ("mean", "zero"):
        raise ValueError(f"extra: expected 'mean' or 'zero', got {extra!r}")
    state = {
        name: value for name, value in state.items() if not name.startswith(("fc.", "classifier."))
    }
    first, wanted = next((name, value.shape) for name, value in encoder.state_dict().items())
    stem = state.get(first)
    if stem is None or stem.shape[0] != wanted[0] or stem.shape[2:] != wanted[2:]:
        got = "nothing" if stem is None else tuple(stem.shape)
        raise ValueError(f"{first}: expected shape {tuple(wanted)}, got {got}")
    if stem.shape[1] < wanted[1]:
        fill = stem.mean(dim=1, keepdim=True) if extra == "mean" else torch.zeros_like(stem[:, :1])
        state[first] = torch.cat([stem, fill.expand(-1, wanted[1] - stem.shape[1], -1, -1)], dim=1)
    encoder.load_state_dict(state)
