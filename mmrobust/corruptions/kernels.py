"""Loops over pixels, compiled on first use.

Every result is defined to the last bit: float32 operations in a fixed order, which a compiler that
keeps to IEEE 754 may spread over a vector unit but neither fuse nor reorder. OpenCV and BLAS choose
both by version and processor; where a fraction is dropped afterwards, that shows.
"""

from collections.abc import Callable
from functools import cache, wraps

import numpy as np

_TILE = 1024  # floats of a row summed together: with what they are made of they fit the cache


def compiled(function: Callable) -> Callable:
    """Compiles a function when it is first called, as importing numba takes time."""

    @wraps(function)
    def call(*args):
        return _compile(function)(*args)

    return call


@cache
def _compile(function: Callable) -> Callable:
    import numba
    options = dict(nogil=True, error_model='numpy')  # and never fastmath, which reorders
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder to keep the machine code in
        return numba.njit(**options)(function)


@compiled
def sum_taps(x, offsets, weights, out):
    """Writes to out[y, i] the sum of weights[t] * x[y, i + offsets[t]], in the order of t.

    Args:
        x (numpy.ndarray): float32, contiguous, (H, W).
        offsets (numpy.ndarray): Distances in memory, not negative; their number a multiple of 4.
        weights (numpy.ndarray): float32.
        out (numpy.ndarray): float32, contiguous, (h, w), with w <= W.
    """
    flat = x.reshape(-1)
    height, width = out.shape
    stride = x.shape[1]
    for left in range(0, width, _TILE):
        length = min(_TILE, width - left)
        for y in range(height):
            start = y * stride + left
            row = out[y, left:left + length]
            for i in range(length):
                row[i] = 0
            for tap in range(0, len(offsets), 4):
                a = flat[start + offsets[tap]:][:length]
                b = flat[start + offsets[tap + 1]:][:length]
                c = flat[start + offsets[tap + 2]:][:length]
                d = flat[start + offsets[tap + 3]:][:length]
                p, q, r, s = weights[tap], weights[tap + 1], weights[tap + 2], weights[tap + 3]
                for i in range(length):
                    row[i] = (((row[i] + p * a[i]) + q * b[i]) + r * c[i]) + s * d[i]


@compiled
def sum_symmetric(x, kernel, channels, out):
    """Correlates with a kernel that equals its mirror images.

    Args:
        x (numpy.ndarray): float32, contiguous, (H, W * channels).
        kernel (numpy.ndarray): float32, (2 r + 1, 2 r + 1).
        channels (int): Numbers per pixel.
        out (numpy.ndarray): float32, contiguous, (H - 2 r, (W - 2 r) * channels).
    """
    reach = len(kernel) // 2
    height, width = out.shape
    both = np.empty(_TILE + 2 * reach * channels, np.float32)
    for left in range(0, width, _TILE):
        length = min(_TILE, width - left)
        longer = length + 2 * reach * channels
        for y in range(height):
            row = out[y, left:left + length]
            for i in range(length):
                row[i] = 0
            for dy in range(reach + 1):
                above = x[y + reach - dy, left:left + longer]
                below = x[y + reach + dy, left:left + longer]
                for i in range(longer):
                    both[i] = above[i] + below[i]
                if dy == 0:
                    for i in range(longer):
                        both[i] = above[i]
                weight = kernel[reach + dy, reach]
                middle = both[reach * channels:][:length]
                for i in range(length):
                    row[i] += weight * middle[i]
                for dx in range(1, reach + 1):
                    weight = kernel[reach + dy, reach + dx]
                    if weight != 0:
                        a = both[(reach - dx) * channels:][:length]
                        b = both[(reach + dx) * channels:][:length]
                        for i in range(length):
                            row[i] += weight * (a[i] + b[i])


@compiled
def add_enlarged(x, rows, row_shares, columns, column_shares, out):
    """Adds to an image another one, interpolated linearly.

    Args:
        x (numpy.ndarray): float32, (H, W, C).
        rows, columns (numpy.ndarray): For each row and column of the result the first of two of x.
        row_shares, column_shares (numpy.ndarray): float32, the share of the second.
        out (numpy.ndarray): float32, (h, w, C); changed in its first rows and columns.
    """
    _, width, channels = x.shape
    blend = np.empty((width, channels), np.float32)
    for y in range(len(rows)):
        first, second, share = x[rows[y]], x[rows[y] + 1], row_shares[y]
        for i in range(width):
            for c in range(channels):
                blend[i, c] = first[i, c] + share * (second[i, c] - first[i, c])
        for i in range(len(columns)):
            left, share = columns[i], column_shares[i]
            for c in range(channels):
                start = blend[left, c]
                out[y, i, c] += start + share * (blend[left + 1, c] - start)


