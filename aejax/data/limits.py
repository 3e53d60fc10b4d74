"""Limits on what a file of data may become in memory, checked before anything is allocated.

A few kilobytes can claim to hold terabytes, by mistake or by intent: an .npz or .parquet that is compressed, a header with a huge
shape, an image of a single color. What exceeds a limit is refused, unless `ReadAs.large` lifts the limits.
"""

from __future__ import annotations

from aejax.errors import UsageError

MOST_BYTES = 8 * 2**30
"""Bytes that the arrays of a file which is read as a whole may take."""

MOST_PIXELS = 2**30 // 6
"""Pixels of one image, 179 million: half a GiB of RGB, the bound of Pillow."""


def refuse_many_bytes(needed: int, where: str, large: bool) -> None:
    if needed > MOST_BYTES and not large:
        raise UsageError(
            f"{where} would take {needed / 2**30:,.1f} GiB in memory, where {MOST_BYTES / 2**30:.0f} are allowed; pass --large "
            "if that is right (or save x as a .npy, which is read by position)"
        )


def refuse_many_pixels(width: int, height: int, where: str, large: bool) -> None:
    if width * height > MOST_PIXELS and not large:
        raise UsageError(
            f"{where} has {width}×{height} pixels, where {MOST_PIXELS / 1e6:.0f} million are allowed; pass --large if that is "
            "right"
        )
