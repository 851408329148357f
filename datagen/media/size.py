"""How large the training frames are; apart from the code that makes them, which takes long to import."""

import math

GRID = 28
"""Pixels of one visual token in each direction; sides are multiples of it."""


def frame_size(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """Sides of the training frames of a video displayed at width x height pixels.

    Both are multiples of 28, at most `max_pixels` together and no larger than the video (rounded
    up to 28). Among these the best trade: a quarter as many pixels is as bad as an aspect ratio
    off by a factor of 2 ** 0.5.
    """
    allowed = min(max_pixels, width * height)
    best, lowest = (GRID, GRID), math.inf
    for across in range(1, min(math.ceil(width / GRID), max_pixels // GRID**2) + 1):
        exact = across * height / width
        tallest = min(math.ceil(height / GRID), max_pixels // GRID**2 // across)
        for down in {math.floor(exact), math.ceil(exact), tallest}:
            if not 1 <= down <= tallest:
                continue
            distortion = abs(math.log(exact / down))
            loss = abs(math.log(across * down * GRID**2 / allowed))
            if (cost := distortion + loss / 4) < lowest:
                best, lowest = (across * GRID, down * GRID), cost
    return best