@compiled
def resample(image, rows, row_weights, columns, column_weights, out):
    """Interpolates between four rows and four columns for each row and column of the result.

    Args:
        image (numpy.ndarray): uint8, (H, W, C).
        rows, columns (numpy.ndarray): (h, 4) and (w, 4), which to take, rows in ascending order.
        row_weights, column_weights (numpy.ndarray): float32, (h, 4) and (w, 4).
        out (numpy.ndarray): uint8, (h, w, C).
    """
    channels = image.shape[2]
    first = rows.min()
    count = rows.max() + 1 - first
    wide = np.empty((count, len(columns), channels), np.float32)
    for y in range(count):
        for i in range(len(columns)):
            for c in range(channels):
                total = np.float32(0)
                for k in range(4):
                    total += column_weights[i, k] * np.float32(image[first + y, columns[i, k], c])
                wide[y, i, c] = total
    flat = wide.reshape(count, -1)
    for y in range(len(rows)):
        w0, w1, w2, w3 = (row_weights[y, 0], row_weights[y, 1], row_weights[y, 2],
                          row_weights[y, 3])
        a, b = flat[rows[y, 0] - first], flat[rows[y, 1] - first]
        c, d = flat[rows[y, 2] - first], flat[rows[y, 3] - first]
        result = out[y].reshape(-1)
        for i in range(len(result)):
            value = ((a[i] * w0 + b[i] * w1) + c[i] * w2) + d[i] * w3
            result[i] = np.rint(min(max(value, np.float32(0)), np.float32(255)))


@compiled
def move(image, rows, columns, edge, out):
    """Fetches each pixel from elsewhere, interpolates linearly, and truncates.

    Args:
        image (numpy.ndarray): uint8, (H, W, C); mirrored at its borders.
        rows, columns (numpy.ndarray): float32, (h, w): how far to the source, in pixels.
        edge (int): 1 where the mirror lies in the middle of the outermost pixels, else 0.
        out (numpy.ndarray): uint8, (h, w, C).
    """
    height, width, channels = image.shape
    tall, wide = 2 * (height - edge), 2 * (width - edge)  # the periods of the mirrored image
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            down, right = np.floor(rows[y, x]), np.floor(columns[y, x])
            share, side_share = rows[y, x] - down, columns[y, x] - right
            top, left = y + np.int64(down), x + np.int64(right)
            bottom, far = top + 1, left + 1
            if top < 0 or bottom >= height:
                top, bottom = top % tall, bottom % tall
                top = min(top, tall - 1 + edge - top)
                bottom = min(bottom, tall - 1 + edge - bottom)
            if left < 0 or far >= width:
                left, far = left % wide, far % wide
                left = min(left, wide - 1 + edge - left)
                far = min(far, wide - 1 + edge - far)
            for c in range(channels):
                a, b = np.float32(image[top, left, c]), np.float32(image[top, far, c])
                upper = a + side_share * (b - a)
                a, b = np.float32(image[bottom, left, c]), np.float32(image[bottom, far, c])
                lower = a + side_share * (b - a)
                out[y, x, c] = np.uint8(upper + share * (lower - upper))


@compiled
def refine(corners, noise, swing, finer):
    """Doubles the sides of a periodic map by one step of the diamond-square algorithm.

    Args:
        corners (numpy.ndarray): float32, (H, W).
        noise (numpy.ndarray): (3, H, W), in 0..1: for what lies between four corners, to the right
            of each, and below each.
        swing (float): How far the noise moves values up or down, float32.
        finer (numpy.ndarray): float32, (2 H, 2 W).
    """
    height, width = corners.shape
    quarter, twice = np.float32(.25), np.float32(2) * swing
    for y in range(height):
        down = y + 1 if y + 1 < height else 0
        for x in range(width):
            right = x + 1 if x + 1 < width else 0
            total = (corners[y, x] + corners[down, x]) + (corners[y, right] + corners[down, right])
            finer[2 * y, 2 * x] = corners[y, x]
            finer[2 * y + 1, 2 * x + 1] = (
                total * quarter + (twice * np.float32(noise[0, y, x]) - swing))
    for y in range(height):
        down = y + 1 if y + 1 < height else 0
        up = 2 * (y if y else height) - 1
        for x in range(width):
            right = x + 1 if x + 1 < width else 0
            left = 2 * (x if x else width) - 1
            centre = finer[2 * y + 1, 2 * x + 1]
            total = (centre + finer[up, 2 * x + 1]) + (corners[y, x] + corners[y, right])
            finer[2 * y, 2 * x + 1] = (
                total * quarter + (twice * np.float32(noise[1, y, x]) - swing))
            total = (centre + finer[2 * y + 1, left]) + (corners[y, x] + corners[down, x])
            finer[2 * y + 1, 2 * x] = (
                total * quarter + (twice * np.float32(noise[2, y, x]) - swing))


@compiled
def cover(image, keep, haze, low, factor, out):
    """Mixes an image and a layer over it, and truncates: keep * image + factor * (haze - low).

    Args:
        image (numpy.ndarray): uint8, (H, W, C).
        keep, low, factor (float): float32.
        haze (numpy.ndarray): float32, (H, W).
        out (numpy.ndarray): uint8, (H, W, C).
    """
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            layer = factor * (haze[y, x] - low) + np.float32(2e-5)
            for c in range(out.shape[2]):
                value = keep * np.float32(image[y, x, c]) + layer
                out[y, x, c] = np.uint8(min(max(value, np.float32(0)), np.float32(255)))


