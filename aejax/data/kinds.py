"""The kind of an example, by its shape: the only place that decides whether it is an image."""

from __future__ import annotations

from typing import TypeGuard

CHANNELS = (1, 3, 4)
"""Numbers of channels of an image: gray, RGB, RGBA."""


def is_image(shape: tuple[int, ...]) -> TypeGuard[tuple[int, int, int]]:
    """Whether examples of this shape are images [height, width, channels].

    Args:
        shape: Shape of one example.

    Returns:
        True for three axes of which the last has 1, 3 or 4 channels.

    Example:
        >>> is_image((28, 28, 1)), is_image((28, 28))
        (True, False)
    """
    return len(shape) == 3 and shape[2] in CHANNELS and min(shape[:2]) >= 2


def kind(shape: tuple[int, ...]) -> str:
    """Description of an example of this shape."""
    if len(shape) == 1:
        return "rows of numbers"
    if is_image(shape):
        return "images"
    if len(shape) == 2:
        return "signals or sequences"
    return "sequences of images" if is_image(shape[1:]) else "arrays"


def doubt(shape: tuple[int, ...]) -> str | None:
    """What else an example of this shape might be, and what to do then; None if there is no doubt."""
    if len(shape) == 3 and _channels_first(shape):
        return (
            f"if they are images with the {shape[0]} channels first, put them last: np.moveaxis(x, 1, -1) of shape "
            f"[n, {shape[1]}, {shape[2]}, {shape[0]}]"
        )
    if len(shape) == 2 and min(shape) >= 8:
        return f"if they are gray images, give them a channel: x[..., None] of shape [n, {shape[0]}, {shape[1]}, 1]"
    if len(shape) == 2 and shape[0] < shape[1] and shape[0] < 8:
        return (
            f"they are read as {shape[0]} steps of {shape[1]} numbers; if they are {shape[0]} channels of {shape[1]} steps, "
            "swap the axes: np.swapaxes(x, 1, 2)"
        )
    if len(shape) == 3 and not is_image(shape) and not is_image(shape[1:]) and min(shape) >= 8:
        return f"if they are sequences of gray images, give them a channel: x[..., None] of shape [n, {shape[0]}, …, 1]"
    if len(shape) == 4 and _channels_first(shape[1:]):
        return "if they are sequences of images with the channels first, put them last: np.moveaxis(x, 2, -1)"
    return None


def _channels_first(shape: tuple[int, ...]) -> bool:
    """Whether the shape looks like [c, h, w]: an image with 1, 3 or 4 rows and many columns and channels is unlikely."""
    return shape[0] in CHANNELS and min(shape[1:]) > max(CHANNELS)
