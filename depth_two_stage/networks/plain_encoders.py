# SPDX-License-Identifier: Apache-2.0
"""AlexNet and VGG-16 without their classifiers, as E's ablation uses them."""

from __future__ import annotations

from torch import Tensor, nn


class _Features(nn.Module):
    """A sequence ``features`` of convolutions with bias, ReLUs and pools (torchvision's name)."""

    features: nn.Sequential
    width: float  # the multiplier of every width; files of weights fit 1

    def forward(self, x: Tensor) -> Tensor:
        """All layers."""
        return self.features(x)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)


class AlexNet(_Features):
    """AlexNet in one column: (B, in_channels, 228, 304) → (B, 256, 6, 8).

    E does not print the layers. 96-256-384-384-256 without groups meets its counts (Table 1:
    104.4 M with FC, 6.3 M with UpConv); torchvision's 64-192-384-256-256 does not. No local
    response normalisation, as in torchvision's. The first layer is not padded and pools round
    down: 6×8 makes the FC count, and 6×8×16 is the FC output of 96×128.
    """

    not_torchvisions = (
        "; E's counts need the layers 96-256-384-384-256 without padding in the first, "
        "torchvision's alexnet has 64-192-384-256-256, so its file does not fit"
    )

    def __init__(self, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        self.width = width
        w = [max(1, round(width * base)) for base in (96, 256, 384, 384, 256)]
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, w[0], 11, 4),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(w[0], w[1], 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(w[1], w[2], 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(w[2], w[3], 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(w[3], w[4], 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        self.out_channels = w[4]
        self._initialise()


class VGG(_Features):
    """VGG-16, thirteen 3×3 convolutions: (B, in_channels, 228, 304) → (B, 512, 7, 9)."""

    def __init__(self, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        self.width = width
        layers: list[nn.Module] = []
        cin = in_channels
        for depth, base in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
            wide = max(1, round(width * base))
            for _ in range(depth):
                layers += [nn.Conv2d(cin, wide, 3, padding=1), nn.ReLU(inplace=True)]
                cin = wide
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.out_channels = cin
        self._initialise()
