"""What published networks do otherwise than the book's U-Net: all that compatibility asks of :mod:`ddim_lib.unet`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """Departures from the book's network; the defaults are the book's.

    Attributes:
        residual: whether the last layer predicts eps - x_t, and not eps itself.
        asymmetric: whether down-sampling pads at the right and the bottom only.
        head_width: channels of one attention head; None for a single head as wide as its level.
        time_shift: the network is told t - time_shift: 1 where it was trained on times 0..T-1.
        freq_shift: 1 where the frequencies of the time embedding end at 1/10,000, 0 where they stop short of it.
        guard: what every GroupNorm adds to the variance.
    """

    residual: bool = True
    asymmetric: bool = False
    head_width: int | None = None
    time_shift: int = 0
    freq_shift: int = 0
    guard: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("time_shift", "freq_shift"):
            if getattr(self, name) not in (0, 1):
                raise ValueError(f"{name} must be 0 or 1, got {getattr(self, name)}")
        if self.head_width is not None and self.head_width < 1:
            raise ValueError(f"head_width must be None or at least 1, got {self.head_width}")
        if not 0 < self.guard < 1:
            raise ValueError(f"guard must lie in (0, 1), got {self.guard}")


BOOK = Variant()
