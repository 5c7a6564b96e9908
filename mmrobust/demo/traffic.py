"""Vehicles, seen from behind or from the front."""
import numpy as np

from .canvas import Canvas, Colour, Face, hsv
from .labels import BUS, CAR, TRAIN, TRUCK

TYRE = (28.0, 26.0, 26.0)


def paint(rng: np.random.Generator) -> Colour:
    """White, grey, black or a bright colour."""
    if rng.random() < 0.6:
        return hsv(0.6, rng.uniform(0, 0.08), rng.choice([0.12, 0.3, 0.5, 0.75, 0.92]))
    return hsv(rng.choice([0.0, 0.02, 0.1, 0.15, 0.33, 0.55, 0.6, 0.63]), rng.uniform(0.6, 0.95),
               rng.uniform(0.4, 0.85))


def _level(x: tuple[float, float], y: float, z: tuple[float, float]) -> np.ndarray:
    """Corners (4, 3) of a level rectangle: near left, near right, far right, far left."""
    return np.array([[x[0], y, z[0]], [x[1], y, z[0]], [x[1], y, z[1]], [x[0], y, z[1]]])


def _shadow(canvas: Canvas, x: tuple[float, float], z: tuple[float, float]) -> None:
    canvas.fill(_level((x[0] - 0.15, x[1] + 0.15), 0, (z[0] - 0.2, z[1])), (45, 42, 40), None,
                z[0])


def _wheels(canvas: Canvas, x: tuple[float, float], z: tuple[float, float], radius: float,
            label: int) -> None:
    """The wheels of the visible side, as polygons in its plane, and the stumps of the end."""
    if canvas.pixels_per_metre(z[0]) < 4:
        return
    side = x[0] if x[0] > canvas.camera.x else x[1]
    angle = np.linspace(0, 2 * np.pi, 10)
    for share in (0.8, 0.18):
        depth = z[0] + share * (z[1] - z[0])
        ring = np.stack([np.full_like(angle, side), radius + radius * np.sin(angle),
                         depth + radius * np.cos(angle)], axis=1)
        canvas.fill(ring, TYRE, label, depth)
        canvas.fill(ring * [1, 0.55, 0.55] + [0, 0.45 * radius, 0.45 * depth], (150, 150, 150),
                    None, depth)
    for at in x:
        inner = at + np.sign(sum(x) / 2 - at) * 0.25
        canvas.fill(Face(np.array([min(at, inner), 0, z[0]]), np.array([0.25, 0, 0]),
                         np.array([0, radius, 0])).corners, TYRE, label, z[0])


def _lamps(canvas: Canvas, front: Face, oncoming: bool, height: float) -> None:
    colour = (215, 245, 255) if oncoming else (40, 30, 205)
    canvas.details(front, [[0.03, height, 0.2, height + 0.16], [0.8, height, 0.97, height + 0.16]],
                   colour, 1.1)


def draw_car(canvas: Canvas, rng: np.random.Generator, x: float, z: float,
             oncoming: bool) -> None:
    """A saloon, estate or van of two boxes; x is its middle, z its near end."""
    colour = paint(rng)
    width, length = rng.uniform(1.7, 1.95), rng.uniform(3.8, 4.8)
    waist, roof = rng.uniform(0.8, 0.95), rng.uniform(1.4, 1.85)
    xs, zs = (x - width / 2, x + width / 2), (z, z + length)
    _shadow(canvas, xs, zs)
    _wheels(canvas, xs, zs, 0.32, CAR)

    # the cabin is a frustum: its roof is smaller than its floor
    behind, ahead = rng.uniform(0.15, 0.6), rng.uniform(0.9, 1.5)
    if oncoming:
        behind, ahead = ahead, behind
    inset = 0.16
    floor = _level(xs, waist, (z + behind * 0.5, zs[1] - ahead * 0.5))
    top = _level((xs[0] + inset, xs[1] - inset), roof, (z + behind + 0.2, zs[1] - ahead - 0.3))
    glass = hsv(0.58, 0.15, rng.uniform(0.12, 0.4))
    side = (0, 3) if xs[0] > canvas.camera.x else (1, 2)
    faces = list(canvas.faces(xs, (0.3, waist), zs))
    for face in faces:  # the body first: the cabin stands on it
        canvas.fill(face.corners, colour, CAR, z, face.shade)
    for near, far in (side, (0, 1)):
        quad = np.array([floor[near], floor[far], top[far], top[near]])
        canvas.fill(quad, colour, CAR, z, 0.9)
        centre = quad.mean(axis=0)
        canvas.fill(centre + (quad - centre) * [0.84, 0.78, 0.84], glass, None, z)
    canvas.fill(top, colour, CAR, z, 1.1)
    if canvas.pixels_per_metre(z) < 4:
        return
    front = faces[-1]
    _lamps(canvas, front, oncoming, 0.55)
    canvas.details(front, [[0.36, 0.3, 0.64, 0.5]], (225, 228, 228))
    canvas.details(front, [[0, 0, 1, 0.2]], colour, 0.55)


