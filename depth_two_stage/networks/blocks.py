# SPDX-License-Identifier: Apache-2.0
"""Building blocks: unpooling, up-convolution and up-projection (E, section 3), residual blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDES = ("bottom_right", "top_left")


def unpool(x: Tensor) -> Tensor:
    """(B, C, H, W) → (B, C, 2H, 2W), the value in the top-left corner of 2×2 zeros."""
    out = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    out[..., ::2, ::2] = x
    return out


class PlainUp(nn.Module):
    """Unpooling followed by a 5×5 convolution without bias: (B, cin, H, W) → (B, cout, 2H, 2W)."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 5, padding=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Unpool, convolve."""
        return self.conv(unpool(x))


class FastUp(nn.Module):
    """The same map as PlainUp by four small convolutions that skip the zeros (E, section 3.3).

    A 3×3, B 2×3, C 3×2 and D 2×2 give the pixels (2i, 2j), (2i+1, 2j), (2i, 2j+1), (2i+1, 2j+1).
    ``side`` is where the even-sized kernels look: ``bottom_right`` equals PlainUp, ``top_left``
    is the padding of the authors' released weights.
    """

    def __init__(self, cin: int, cout: int, side: str = "bottom_right") -> None:
        super().__init__()
        if side not in SIDES:
            raise ValueError(f"side: expected one of {', '.join(SIDES)}, got {side!r}")
        self.side = side
        self.conv_a = nn.Conv2d(cin, cout, (3, 3), bias=False)
        self.conv_b = nn.Conv2d(cin, cout, (2, 3), bias=False)
        self.conv_c = nn.Conv2d(cin, cout, (3, 2), bias=False)
        self.conv_d = nn.Conv2d(cin, cout, (2, 2), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Four convolutions, interleaved."""
        x = F.pad(x, (1, 1, 1, 1))
        # The kernels of even size leave out the padding of the side on which they do not look.
        rows = slice(1, None) if self.side == "bottom_right" else slice(None, -1)
        a = self.conv_a(x)
        b = self.conv_b(x[:, :, rows])
        c = self.conv_c(x[:, :, :, rows])
        d = self.conv_d(x[:, :, rows, rows])
        return F.pixel_shuffle(torch.stack((a, c, b, d), dim=2).flatten(1, 2), 2)

    @torch.no_grad()
    def load_plain(self, weight: Tensor) -> None:
        """Take a 5×5 kernel (cout, cin, 5, 5): its even and odd taps are A, B, C and D."""
        if self.side != "bottom_right":
            raise ValueError("side: expected 'bottom_right' for a 5×5 kernel, got 'top_left'")
        for name, taps in self._taps(weight).items():
            getattr(self, name).weight.copy_(taps)

    @torch.no_grad()
    def plain_weight(self) -> Tensor:
        """The 5×5 kernel (cout, cin, 5, 5) that does the same on the unpooled map."""
        if self.side != "bottom_right":
            raise ValueError("side: expected 'bottom_right' for a 5×5 kernel, got 'top_left'")
        weight = self.conv_a.weight.new_zeros(*self.conv_a.weight.shape[:2], 5, 5)
        for name, taps in self._taps(weight).items():
            taps.copy_(getattr(self, name).weight)
        return weight

    @staticmethod
    def _taps(weight: Tensor) -> dict[str, Tensor]:
        even, odd = slice(0, None, 2), slice(1, None, 2)
        return {
            "conv_a": weight[..., even, even],
            "conv_b": weight[..., odd, even],
            "conv_c": weight[..., even, odd],
            "conv_d": weight[..., odd, odd],
        }


def _up(cin: int, cout: int, fast: bool, side: str) -> nn.Module:
    return FastUp(cin, cout, side) if fast else PlainUp(cin, cout)


class UpConv(nn.Sequential):
    """Up-convolution: unpool, 5×5, BN, ReLU. (B, cin, H, W) → (B, cout, 2H, 2W)."""

    def __init__(self, cin: int, cout: int, fast: bool = True, side: str = "bottom_right") -> None:
        super().__init__(_up(cin, cout, fast, side), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class UpProj(nn.Module):
    """Up-projection (E, Figure 2c): 5×5–BN–ReLU–3×3–BN plus 5×5–BN, then ReLU.

    (B, cin, H, W) → (B, cout, 2H, 2W).
    """

    def __init__(self, cin: int, cout: int, fast: bool = True, side: str = "bottom_right") -> None:
        super().__init__()
        self.upper = nn.Sequential(
            _up(cin, cout, fast, side),
            nn.BatchNorm2d(cout),
            nn.ReLU(inplace=True),
            nn.Conv2d(cout, cout, 3, padding=1, bias=False),
            nn.BatchNorm2d(cout),
        )
        self.lower = nn.Sequential(_up(cin, cout, fast, side), nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        """Project both ways, add, rectify."""
        return F.relu(self.upper(x) + self.lower(x), inplace=True)


NORMS = {
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
}


class ResidualBlock(nn.Module):
    """3×3–norm–LeakyReLU(0.2)–[dropout]–3×3–norm, added to the input; (B, C, H, W) is kept (A)."""

    def __init__(self, channels: int, dropout: float = 0.5, norm: str = "batch") -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            NORMS[norm](channels),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Dropout(dropout),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            NORMS[norm](channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Input plus correction."""
        return x + self.body(x)
