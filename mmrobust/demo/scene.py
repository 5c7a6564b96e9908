"""One street scene: chooses place, light and things, and draws them from far to near."""
from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

from . import furniture, people, surroundings, traffic
from .canvas import Camera, Canvas, Light, hsv
from .labels import BUILDING, FENCE, ROAD, SIDEWALK, SKY, TERRAIN, VEGETATION, WALL

SPLITS = ('train', 'val', 'test')
# standard deviation of the surface's grain, in grey levels
GRAIN = {ROAD: 6, SIDEWALK: 7, BUILDING: 6, WALL: 7, FENCE: 7, VEGETATION: 11, TERRAIN: 10, SKY: 2}
DEFAULT_GRAIN = 4

Item = tuple[float, Callable[[], None]]  # depth, and what draws it


@cache
def _grain(size: int = 512) -> np.ndarray:
    """Noise (size, size) of deviation 1 with fine and coarse parts; scenes cut pieces from it."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((size, size)).astype(np.float32)
    coarse = cv2.resize(rng.standard_normal((size // 4, size // 4)).astype(np.float32),
                        (size, size), interpolation=cv2.INTER_LINEAR)
    noise = 0.7 * noise + 0.9 * coarse
    return noise / noise.std()


def _random_light(rng: np.random.Generator) -> tuple[Light, tuple, float]:
    """Light, colour of the zenith and cloud cover of a day."""
    weather = rng.choice(['sunny', 'overcast', 'evening', 'dusk'], p=[0.45, 0.25, 0.2, 0.1])
    side = rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 1)
    if weather == 'sunny':
        sky, haze, tint, cover = hsv(rng.uniform(0.55, 0.61), rng.uniform(0.4, 0.75), 0.9), hsv(
            0.57, 0.12, 0.95), (0.98, 1.0, 1.03), rng.uniform(0.1, 0.6)
        darkness, power = 0.0, rng.uniform(0.95, 1.15)
    elif weather == 'overcast':
        grey = rng.uniform(0.6, 0.85)
        sky, haze, tint, cover = hsv(0.6, 0.08, grey), hsv(0.6, 0.03, grey + 0.12), (
            1.02, 1.0, 0.98), rng.uniform(0.6, 0.9)
        darkness, side, power = 0.1, 0.0, rng.uniform(0.8, 1.0)
    elif weather == 'evening':
        sky, haze, tint, cover = hsv(rng.uniform(0.6, 0.7), 0.35, 0.7), hsv(
            rng.uniform(0.04, 0.11), 0.45, 0.95), (0.78, 0.92, 1.1), rng.uniform(0.2, 0.7)
        darkness, power = 0.4, rng.uniform(0.75, 0.95)
    else:
        sky, haze, tint, cover = hsv(0.63, 0.55, 0.3), hsv(rng.uniform(0.55, 0.8), 0.25, 0.5), (
            1.05, 0.95, 0.9), rng.uniform(0.2, 0.6)
        darkness, side, power = 1.0, 0.0, rng.uniform(0.5, 0.65)
    light = Light(tuple(power * t for t in tint), haze, rng.uniform(120, 450), side, darkness)
    return light, sky, cover


def _random_camera(rng: np.random.Generator, size: tuple[int, int], x: float) -> Camera:
    width, height = size
    return Camera(focal=width * rng.uniform(0.7, 0.95), centre=width * rng.uniform(0.4, 0.6),
                  horizon=height * rng.uniform(0.38, 0.5), height=rng.uniform(1.2, 1.9), x=x,
                  bend=rng.normal(0, 0.0006))


class _Street:
    """The things of one street, collected before they are drawn."""

    def __init__(self, rng: np.random.Generator, canvas: Canvas, road: tuple[float, float],
                 walks: tuple[float, float], verges: tuple[float, float]) -> None:
        self.rng, self.canvas = rng, canvas
        self.road, self.walks, self.verges = road, walks, verges
        self.backdrop: list[Item] = []
        self.foreground: list[Item] = []
        self.shadows: list[np.ndarray] = []

    def add(self, draw: Callable, x: float, z: float, *args) -> None:
        """Something in the street itself."""
        seed = self.rng.integers(2 ** 63)
        self.foreground.append(
            (z, lambda: draw(self.canvas, np.random.default_rng(seed), x, z, *args)))

    def border(self, side: int) -> float:
        """x where the pavement ends."""
        return self.road[side > 0] + side * (self.walks[side > 0] + self.verges[side > 0])

    def build_sides(self) -> None:
        """Houses, and in the gaps between them walls, fences, hedges and trees."""
        rng, canvas = self.rng, self.canvas
        density, storeys = rng.uniform(0.2, 0.95), rng.integers(1, 6)
        for side in (-1, 1):
            z, setback = rng.uniform(1, 4), rng.choice([0.0, 0.0, 3.0])
            edge = self.border(side) + side * setback
            while z < 130:
                length = rng.uniform(8, 22)
                seed = rng.integers(2 ** 63)
                if rng.random() < density:
                    height = 3.1 * max(1, storeys + rng.integers(-1, 3)) + rng.uniform(0, 1)
                    x = tuple(sorted((edge, edge + side * rng.uniform(8, 14))))
                    self.backdrop.append((z, self._drawing(
                        seed, surroundings.draw_building, x, (z, z + length), height)))
                    if canvas.light.side * side > 0.1:
                        self._house_shadow(edge, side, (z, z + length), height)
                else:
                    for _ in range(rng.integers(1, 5)):
                        depth = z + rng.uniform(0, length)
                        self.backdrop.append((depth, self._drawing(
                            rng.integers(2 ** 63), surroundings.draw_tree,
                            edge + side * rng.uniform(2, 9), depth)))
                    barrier = rng.choice([surroundings.draw_barrier, surroundings.draw_hedge],
                                         p=[0.7, 0.3])
                    self.backdrop.append((z, self._drawing(
                        seed, barrier, edge + side * 0.3, (z, z + length))))
                z += length + (rng.uniform(0, 4) if rng.random() < 0.2 else 0)

    def _drawing(self, seed: int, draw: Callable, *args) -> Callable[[], None]:
        return lambda: draw(self.canvas, np.random.default_rng(seed), *args)

    def _house_shadow(self, edge: float, side: int, z: tuple[float, float],
                      height: float) -> None:
        reach = height * (1.2 - abs(self.canvas.light.side)) + 1
        slant = 0.4 * reach
        self.shadows.append(np.array([
            [edge, 0, z[0]], [edge - side * reach, 0, z[0] + slant],
            [edge - side * reach, 0, z[1] + slant], [edge, 0, z[1]]]))

    def furnish(self) -> None:
        """Trees, lamps, signs, lights and parked bicycles along the kerb."""
        rng = self.rng
        for side in (-1, 1):
            kerb = self.road[side > 0]
            if rng.random() < 0.35:
                spacing = rng.uniform(7, 14)
                for z in np.arange(rng.uniform(6, 12), 70, spacing):
                    offset = max(0.9, self.verges[side > 0] / 2)
                    self.add(surroundings.draw_tree, kerb + side * offset, z + rng.normal(0, 0.5))
            for z in np.arange(rng.uniform(8, 25), 80, rng.uniform(18, 30)):
                self.add(furniture.draw_street_lamp, kerb + side * 0.5, z)
            for _ in range(rng.integers(0, 4)):
                self.add(furniture.draw_traffic_sign, kerb + side * rng.uniform(0.4, 0.9),
                         rng.uniform(6, 40))
            for _ in range(rng.integers(0, 3)):
                draw = people.draw_bicycle if rng.random() < 0.6 else people.draw_motorcycle
                self.add(draw, kerb + side * rng.uniform(0.9, 1.8), rng.uniform(6, 25), False)

    def populate(self, zebra: float | None) -> None:
        """People, traffic and parked cars."""
        rng = self.rng
        for side in (-1, 1):
            kerb, border = self.road[side > 0], self.border(side)
            for _ in range(rng.poisson(2.5)):
                beside = rng.uniform(0.6, abs(border - kerb) - 0.3)
                self.add(people.draw_person, kerb + side * beside, rng.uniform(6, 40))
            if rng.random() < 0.65:  # parked cars
                z = rng.uniform(4.5, 20)
                while z < 60:
                    if rng.random() < 0.75:
                        self.add(traffic.draw_car, kerb - side * 1.15, z, side < 0)
                    z += rng.uniform(5.4, 8)
            lane = kerb - side * (3.6 if abs(kerb) > 5 else 2.2)
            z = rng.uniform(8, 28)
            while z < 80:
                kind = rng.choice(['car', 'truck', 'bus', 'bicycle', 'motorcycle'],
                                  p=[0.58, 0.11, 0.09, 0.12, 0.1])
                oncoming = side < 0
                if kind in ('bicycle', 'motorcycle'):
                    self.add(getattr(people, f'draw_{kind}'), lane + side * rng.uniform(0, 0.8),
                             z, True)
                    z += rng.uniform(6, 15)
                else:
                    self.add(getattr(traffic, f'draw_{kind}'), lane + rng.normal(0, 0.15), z,
                             oncoming)
                    z += rng.uniform(14, 45)
        if zebra is not None:
            for side in (-1, 1):
                self.add(furniture.draw_traffic_light, self.road[side > 0] + side * 0.5, zebra)
            for _ in range(rng.integers(0, 4)):
                self.add(people.draw_person, rng.uniform(*self.road), zebra + rng.uniform(0.5, 2.5))
        if rng.random() < 0.2 and self.road[1] - self.road[0] > 9:
            self.add(traffic.draw_train, rng.uniform(-0.5, 0.5), rng.uniform(14, 40),
                     rng.random() < 0.5)

    @staticmethod
    def draw(items: list[Item]) -> None:
        """Draw from far to near."""
        for _, draw in sorted(items, key=lambda item: -item[0]):
            draw()


def draw_scene(size: tuple[int, int], seed: int, split: str,
               index: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the scene that belongs to a place in the data set, always the same.

    Args:
        size (tuple[int, int]): Width and height in pixels.
        seed (int): Another seed makes another data set.
        split (str): One of :data:`SPLITS`; they share no scene.
        index (int): Number of the scene within its split.

    Returns:
        tuple[np.ndarray, np.ndarray]: Image (H, W, 3), uint8, BGR, and Cityscapes train ids (H, W),
        uint8.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    light, zenith, cover = _random_light(rng)
    half = rng.uniform(3.4, 7.5)
    road = (-half, half)
    walks = tuple(rng.uniform(1.6, 4.0, 2))
    verges = tuple(rng.uniform(1.2, 3.0, 2) * (rng.random(2) < 0.35))
    lanes = [0.0] if half < 5.5 else [0.0, -half / 2, half / 2]
    canvas = Canvas(size, _random_camera(rng, size, half * rng.uniform(0.2, 0.55)), light)
    zebra = rng.uniform(9, 28) if rng.random() < 0.35 else None

    street = _Street(rng, canvas, road, walks, verges)
    street.build_sides()
    street.furnish()
    street.populate(zebra)
    surroundings.draw_sky(canvas, zenith, surroundings.random_clouds(rng), cover)
    surroundings.draw_skyline(canvas, rng)
    surroundings.draw_ground(canvas, rng, road, walks, verges, lanes, zebra)
    if street.shadows:
        canvas.cast_shadows(street.shadows, 0.42)
    street.draw(street.backdrop)
    street.draw(street.foreground)
    image, labels = canvas.finish()
    return _add_grain(image, labels, rng), labels


def _add_grain(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = labels.shape
    noise = _grain()
    y, x = rng.integers(0, noise.shape[0], 2)
    piece = np.take(np.take(noise, np.arange(y, y + height), 0, mode='wrap'),
                    np.arange(x, x + width), 1, mode='wrap')
    amplitude = np.full(256, DEFAULT_GRAIN, np.float32)
    amplitude[list(GRAIN)] = list(GRAIN.values())
    brightness = image.mean() / 128
    grain = piece * amplitude[labels] * min(1.0, brightness)
    return np.clip(image + grain[..., None], 0, 255).astype(np.uint8)
