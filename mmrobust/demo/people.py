"""People on foot and on two wheels."""
import numpy as np

from .canvas import Canvas, Colour, hsv
from .labels import BICYCLE, MOTORCYCLE, PERSON, RIDER
from .traffic import TYRE

SKIN = (0.45, 0.6, 0.8, 0.92)


def clothing(rng: np.random.Generator) -> Colour:
    """Any hue, mostly subdued."""
    return hsv(rng.random(), rng.uniform(0.0, 0.75), rng.uniform(0.12, 0.85))


def _figure(canvas: Canvas, rng: np.random.Generator, x: float, foot: float, z: float,
            height: float, label: int, seated: bool = False) -> None:
    """Head, trunk, arms and legs as polygons in a plane that faces the camera."""
    trousers, jacket = clothing(rng), clothing(rng)
    skin = hsv(0.06, rng.uniform(0.3, 0.5), rng.choice(SKIN))
    hair = hsv(0.07, rng.uniform(0.2, 0.7), rng.uniform(0.08, 0.5))
    stride = rng.uniform(0.03, 0.16) * (-1 if rng.random() < 0.5 else 1)

    def part(points: list[tuple[float, float]], colour: Colour) -> None:
        canvas.fill(np.array([[x + u * height, foot + v * height, z] for u, v in points]), colour,
                    label, z)

    knee = 0.27 if not seated else 0.3
    for direction in (-1, 1):
        ankle = direction * stride if not seated else direction * 0.07
        part([(direction * 0.09 - 0.05, 0.5), (direction * 0.09 + 0.03, 0.5),
              (direction * 0.05 + ankle / 2 + 0.05, knee), (ankle + 0.05, 0.0), (ankle - 0.05, 0.0),
              (direction * 0.05 + ankle / 2 - 0.05, knee)], trousers)
    part([(-0.12, 0.47), (0.12, 0.47), (0.15, 0.8), (0.06, 0.85), (-0.06, 0.85), (-0.15, 0.8)],
         jacket)
    for direction in (-1, 1):
        hand = direction * 0.17 + 0.6 * stride * direction
        part([(direction * 0.11, 0.81), (direction * 0.17, 0.78), (hand + 0.03, 0.46),
              (hand - 0.03, 0.46)], tuple(0.85 * c for c in jacket))
    canvas.disc((x, foot + 0.925 * height, z), 0.075 * height, hair, label, squash=0.85)
    canvas.disc((x + 0.01 * np.sign(stride), foot + 0.905 * height, z), 0.055 * height, skin, label,
                squash=0.8)


def draw_person(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Someone on foot, a child now and then."""
    height = rng.uniform(1.55, 1.9) if rng.random() < 0.85 else rng.uniform(1.0, 1.4)
    canvas.disc((x, 0.02, z), 0.06, (50, 48, 46), squash=5)
    _figure(canvas, rng, x, 0.0, z, height, PERSON)


def draw_bicycle(canvas: Canvas, rng: np.random.Generator, x: float, z: float,
                 ridden: bool) -> None:
    """A bicycle, half from the side when parked, nearly in line when ridden."""
    colour = hsv(rng.random(), rng.uniform(0.3, 0.9), rng.uniform(0.2, 0.85))
    slant = rng.uniform(0.12, 0.35) if ridden else rng.uniform(0.6, 1.0)
    slant *= -1 if rng.random() < 0.5 else 1
    angle = np.linspace(0, 2 * np.pi, 14)
    hubs = []
    for at in (0.52, -0.52):
        hub = np.array([x + at * slant, 0.34, z + at * (1 - abs(slant))])
        ring = hub + np.stack([0.34 * slant * np.cos(angle), 0.34 * np.sin(angle),
                               0 * angle], axis=1)
        canvas.line(ring, 0.06, TYRE, BICYCLE, closed=True)
        hubs.append(hub)
    seat = np.array([x - 0.2 * slant, 0.9, z])
    bar = np.array([x + 0.42 * slant, 1.0, z])
    pedal = np.array([x - 0.05 * slant, 0.32, z])
    for bone in ([hubs[0], bar, seat, hubs[1], pedal, seat], [pedal, bar]):
        canvas.line(np.array(bone), 0.05, colour, BICYCLE)
    canvas.line(np.array([bar - [0.22, 0, 0], bar + [0.22, 0, 0]]), 0.05, TYRE, BICYCLE)
    if ridden:
        _figure(canvas, rng, x - 0.05 * slant, 0.25, z - 0.05, rng.uniform(1.5, 1.7), RIDER,
                seated=True)


def draw_motorcycle(canvas: Canvas, rng: np.random.Generator, x: float, z: float,
                    ridden: bool) -> None:
    """A motorcycle, from the side when parked, from behind when ridden."""
    colour = hsv(rng.choice([0.0, 0.08, 0.35, 0.6]), rng.uniform(0.2, 0.9), rng.uniform(0.15, 0.8))
    slant = 0.18 if ridden else rng.uniform(0.6, 1.0)
    slant *= -1 if rng.random() < 0.5 else 1
    for at in (0.68, -0.68):
        centre = (x + at * slant, 0.31, z)
        canvas.disc(centre, 0.31, TYRE, MOTORCYCLE, squash=max(0.25, abs(slant)))
        canvas.disc(centre, 0.15, (140, 140, 140), squash=max(0.25, abs(slant)))

    def part(points: list[tuple[float, float]], tone: Colour) -> None:
        canvas.fill(np.array([[x + u, v, z] for u, v in points]), tone, MOTORCYCLE, z)

    if abs(slant) > 0.5:
        outline = [(-0.75, 0.72), (-0.1, 0.7), (0.1, 0.92), (0.4, 0.9), (0.62, 0.4), (0.35, 0.28),
                   (-0.4, 0.25), (-0.6, 0.5)]
        part([(u * slant, v) for u, v in outline], colour)
        part([(u * slant, v) for u, v in [(-0.7, 0.7), (-0.05, 0.7), (-0.1, 0.82), (-0.65, 0.84)]],
             TYRE)
    else:
        part([(-0.2, 0.4), (0.2, 0.4), (0.24, 0.85), (-0.24, 0.85)], colour)
        part([(-0.08, 0.55), (0.08, 0.55), (0.08, 0.68), (-0.08, 0.68)], (40, 30, 205))
    bar = np.array([x + 0.4 * slant, 1.02, z])
    canvas.line(np.array([bar - [0.32, 0, 0], bar + [0.32, 0, 0]]), 0.06, TYRE, MOTORCYCLE)
    if ridden:
        _figure(canvas, rng, x, 0.25, z - 0.05, rng.uniform(1.4, 1.55), RIDER, seated=True)
        canvas.disc((x, 1.66, z - 0.05), 0.14, clothing(rng), RIDER)  # helmet
