# SPDX-License-Identifier: Apache-2.0
"""Building blocks: unpooling, up-convolution and up-projection (E, section 3), residual blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDES = ("bottom_right", "top_left")
FILLINGS = ("zeros", "average")


def interleave(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Four (B, C, H, W) → (B, C, 2H, 2W): a at (2i, 2j), b (2i+1, 2j), c (2i, 2j+1), d odd, odd."""
    return F.pixel_shuffle(torch.stack((a, c, b, d), dim=2).flatten(1, 2), 2)


def unpool(x: Tensor, filling: str = "zeros") -> Tensor:
    """(B, C, H, W) → (B, C, 2H, 2W), the value in the top-left corner of each 2×2.

    The other three are ``zeros`` (E), or the ``average`` of the two nearest neighbours (C, section
    3.3). C leaves the corner between four values open: it gets the average of the two filled ones
    beside it. Beyond the last row and column the last value goes on.
    """
    if filling == "zeros":
        nothing = torch.zeros_like(x)
        return interleave(x, nothing, nothing, nothing)
    below = (x + torch.cat((x[:, :, 1:], x[:, :, -1:]), dim=2)) / 2
    right, corner = ((y + torch.cat((y[..., 1:], y[..., -1:]), dim=3)) / 2 for y in (x, below))
    return interleave(x, below, right, corner)


class PlainUp(nn.Module):
    """Unpooling followed by a 5×5 convolution without bias: (B, cin, H, W) → (B, cout, 2H, 2W).

    ``side`` is as in FastUp: with ``top_left`` the odd rows and columns show what ``bottom_right``
    shows two pixels before them.
    """

    def __init__(
        self, cin: int, cout: int, side: str = "bottom_right", filling: str = "zeros"
    ) -> None:
        super().__init__()
        for name, value, known in (("side", side, SIDES), ("filling", filling, FILLINGS)):
            if value not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
        self.side, self.filling = side, filling
        self.conv = nn.Conv2d(cin, cout, 5, padding=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Unpool, convolve."""
        x = unpool(x, self.filling)
        if self.side == "bottom_right":
            return self.conv(x)
        x = self.conv(F.pad(x, (2, 0, 2, 0)))
        even, odd = slice(2, None, 2), slice(1, -2, 2)
        return interleave(
            x[..., even, even], x[..., odd, even], x[..., even, odd], x[..., odd, odd]
        )


class FastUp(nn.Module):
    """The same map as PlainUp by four small convolutions that skip the zeros (E, section 3.3).

    A 3×3, B 2×3, C 3×2 and D 2×2 give the pixels (2i, 2j), (2i+1, 2j), (2i, 2j+1), (2i+1, 2j+1).
    ``side`` is where the even-sized kernels look: ``bottom_right`` equals PlainUp, ``top_left``
    is the padding of the authors' released weights, whose four convolutions have a ``bias`` each.
    """

    def __init__(self, cin: int, cout: int, side: str = "bottom_right", bias: bool = False) -> None:
        super().__init__()
        if side not in SIDES:
            raise ValueError(f"side: expected one of {', '.join(SIDES)}, got {side!r}")
        self.side = side
        self.conv_a = nn.Conv2d(cin, cout, (3, 3), bias=bias)
        self.conv_b = nn.Conv2d(cin, cout, (2, 3), bias=bias)
        self.conv_c = nn.Conv2d(cin, cout, (3, 2), bias=bias)
        self.conv_d = nn.Conv2d(cin, cout, (2, 2), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Four convolutions, interleaved."""
        x = F.pad(x, (1, 1, 1, 1))
        # The kernels of even size leave out the padding of the side on which they do not look.
        rows = slice(1, None) if self.side == "bottom_right" else slice(None, -1)
        a = self.conv_a(x)
        b = self.conv_b(x[:, :, rows])
        c = self.conv_c(x[:, :, :, rows])
        d = self.conv_d(x[:, :, rows, rows])
        return interleave(a, b, c, d)

    @torch.no_grad()
    def load_plain(self, weight: Tensor) -> None:
        """Take a 5×5 kernel (cout, cin, 5, 5): its even and odd taps are A, B, C and D."""
        if self.side != "bottom_right":
            raise ValueError("side: expected 'bottom_right' for a 5×5 kernel, got 'top_left'")
        for name, taps in self.taps(weight).items():
            getattr(self, name).weight.copy_(taps)

    @torch.no_grad()
    def plain_weight(self) -> Tensor:
        """The 5×5 kernel (cout, cin, 5, 5) that does the same on the unpooled map."""
        if self.side != "bottom_right":
            raise ValueError("side: expected 'bottom_right' for a 5×5 kernel, got 'top_left'")
        weight = self.conv_a.weight.new_zeros(*self.conv_a.weight.shape[:2], 5, 5)
        for name, taps in self.taps(weight).items():
            taps.copy_(getattr(self, name).weight)
        return weight

    @staticmethod
    def taps(weight: Tensor) -> dict[str, Tensor]:
        """Views of a 5×5 kernel (…, 5, 5): what A, B, C and D see of it."""
        even, odd = slice(0, None, 2), slice(1, None, 2)
        return {
            "conv_a": weight[..., even, even],
            "conv_b": weight[..., odd, even],
            "conv_c": weight[..., even, odd],
            "conv_d": weight[..., odd, odd],
        }


def _up(cin: int, cout: int, fast: bool, side: str, filling: str, bias: bool = False) -> nn.Module:
    if fast and filling != "zeros":
        raise ValueError(f"fast: expected False with filling {filling!r}, which leaves no zeros")
    if bias and not fast:
        raise ValueError("fast: expected True with biases, of which the plain form has none")
    return FastUp(cin, cout, side, bias) if fast else PlainUp(cin, cout, side, filling)


class DeConv(nn.Sequential):
    """E's 2×2 deconvolution with stride 2, BN, ReLU: (B, cin, H, W) → (B, cout, 2H, 2W).

    ``kernel`` 3 is another of sparse-to-dense's decoders.
    """

    def __init__(self, cin: int, cout: int, kernel: int = 2) -> None:
        padding, more = (kernel - 1) // 2, kernel % 2
        super().__init__(
            nn.ConvTranspose2d(cin, cout, kernel, 2, padding, more, bias=False),
            nn.BatchNorm2d(cout),
            nn.ReLU(inplace=True),
        )


class UpConv(nn.Sequential):
    """Up-convolution: unpool, 5×5, BN, ReLU. (B, cin, H, W) → (B, cout, 2H, 2W)."""

    def __init__(
        self,
        cin: int,
        cout: int,
        fast: bool = True,
        side: str = "bottom_right",
        filling: str = "zeros",
    ) -> None:
        up = _up(cin, cout, fast, side, filling)
        super().__init__(up, nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class UpProj(nn.Module):
    """Up-projection (E, Figure 2c): 5×5–BN–ReLU–3×3–BN plus 5×5–BN, then ReLU.

    (B, cin, H, W) → (B, cout, 2H, 2W).
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        fast: bool = True,
        side: str = "bottom_right",
        filling: str = "zeros",
        bias: bool = False,
    ) -> None:
        super().__init__()
        form = (fast, side, filling, bias)
        self.upper = nn.Sequential(
            _up(cin, cout, *form),
            nn.BatchNorm2d(cout),
            nn.ReLU(inplace=True),
            nn.Conv2d(cout, cout, 3, padding=1, bias=bias),
            nn.BatchNorm2d(cout),
        )
        self.lower = nn.Sequential(_up(cin, cout, *form), nn.BatchNorm2d(cout))

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