@compiled
def whiten(image, unit, flakes, mix, rest, out):
    """Mixes an image with its whitened self, lets flakes shine on top, and truncates.

    Args:
        image (numpy.ndarray): uint8, (H, W, 3).
        unit (numpy.ndarray): float32, the 256 levels in 0..1.
        flakes (numpy.ndarray): float32, (H, W), in levels; those that fall and those that rise.
        mix, rest (float): float32, the shares of the image and of its whitened self.
        out (numpy.ndarray): uint8, (H, W, 3).
    """
    one_half, half, full = np.float32(1.5), np.float32(.5), np.float32(255)
    height, width = flakes.shape
    for y in range(height):
        for x in range(width):
            red, green, blue = unit[image[y, x, 0]], unit[image[y, x, 1]], unit[image[y, x, 2]]
            grey = (np.float32(.114) * blue + np.float32(.587) * green) + np.float32(.299) * red
            white = grey * one_half + half
            flake = flakes[y, x] + flakes[height - 1 - y, width - 1 - x]
            for c in range(3):
                value = unit[image[y, x, c]]
                value = value * mix + max(value, white) * rest
                out[y, x, c] = np.uint8(min(value * full + flake, full))


@compiled
def splash(image, share, shades, opaque, out):
    """Lays a colour over an image where it is wet, and truncates.

    Args:
        image (numpy.ndarray): uint8, (H, W, 3).
        share (numpy.ndarray): float32, (H, W), how much there is of it.
        shades (numpy.ndarray): float32, (3,), the colour.
        opaque (bool): Whether it covers the image, or shines through.
        out (numpy.ndarray): uint8, (H, W, 3).
    """
    one, nudge = np.float32(1), np.float32(2e-5)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            keep = one - share[y, x] if opaque else one
            for c in range(3):
                value = np.float32(image[y, x, c]) * keep + (share[y, x] * shades[c] + nudge)
                out[y, x, c] = np.uint8(min(max(value, np.float32(0)), np.float32(255)))


@compiled
def distances(edges, straight, diagonal, knight, out):
    """Measures how far it is to the next edge, in steps to the eight neighbours and of a knight.

    Args:
        edges (numpy.ndarray): uint8, (H, W), 0 where there is none.
        straight, diagonal, knight (float): float32, the lengths of steps.
        out (numpy.ndarray): float32, (H + 4, W + 4): the distances, within a margin of 2.
    """
    height, width = edges.shape
    out[:] = np.float32(1e6)
    for y in range(2, height + 2):
        for x in range(2, width + 2):
            if edges[y - 2, x - 2]:
                out[y, x] = 0
                continue
            near = min(min(out[y - 1, x], out[y, x - 1]) + straight,
                       min(out[y - 1, x - 1], out[y - 1, x + 1]) + diagonal)
            far = min(min(out[y - 2, x - 1], out[y - 2, x + 1]),
                      min(out[y - 1, x - 2], out[y - 1, x + 2])) + knight
            out[y, x] = min(near, far)
    for y in range(height + 1, 1, -1):
        for x in range(width + 1, 1, -1):
            near = min(min(out[y + 1, x], out[y, x + 1]) + straight,
                       min(out[y + 1, x + 1], out[y + 1, x - 1]) + diagonal)
            far = min(min(out[y + 2, x + 1], out[y + 2, x - 1]),
                      min(out[y + 1, x + 2], out[y + 1, x - 2])) + knight
            out[y, x] = min(out[y, x], min(near, far))


@compiled
def scatter(pixels, choices, moves, first, width):
    """Copies one by one, as a source that comes later has been overwritten by then.

    Args:
        pixels (numpy.ndarray): (H * width,), changed in place.
        choices (numpy.ndarray): (h, w), for each pixel of an area the index of its move.
        moves (numpy.ndarray): Distances of the sources in memory.
        first (int): Where the area begins.
        width (int): Of a row in memory.
    """
    for y in range(choices.shape[0] - 1, -1, -1):
        row = first + y * width
        for x in range(choices.shape[1] - 1, -1, -1):
            pixels[row + x] = pixels[row + x + moves[choices[y, x]]]


@compiled
def share_out(chances, threshold, alias):
    """Fills Walker's tables: outcome j keeps threshold[i, j] of its 256 chances.

    Args:
        chances (numpy.ndarray): int64, (N, 256), rows that sum to 65536; changed.
        threshold, alias (numpy.ndarray): uint8, (N, 256), with 255 and the outcome itself, which is
            right for outcomes that keep all their chances.
    """
    poor, rich = np.empty(256, np.int64), np.empty(256, np.int64)
    for i in range(len(chances)):
        poors = riches = 0
        for j in range(256):
            if chances[i, j] < 256:
                poor[poors] = j
                poors += 1
            else:
                rich[riches] = j
                riches += 1
        while poors:
            poors -= 1
            giver, taker = rich[riches - 1], poor[poors]
            threshold[i, taker] = chances[i, taker]
            alias[i, taker] = giver
            chances[i, giver] -= 256 - chances[i, taker]
            if chances[i, giver] < 256:
                riches -= 1
                poor[poors] = giver
                poors += 1
