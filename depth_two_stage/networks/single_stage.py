# SPDX-License-Identifier: Apache-2.0
"""D's single-stage networks: AH, C, SC, SCRX, SCRXU, SCRDU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# All widths in one table: D's stand in figures that its text lacks. ``trunk`` is region A (the
# whole network of AH, C and SC), ``up`` the upsampling region, ``local`` the layers on the image.
WIDTHS = {"trunk": 64, "up": 64, "local": 64}
# Unit of the trunk; where refinement comes (None, before or after upsampling); whether upsampled.
KINDS = {
    "AH": ("block", None, False),
    "C": ("convolution", None, False),
    "SC": ("residual", None, False),
    "SCRX": ("residual", "before", False),
    "SCRXU": ("residual", "before", True),
    "SCRDU": ("residual", "after", True),
}


class Residual(nn.Module):
    """3×3–ReLU–3×3 plus the input, ReLU (D, Figure 4): (B, cin, H, W) → (B, cout, H, W).

    Biases and no BN, as D writes. A 1×1 convolution where the widths differ.
    """

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(cin, cout, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(cout, cout, 3, padding=1),
        )
        self.identity = nn.Identity() if cin == cout else nn.Conv2d(cin, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Input plus body."""
        return F.relu(self.body(x) + self.identity(x))


def _convolution(cin: int, cout: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.ReLU(inplace=True))


def _block(cin: int, cout: int) -> nn.Sequential:
    """Afifi and Hellwich's block of consecutive convolutions (D, Figure 3); two of them here."""
    return nn.Sequential(*_convolution(cin, cout), *_convolution(cout, cout))


UNITS = {"convolution": _convolution, "block": _block, "residual": Residual}


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(2, 2, ceil_mode=True)  # D's toolbox, Tensorflow, rounds up


class SingleStage(nn.Module):
    """(B, in_channels, H, W) → depth in 0…1 of the maximum, (B, 1, H/4, W/4), H/2 with U.

    Letters: C convolution, S residual block, U upsampling, R refinement, X after Xu et al., D after
    Dosovitskiy et al. All kernels 3×3; sigmoid last; `TwoStage` resizes bilinearly (D, section 3).

    - C, SC, AH: four units of convolutions, residual blocks or blocks of convolutions, max-pool
      after the first two, then convolution–sigmoid. The layers of AH are Figure 2 of D, which the
      text lacks: C with blocks of two convolutions.
    - SCRX: that of SC is region A; region B joins two convolutions with pools on the image to it,
      then convolution–sigmoid.
    - SCRXU: as SCRX up to the join; then two residual blocks and a transposed convolution with
      stride 2 (D: "a convolutional layer" that upsamples), then convolution–sigmoid.
    - SCRDU: these three upsample region A's output first; the join follows, at half the size, so
      the image is pooled once there.
    """

    fraction = True  # of NetworkSettings.max_depth

    def __init__(self, kind: str = "SCRX", in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
        unit, self.refined, upsampled = KINDS[kind]
        wide, up, local = (max(1, round(width * WIDTHS[k])) for k in ("trunk", "up", "local"))
        make = UNITS[unit]
        self.trunk = nn.Sequential(
            make(in_channels, wide),
            _pool(),
            make(wide, wide),
            _pool(),
            make(wide, wide),
            make(wide, wide),
            nn.Conv2d(wide, 1, 3, padding=1),
            nn.Sigmoid(),
        )
        if self.refined is None:
            return
        before = self.refined == "before"
        self.local = nn.Sequential(
            nn.Conv2d(in_channels, local, 3, padding=1),
            _pool(),
            nn.ReLU(inplace=True),
            nn.Conv2d(local, local, 3, padding=1),
            _pool() if before else nn.Identity(),
            nn.ReLU(inplace=True),
        )
        joined = local + (1 if before else up)
        self.up = nn.Identity()
        if upsampled:
            self.up = nn.Sequential(
                Residual(joined if before else 1, up),
                Residual(up, up),
                nn.ConvTranspose2d(up, up, 3, 2, 1, 1),
                nn.ReLU(inplace=True),
            )
        last = up if upsampled and before else joined
        self.out = nn.Sequential(nn.Conv2d(last, 1, 3, padding=1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """The global view, then, with R, the local one."""
        depth = self.trunk(x)
        if self.refined is None:
            return depth
        local = self.local(x)
        if self.refined == "before":
            return self.out(self.up(torch.cat((local, depth), dim=1)))
        depth = self.up(depth)[..., : local.shape[-2], : local.shape[-1]]
        return self.out(torch.cat((local, depth), dim=1))
