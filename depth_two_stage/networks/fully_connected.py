# SPDX-License-Identifier: Apache-2.0
"""Networks that end in fully connected layers: E's FC rows, C's CNN+FC. Their size is fixed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .encoders import encoder as make_encoder
from .pretrained import initialise


def check_size(x: Tensor, size: tuple[int, int]) -> None:
    """Refuse an input (B, C, h, w) of another size than the one the layers were made for."""
    if not torch.jit.is_tracing() and tuple(x.shape[-2:]) != tuple(size):
        raise ValueError(
            f"input: expected {size[0]}×{size[1]} for fully connected layers, "
            f"got {x.shape[-2]}×{x.shape[-1]}"
        )


def flattened(features: nn.Module, in_channels: int, size: tuple[int, int]) -> int:
    """How many values one image of ``size`` becomes."""
    training = features.training
    with torch.no_grad():
        count = features.eval()(torch.zeros(1, in_channels, *size)).numel()
    features.train(training)
    return count


class FullyConnected(nn.Module):
    """E's FC rows: (B, in_channels, *input_size) → (B, 1, *output_size), metres.

    ResNet keeps the average pool of its time, 7×7 with stride 1 (8×10 → 2×4), and has one layer:
    73.84 M for 48×64 and 359.05 M for 128×160 (Table 1: 73.9 and 359.1). AlexNet and VGG-16 have
    a hidden layer of 4096 with ReLU and dropout, as their classifiers: with 96×128 out, which E
    does not print, AlexNet has the table's 104.4 M. ``init_std`` 0.1 starts the new layers as E,
    None as torch.
    """

    fixed_size = True

    def __init__(
        self,
        encoder: str = "resnet50",
        in_channels: int = 3,
        width: float = 1.0,
        input_size: tuple[int, int] = (228, 304),
        output_size: tuple[int, int] = (48, 64),
        dropout: float = 0.5,
        init_std: float | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.output_size = tuple(input_size), tuple(output_size)
        self.encoder = make_encoder(encoder, in_channels, width)
        self.pool = nn.AvgPool2d(7, 1) if encoder.startswith("resnet") else nn.Identity()
        inputs = flattened(nn.Sequential(self.encoder, self.pool), in_channels, self.input_size)
        outputs = self.output_size[0] * self.output_size[1]
        if encoder.startswith("resnet"):
            self.layers = nn.Sequential(nn.Linear(inputs, outputs))
        else:
            hidden = max(1, round(width * 4096))
            self.layers = nn.Sequential(
                nn.Linear(inputs, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(hidden, outputs),
            )
        if init_std is not None:
            initialise(self.new_layers(), init_std)

    def forward(self, x: Tensor) -> Tensor:
        """Encode, flatten, connect."""
        check_size(x, self.input_size)
        return self.layers(self.pool(self.encoder(x)).flatten(1)).view(-1, 1, *self.output_size)

    def new_layers(self) -> list[nn.Module]:
        """The layers that no ImageNet file initialises."""
        return [self.layers]


class CNNFC(nn.Module):
    """C's CNN+FC: (B, in_channels, *input_size) → (B, 1, 55, 74), metres.

    Six convolutions 11×11, 5×5, 3×3 with BN, ReLU and, where the size allows, 2×2 max-pooling.
    C follows the coarse network of Eigen et al.: stride 4 without padding in the first layer, pools
    after the first two and the last make 6×9; 256 channels there and 4096 hidden units give C's
    73,293,824 fully connected weights exactly. C's 27,232 for all convolutions together leaves the
    other widths far below Eigen's; of those that meet it exactly, 14-8-16-10-7 have the widest
    bottleneck. Both counts are of weights without biases and BN.
    """

    fixed_size = True

    def __init__(
        self,
        in_channels: int = 3,
        width: float = 1.0,
        input_size: tuple[int, int] = (228, 304),
        output_size: tuple[int, int] = (55, 74),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.input_size, self.output_size = tuple(input_size), tuple(output_size)
        layers: list[nn.Module] = []
        cin = in_channels
        for index, base in enumerate((14, 8, 16, 10, 7, 256)):
            wide = max(1, round(width * base))
            kernel, stride, padding = ((11, 4, 0), (5, 1, 2), (3, 1, 1))[min(index, 2)]
            layers += [
                nn.Conv2d(cin, wide, kernel, stride, padding, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU(inplace=True),
            ]
            if index in (0, 1, 5):
                layers.append(nn.MaxPool2d(2, 2))
            cin = wide
        self.features = nn.Sequential(*layers)
        hidden = max(1, round(width * 4096))
        self.layers = nn.Sequential(
            nn.Linear(flattened(self.features, in_channels, self.input_size), hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, self.output_size[0] * self.output_size[1]),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, flatten, connect."""
        check_size(x, self.input_size)
        return self.layers(self.features(x).flatten(1)).view(-1, 1, *self.output_size)