def _window_band(count: int, low: float, high: float) -> list[list[float]]:
    return [[(i + 0.1) / count, low, (i + 0.92) / count, high] for i in range(count)]


def draw_truck(canvas: Canvas, rng: np.random.Generator, x: float, z: float,
               oncoming: bool) -> None:
    """A lorry: a cab and a higher load."""
    width, length = rng.uniform(2.2, 2.5), rng.uniform(6, 10)
    height, cab_height = rng.uniform(2.8, 3.8), rng.uniform(2.2, 2.7)
    load, cab = hsv(rng.random(), rng.choice([0.05, 0.6]), rng.uniform(0.5, 0.95)), paint(rng)
    xs = (x - width / 2, x + width / 2)
    cab_z = (z, z + 1.9) if oncoming else (z + length - 1.9, z + length)
    load_z = (z + 2.1, z + length) if oncoming else (z, z + length - 2.1)
    _shadow(canvas, xs, (z, z + length))

    def draw_load() -> None:
        faces = canvas.box(xs, (0.9, height), load_z, load, TRUCK)
        canvas.box(xs, (0.45, 0.9), load_z, (60, 58, 58), TRUCK)
        canvas.details(faces[-1], [[0.04, 0.03, 0.49, 0.97], [0.51, 0.03, 0.96, 0.97]], load, 0.9)

    def draw_cab() -> None:
        faces = canvas.box(xs, (0.45, cab_height), cab_z, cab, TRUCK)
        for face in faces:
            canvas.details(face, [[0.08, 0.55, 0.92, 0.92]], (70, 60, 52))
        if oncoming:
            _lamps(canvas, faces[-1], True, 0.12)

    for draw in ((draw_load, draw_cab) if oncoming else (draw_cab, draw_load)):
        draw()
    _wheels(canvas, xs, (z, z + length), 0.48, TRUCK)
    if not oncoming:
        _lamps(canvas, Face(np.array([xs[0], 0.5, z]), np.array([width, 0, 0]),
                            np.array([0, 1.0, 0])), False, 0.1)


def draw_bus(canvas: Canvas, rng: np.random.Generator, x: float, z: float,
             oncoming: bool) -> None:
    """A bus: one high box with a band of windows."""
    colour = hsv(rng.choice([0.0, 0.13, 0.35, 0.6]), rng.uniform(0.55, 0.9), rng.uniform(0.6, 0.9))
    length = rng.uniform(9, 12)
    xs, zs = (x - 1.25, x + 1.25), (z, z + length)
    _shadow(canvas, xs, zs)
    *sides, front = canvas.box(xs, (0.35, 3.0), zs, colour, BUS)
    for face in sides:
        canvas.details(face, _window_band(7, 0.45, 0.85), (66, 56, 48))
        canvas.details(face, [[0, 0.2, 1, 0.28]], (235, 235, 235))
    canvas.details(front, [[0.06, 0.4, 0.94, 0.82]], (66, 56, 48))
    canvas.details(front, [[0.15, 0.86, 0.85, 0.96]], (30, 30, 30))
    canvas.details(front, [[0.25, 0.88, 0.7, 0.94]], (30, 170, 250))
    _lamps(canvas, front, oncoming, 0.08)
    _wheels(canvas, xs, zs, 0.48, BUS)


def draw_train(canvas: Canvas, rng: np.random.Generator, x: float, z: float,
               oncoming: bool) -> None:
    """A tram of several cars on rails, lower than a train and longer than a bus."""
    colour = hsv(rng.choice([0.0, 0.12, 0.45, 0.58]), rng.uniform(0.5, 0.9), rng.uniform(0.5, 0.8))
    for rail in (x - 0.72, x + 0.72):
        canvas.line(np.array([[rail, 0, depth] for depth in np.geomspace(2, 120, 9)]), 0.07,
                    (120, 120, 125))
    for car in (2, 1, 0):
        start = z + car * 10.5
        *sides, front = canvas.box((x - 1.2, x + 1.2), (0.2, 3.3), (start, start + 10), colour,
                                   TRAIN)
        for face in sides:
            canvas.details(face, [[0, 0.4, 1, 0.85]], (225, 225, 220))
            canvas.details(face, _window_band(5, 0.45, 0.8), (66, 56, 48))
    canvas.details(front, [[0.1, 0.42, 0.9, 0.85]], (58, 50, 44))
    canvas.details(front, [[0.1, 0.87, 0.9, 0.96]], (225, 225, 220))
    _lamps(canvas, front, oncoming, 0.15)
    canvas.line(np.array([[x, 3.3, z + 5], [x - 0.3, 4.0, z + 6], [x, 4.8, z + 5]]), 0.06,
                (60, 60, 60))
