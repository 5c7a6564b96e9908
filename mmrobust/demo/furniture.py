"""Poles and what hangs on them."""
import numpy as np

from .canvas import Canvas, Face, hsv
from .labels import POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN

RED, WHITE, BLUE, YELLOW = (40.0, 35, 200), (235.0, 235, 235), (190.0, 90, 25), (40.0, 200, 240)
BLACK = (40.0, 40, 40)
# corners, turn, and the colours of rim, field and symbol
SIGNS = (
    (16, 0, RED, WHITE, BLACK),
    (3, np.pi / 2, RED, WHITE, BLACK),
    (3, -np.pi / 2, RED, WHITE, WHITE),
    (4, np.pi / 4, WHITE, BLUE, WHITE),
    (16, 0, WHITE, BLUE, WHITE),
    (4, 0, WHITE, YELLOW, YELLOW),
    (8, np.pi / 8, WHITE, RED, WHITE),
)


def _pole(canvas: Canvas, rng: np.random.Generator, x: float, z: float, height: float,
          width: float) -> tuple[float, float, float]:
    grey = hsv(rng.uniform(0.3, 0.6), rng.uniform(0, 0.2), rng.uniform(0.22, 0.65))
    # no thinner than a pixel, as far away it would vanish from the labels
    width = max(width, 1.0 / canvas.pixels_per_metre(z))
    face = Face(np.array([x - width / 2, 0, z]), np.array([width, 0, 0]), np.array([0, height, 0]))
    canvas.fill(face.corners, grey, POLE, z)
    canvas.details(face, [[0, 0, 0.4, 1]], grey, 1.2 if canvas.light.side < 0 else 0.8)
    return grey


def draw_street_lamp(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """A high mast with an arm over the road."""
    height = rng.uniform(6, 9)
    grey = _pole(canvas, rng, x, z, height, 0.16)
    reach = -np.sign(x) * rng.uniform(1.2, 2.2)
    canvas.line(np.array([[x, height, z], [x + reach, height + 0.3, z]]), 0.1, grey, POLE)
    lamp = (190, 235, 255) if canvas.light.darkness > 0.4 else (170, 175, 175)
    canvas.disc((x + reach, height + 0.25, z), 0.16, lamp, POLE, squash=2.2)


def draw_traffic_light(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """A black box with one of three lamps on."""
    height = rng.uniform(2.4, 3.4)
    _pole(canvas, rng, x, z, height + 0.2, 0.12)
    case = Face(np.array([x - 0.2, height - 0.3, z]), np.array([0.4, 0, 0]), np.array([0, 1.05, 0]))
    canvas.fill(case.corners, (32, 34, 32), TRAFFIC_LIGHT, z)
    on = rng.integers(3)
    for i, colour in enumerate(((90, 220, 60), (30, 180, 250), (40, 30, 240))):
        canvas.disc((x, height - 0.1 + 0.33 * i, z), 0.13, colour, None, 1.0 if i == on else 0.25)


def draw_traffic_sign(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """A round, triangular, square or octagonal sign."""
    height, size = rng.uniform(2.1, 2.9), rng.uniform(0.34, 0.48)
    _pole(canvas, rng, x, z, height, 0.08)

    def shape(corners: int, turn: float, radius: float) -> np.ndarray:
        angle = np.arange(corners) * 2 * np.pi / corners + turn
        return np.stack([x + radius * np.cos(angle), height + radius * np.sin(angle),
                         np.full(corners, z)], axis=1)

    corners, turn, rim, inner, symbol = SIGNS[rng.integers(len(SIGNS))]
    canvas.fill(shape(corners, turn, size), rim, TRAFFIC_SIGN, z)
    canvas.fill(shape(corners, turn, size * 0.76), inner, None, z)
    bar = Face(np.array([x - 0.3 * size, height - 0.1 * size, z]), np.array([0.6 * size, 0, 0]),
               np.array([0, 0.22 * size, 0]))
    canvas.fill(bar.corners, symbol, None, z)
