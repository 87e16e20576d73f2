# SPDX-License-Identifier: Apache-2.0
"""C's pure CNN and CNN-transpose."""

from __future__ import annotations

from torch import Tensor, nn

WIDTHS = (32, 32, 64, 64, 128, 128, 64)


class CNN(nn.Module):
    """Eight 3×3 layers: (B, in_channels, H, W) → (B, 1, H/4, W/4), metres; 228×304 → 57×76.

    Seven of them conv–BN–ReLU, 2×2 max-pools after the second and the fourth, which bring an image
    to the size of CNN+FC's depth map. ``transpose``: one more pool after the seventh, and the
    eighth is a transposed convolution with stride 2 (CNN-transpose). C prints no widths:
    32-32-64-64-128-128-64. The eighth has neither BN nor ReLU, although C says every layer: a ReLU
    that closes on a depth map does not open again.
    """

    def __init__(self, in_channels: int = 3, width: float = 1.0, transpose: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        cin = in_channels
        for number, base in enumerate(WIDTHS, start=1):
            wide = max(1, round(width * base))
            layers += [
                nn.Conv2d(cin, wide, 3, padding=1, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU(inplace=True),
            ]
            if number in (2, 4) or (transpose and number == 7):
                layers.append(nn.MaxPool2d(2, 2))
            cin = wide
        self.layers = nn.Sequential(*layers)
        self.predict = (
            nn.ConvTranspose2d(cin, 1, 3, 2, 1, 1) if transpose else nn.Conv2d(cin, 1, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Eight layers."""
        return self.predict(self.layers(x))
