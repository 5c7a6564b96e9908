"""Camera, light, and the pair of pictures (colours and labels) that everything is drawn on.

World coordinates are metres: x to the right of the road's middle, y above the ground, z ahead of
the camera. Colours are BGR, 0 to 255.
"""
import colorsys
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

Colour = tuple[float, float, float]
NEAR = 0.8  # nothing is nearer to the camera, so that projections stay finite


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """A BGR colour; all three arguments lie in [0, 1]."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return 255 * blue, 255 * green, 255 * red


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """``share`` of the second colour in the first."""
    return tuple(a + (b - a) * share for a, b in zip(first, second, strict=True))


@dataclass
class Camera:
    """A pinhole camera looking along a road that bends by ``bend * z**2`` metres."""

    focal: float  # pixels
    centre: float  # pixels, column of the straight ahead
    horizon: float  # pixels, row
    height: float
    x: float
    bend: float

    def project(self, x: Any, y: Any, z: Any) -> tuple[Any, Any]:
        """Column and row, in pixels, of points in the world: numbers or arrays of them."""
        scale = self.focal / z
        return (self.centre + scale * (x - self.x + self.bend * z * z),
                self.horizon - scale * (y - self.height))


@dataclass
class Light:
    """What time of day and weather make of a colour."""

    tint: Colour  # factors on blue, green, red
    haze: Colour
    visibility: float  # metres after which 63 % of a colour is haze
    side: float  # -1: sun from the left, 1: from the right, 0: no direct sun
    darkness: float  # 0 by day, 1 at dusk

    def __call__(self, colour: Colour, depth: float = 0.0, shade: float = 1.0) -> Colour:
        clear = math.exp(-depth / self.visibility)
        (b, g, r), (tint_b, tint_g, tint_r) = colour, self.tint
        (haze_b, haze_g, haze_r), haze = self.haze, 1 - clear
        return (min(255.0, b * tint_b * shade) * clear + haze_b * haze,
                min(255.0, g * tint_g * shade) * clear + haze_g * haze,
                min(255.0, r * tint_r * shade) * clear + haze_r * haze)


@dataclass
class Face:
    """A parallelogram in the world: ``origin + u * along + v * up`` for u, v in [0, 1]."""

    origin: np.ndarray
    along: np.ndarray
    up: np.ndarray
    shade: float = 1.0

    def quads(self, rectangles: np.ndarray) -> np.ndarray:
        """World corners (n, 4, 3) of rectangles (n, 4) given as (u0, v0, u1, v1)."""
        u = rectangles[:, [0, 2, 2, 0], None]
        v = rectangles[:, [1, 1, 3, 3], None]
        return self.origin + u * self.along + v * self.up

    @property
    def corners(self) -> np.ndarray:
        """World corners (4, 3)."""
        return self.quads(np.array([[0.0, 0, 1, 1]]))[0]


class Canvas:
    """A picture and its label map, drawn at twice their size and then reduced.

    Args:
        size (tuple[int, int]): Width and height of the result.
        camera (Camera): Where the world is seen from, in pixels of the result.
        light (Light): What it is lit by.
    """

    SCALE = 2

    def __init__(self, size: tuple[int, int], camera: Camera, light: Light) -> None:
        self.width, self.height = size
        self.camera = camera
        self.light = light
        shape = (self.height * self.SCALE, self.width * self.SCALE)
        self.image = np.zeros((*shape, 3), np.uint8)
        self.labels = np.zeros(shape, np.uint8)

    def pixels_per_metre(self, z: float) -> float:
        """Size of a metre at depth z, in pixels of the result."""
        return self.camera.focal / max(z, NEAR)

    def _vertices(self, points: np.ndarray) -> np.ndarray:
        points = np.asarray(points, np.float64)
        x, y, z = points[..., 0], points[..., 1], np.maximum(points[..., 2], NEAR)
        pixels = np.empty((*points.shape[:-1], 2))
        pixels[..., 0], pixels[..., 1] = self.camera.project(x, y, z)
        vertices = np.rint(pixels * self.SCALE).astype(np.int32)
        return vertices if vertices.ndim == 3 else vertices[None]

    def fill(self, points: np.ndarray, colour: Colour, label: int | None = None,
             depth: float | None = None, shade: float = 1.0) -> None:
        """Fill a world polygon (n, 3), or several that do not overlap (m, n, 3).

        Without a label it is a detail of what is there; without a depth the colour is taken as
        it is.
        """
        vertices = self._vertices(points)
        if depth is not None:
            colour = self.light(colour, depth, shade)
        cv2.fillPoly(self.image, vertices, colour)
        if label is not None:
            cv2.fillPoly(self.labels, vertices, label)

    def disc(self, point: tuple[float, float, float], radius: float, colour: Colour,
             label: int | None = None, shade: float = 1.0, squash: float = 1.0) -> None:
        """An ellipse facing the camera; ``squash`` is its width over its height (2 * radius)."""
        x, y, z = point
        column, row = self.camera.project(x, y, max(z, NEAR))
        centre = (round(column * self.SCALE), round(row * self.SCALE))
        size = radius * self.SCALE * self.pixels_per_metre(z)
        axes = (round(size * squash), round(size))
        if max(axes) < 1 or not -axes[0] < centre[0] < self.image.shape[1] + axes[0]:
            return
        cv2.ellipse(self.image, centre, axes, 0, 0, 360, self.light(colour, z, shade), -1)
        if label is not None:
            cv2.ellipse(self.labels, centre, axes, 0, 0, 360, label, -1)

    def line(self, points: np.ndarray, width: float, colour: Colour, label: int | None = None,
             shade: float = 1.0, closed: bool = False) -> None:
        """A polyline of world points (n, 3), ``width`` metres wide, at least one pixel."""
        vertices = self._vertices(points)
        depth = float(np.mean(np.asarray(points)[..., 2]))
        thickness = max(1, int(round(width * self.SCALE * self.pixels_per_metre(depth))))
        cv2.polylines(self.image, vertices, closed, self.light(colour, depth, shade), thickness)
        if label is not None:
            cv2.polylines(self.labels, vertices, closed, label, max(self.SCALE, thickness))

    def cast_shadows(self, polygons: list[np.ndarray], strength: float) -> None:
        """Darken what lies in any of the world polygons."""
        mask = np.zeros(self.labels.shape, np.uint8)
        for polygon in polygons:
            cv2.fillPoly(mask, self._vertices(polygon), 255)
        cv2.copyTo(cv2.convertScaleAbs(self.image, alpha=1 - strength), mask, self.image)

    def faces(self, x: tuple[float, float], y: tuple[float, float],
              z: tuple[float, float]) -> Iterator[Face]:
        """The visible faces of a box: the sides, the top, then the front."""
        (x0, x1), (y0, y1), (z0, z1) = x, y, z
        z0 = max(z0, NEAR)
        bend = self.camera.bend
        up = np.array([0, y1 - y0, 0])
        ahead = np.array([0, 0, z1 - z0])

        def column(at: float, depth: float) -> float:
            return (at - self.camera.x) / depth + bend * depth

        for at, direction in ((x0, -1), (x1, 1)):
            if direction * (column(at, z1) - column(at, z0)) > 0:
                yield Face(np.array([at, y0, z0]), ahead, up,
                           0.82 + 0.26 * self.light.side * direction)
        if y1 < self.camera.height:
            yield Face(np.array([x0, y1, z0]), np.array([x1 - x0, 0, 0]), ahead, 1.12)
        yield Face(np.array([x0, y0, z0]), np.array([x1 - x0, 0, 0]), up,
                   0.92 - 0.08 * abs(self.light.side))

    def box(self, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float],
            colour: Colour, label: int) -> list[Face]:
        """Draw a box and return its visible faces."""
        faces = list(self.faces(x, y, z))
        for face in faces:
            self.fill(face.corners, colour, label, z[0], face.shade)
        return faces

    def details(self, face: Face, rectangles: np.ndarray, colour: Colour,
                shade: float = 1.0) -> None:
        """Rectangles (n, 4) of (u0, v0, u1, v1) on a face, in one colour."""
        if len(rectangles):
            self.fill(face.quads(np.asarray(rectangles, np.float64)), colour, None,
                      float(face.origin[2]), face.shade * shade)

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """The picture (H, W, 3) and the label map (H, W) in their final size."""
        image = cv2.resize(self.image, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return image, np.ascontiguousarray(self.labels[::self.SCALE, ::self.SCALE])
