"""Sky, ground, buildings, trees: what stands still and fills most of the picture."""
from typing import Any

import cv2
import numpy as np

from .canvas import Canvas, Colour, Face, hsv, mix
from .labels import BUILDING, FENCE, ROAD, SIDEWALK, SKY, TERRAIN, VEGETATION, WALL

DEPTHS = np.geomspace(1.5, 180, 14)  # where a strip along the road is subdivided
FACADES = ((0.06, 0.35), (0.03, 0.6), (0.11, 0.3), (0.0, 0.05), (0.58, 0.12), (0.09, 0.15))


def draw_sky(canvas: Canvas, zenith: Colour, clouds: np.ndarray, cover: float) -> None:
    """A gradient from the haze at the horizon to the zenith's colour, and clouds.

    Args:
        clouds (np.ndarray): Smooth noise (h, w) in [0, 1], of any size.
        cover (float): Share of clouds, 0 to 1.
    """
    height = np.linspace(1, 0, clouds.shape[0], dtype=np.float32)[:, None] ** 1.3  # (H, 1)
    white = mix(canvas.light.haze, (255, 255, 255), 0.5 * (1 - canvas.light.darkness))
    share = np.clip((clouds - (1 - cover)) * 3, 0, 0.85) * height
    sky = np.empty((*clouds.shape, 3), np.float32)
    for channel, (low, high, cloud) in enumerate(
            zip(canvas.light.haze, zenith, white, strict=True)):
        clear = low + (high - low) * height
        sky[..., channel] = clear + (cloud - clear) * share
    canvas.image[:] = cv2.resize(sky.astype(np.uint8), canvas.image.shape[1::-1])
    canvas.labels[:] = SKY


def strip(left: float, right: float, near: float = DEPTHS[0],
          far: float = DEPTHS[-1]) -> np.ndarray:
    """World polygon (n, 3) of a piece of ground along the road."""
    depths = np.concatenate([[near], DEPTHS[(DEPTHS > near) & (DEPTHS < far)], [far]])
    edge = np.zeros((len(depths), 3))
    edge[:, 2] = depths
    first, second = edge.copy(), edge[::-1].copy()
    first[:, 0], second[:, 0] = left, right
    return np.concatenate([first, second])


def bars(left: Any, right: Any, near: Any, far: Any) -> np.ndarray:
    """Rectangles (n, 4, 3) on the ground; each side is a number or an array of n."""
    left, right, near, far = np.broadcast_arrays(left, right, near, far)
    ground = np.zeros_like(left, dtype=float)
    return np.stack([np.stack([x, ground, z], axis=-1) for x, z in (
        (left, near), (right, near), (right, far), (left, far))], axis=-2)


def draw_ground(canvas: Canvas, rng: np.random.Generator, road: tuple[float, float],
                walks: tuple[float, float], verges: tuple[float, float], lanes: list[float],
                zebra: float | None) -> None:
    """The road with its markings between pavements and grass.

    Args:
        road: x of its left and right edge.
        walks: Widths of the left and right pavement.
        verges: Widths of the strips of grass between road and pavement.
        lanes: x of the dashed lines.
        zebra: z of a pedestrian crossing, if any.
    """
    light = canvas.light
    asphalt = hsv(rng.uniform(0.55, 0.7), rng.uniform(0, 0.08), rng.uniform(0.28, 0.45))
    paving = hsv(rng.uniform(0.0, 0.12), rng.uniform(0.02, 0.16), rng.uniform(0.48, 0.68))
    grass = hsv(rng.uniform(0.2, 0.3), rng.uniform(0.35, 0.6), rng.uniform(0.35, 0.55))
    yard = paving if rng.random() < 0.5 else grass
    yard_label = SIDEWALK if yard is paving else TERRAIN
    (left, right), far = road, 60.0

    canvas.fill(strip(-400, 400), light(yard, far), yard_label)
    for side, edge in ((-1, left), (1, right)):
        walk, verge = walks[side > 0], verges[side > 0]
        outer = edge + side * (walk + verge)
        canvas.fill(strip(edge, outer), light(paving, 12), SIDEWALK)
        if verge:
            inner = edge + side * 0.6
            canvas.fill(strip(inner, edge + side * verge), light(grass, 12), TERRAIN)
        joints = np.arange(4, 45, 3.0) + rng.uniform(0, 2)
        canvas.fill(bars(edge + side * verge, outer, joints, joints + 0.08), paving, None, 15, 0.82)
    canvas.fill(strip(left, right), light(asphalt, 15), ROAD)
    for near, distant in ((30, 80), (80, 180)):
        canvas.fill(strip(left, right, near, distant), light(asphalt, near), None)
    for edge in (left, right):
        side = np.sign(edge)
        canvas.fill(strip(edge, edge + side * 0.16, 2, 70), light(paving, 10, 1.2), SIDEWALK)

    for _ in range(rng.integers(0, 5)):  # repairs, tar, manholes
        x, z = rng.uniform(left + 1, right - 1), rng.uniform(4, 30)
        width, length = rng.uniform(0.3, 1.5), rng.uniform(0.5, 8)
        canvas.fill(strip(x, x + width, z, z + length), asphalt, None, z,
                    rng.uniform(0.75, 1.15))
    paint = hsv(0.14, rng.choice([0.0, 0.5], p=[0.85, 0.15]), 0.85)
    start = rng.uniform(0, 6)
    dashes = np.arange(2 + start, 90, 7)
    for lane in lanes:
        canvas.fill(bars(lane - 0.08, lane + 0.08, dashes, dashes + 3.2), paint, None, 20)
    if rng.random() < 0.5:
        for edge in (left + 0.35, right - 0.35):
            canvas.fill(strip(edge - 0.06, edge + 0.06), light(paint, 15), None)
    if zebra is not None:
        stripes = np.arange(left + 0.4, right - 0.6, 1.0)
        canvas.fill(bars(stripes, stripes + 0.5, zebra, zebra + 3), paint, None, zebra)


def _windows(face: Face, rng: np.random.Generator, storey: float, bay: float) -> np.ndarray:
    """Rectangles (n, 4) of a regular grid of windows; the ground floor is left out."""
    length, height = np.abs(face.along).sum(), np.abs(face.up).sum()
    columns, rows = max(1, int(length / bay)), max(1, int(height / storey))
    u, v = np.meshgrid(np.arange(columns), np.arange(1, rows))
    u, v = u.ravel(), v.ravel()
    return np.stack([(u + 0.26) / columns, (v + 0.2) / rows,
                     (u + 0.74) / columns, (v + 0.78) / rows], axis=1)


def draw_building(canvas: Canvas, rng: np.random.Generator, x: tuple[float, float],
                  z: tuple[float, float], height: float) -> None:
    """A house with windows, a ground floor and often a roof."""
    hue, saturation = FACADES[rng.integers(len(FACADES))]
    wall = hsv(hue + rng.normal(0, 0.02), saturation * rng.uniform(0.5, 1.2),
               rng.uniform(0.4, 0.85))
    roof = hsv(rng.uniform(0, 0.08), rng.uniform(0.1, 0.6), rng.uniform(0.25, 0.5))
    glass = hsv(rng.uniform(0.52, 0.62), rng.uniform(0.05, 0.35), rng.uniform(0.2, 0.6))
    lamp = hsv(0.12, 0.5, 1.0)
    storey, bay = rng.uniform(2.8, 3.6), rng.uniform(1.8, 3.4)
    ground_floor = mix(wall, hsv(rng.random(), 0.3, rng.uniform(0.2, 0.7)), rng.uniform(0, 0.9))
    seed = rng.integers(2 ** 32)
    if rng.random() < 0.5:  # a pitched roof, its slope towards the street
        ridge, inner = height + rng.uniform(1.5, 3), (x[0] if x[0] > 0 else x[1])
        middle = (x[0] + x[1]) / 2
        canvas.fill(np.array([[inner, height, z[0]], [inner, height, z[1]],
                              [middle, ridge, z[1]], [middle, ridge, z[0]]]),
                    roof, BUILDING, z[0])
        canvas.fill(np.array([[x[0], height, z[0]], [x[1], height, z[0]],
                              [middle, ridge, z[0]]]), wall, BUILDING, z[0], 0.9)
    for face in canvas.box(x, (0, height), z, wall, BUILDING):
        if canvas.pixels_per_metre(z[0]) < 2:
            continue
        canvas.details(face, [[0, 0, 1, storey / height * 0.9]], ground_floor)
        canvas.details(face, [[0, 0.97, 1, 1]], wall, 0.75)
        windows = _windows(face, np.random.default_rng(seed), storey, bay)
        lit = rng.random(len(windows)) < 0.5 * canvas.light.darkness
        canvas.details(face, windows[~lit], glass)
        if lit.any():
            canvas.fill(face.quads(windows[lit]), mix(lamp, canvas.light.haze, 0.2))
        length = np.abs(face.along).sum()
        doors = np.arange(0.6, length - 1.2, rng.uniform(3.5, 7)) / length
        canvas.details(face, np.stack([doors, np.full_like(doors, 0), doors + 1.3 / length,
                                       np.full_like(doors, 2.3 / height)], axis=1), glass, 0.6)


def draw_foliage(canvas: Canvas, rng: np.random.Generator, centre: tuple[float, float, float],
                 radii: tuple[float, float], green: Colour) -> None:
    """A cloud of leaves: dark below and behind, light above; radii in x and y."""
    x, y, z = centre
    visible = max(radii) * canvas.pixels_per_metre(z)
    count = int(min(max(visible * 0.5, 4), 16))
    angle = rng.uniform(0, 2 * np.pi, count)
    reach = np.sqrt(rng.uniform(0, 1, count)) * 0.8
    dx, dy = reach * np.cos(angle), reach * np.sin(angle)
    size = rng.uniform(0.36, 0.56, count) * min(radii)
    shade = 0.85 + 0.35 * dy + 0.15 * canvas.light.side * dx + rng.normal(0, 0.07, count)
    order = np.argsort(dy * 0.6 + rng.normal(0, 0.3, count))
    leaves = np.stack([x + dx * radii[0], y + dy * radii[1], size, shade], axis=1)[order]
    for across, above, radius, brightness in leaves.tolist():
        canvas.disc((across, above, z), radius, green, VEGETATION, brightness)


def leaf_colour(rng: np.random.Generator) -> Colour:
    """Mostly green, now and then autumnal."""
    hue = rng.uniform(0.2, 0.36) if rng.random() < 0.88 else rng.uniform(0.05, 0.14)
    return hsv(hue, rng.uniform(0.35, 0.7), rng.uniform(0.3, 0.55))


def draw_tree(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """A trunk and a crown."""
    height = rng.uniform(4, 8.5)
    crown = rng.uniform(0.28, 0.4) * height
    bark = hsv(0.07, 0.4, rng.uniform(0.2, 0.35))
    width, fork = rng.uniform(0.1, 0.22), height - crown
    canvas.fill(np.array([[x - width, 0, z], [x + width, 0, z], [x + 0.6 * width, fork, z],
                          [x - 0.6 * width, fork, z]]), bark, VEGETATION, z)
    draw_foliage(canvas, rng, (x, fork, z), (crown * rng.uniform(0.75, 1.1), crown),
                 leaf_colour(rng))


def draw_hedge(canvas: Canvas, rng: np.random.Generator, x: float, z: tuple[float, float]) -> None:
    """A row of bushes along the road, from far to near."""
    height, green = rng.uniform(0.8, 2.0), leaf_colour(rng)
    for depth in np.arange(z[1], z[0], -height * 1.2):
        draw_foliage(canvas, rng, (x, height * 0.45, depth), (height * 0.9, height * 0.6), green)


def draw_barrier(canvas: Canvas, rng: np.random.Generator, x: float,
                 z: tuple[float, float]) -> None:
    """A wall, or a fence of posts and rails."""
    length = z[1] - z[0]
    if rng.random() < 0.5:
        colour = hsv(rng.uniform(0, 0.1), rng.uniform(0.05, 0.4), rng.uniform(0.35, 0.7))
        height = rng.uniform(1.2, 2.6)
        faces = canvas.box((x - 0.15, x + 0.15), (0, height), z, colour, WALL)
        for face in faces[:1]:
            rows = np.arange(1, int(height / 0.4)) * 0.4 / height
            canvas.details(face, [[0, row, 1, row + 0.05 / height] for row in rows], colour, 0.8)
            canvas.details(face, [[0, 0.93, 1, 1]], colour, 1.15)
        return
    colour = hsv(rng.uniform(0.05, 0.6), rng.uniform(0.05, 0.5), rng.uniform(0.2, 0.8))
    face = Face(np.array([x, 0, z[0]]), np.array([0, 0, length]),
                np.array([0, rng.uniform(1.0, 1.8), 0]))
    canvas.fill(face.corners, mix(colour, hsv(0.28, 0.3, 0.3), 0.6), FENCE, z[0])
    posts = np.arange(0, length, 0.7) / length
    width = 0.18 / length
    canvas.details(face, [[u, 0, u + width, 1] for u in posts], colour)
    canvas.details(face, [[0, v, 1, v + 0.08] for v in (0.25, 0.85)], colour)


def draw_skyline(canvas: Canvas, rng: np.random.Generator) -> None:
    """What closes the street far away: houses, woods or hills."""
    z, x = 170.0, -150.0
    kind = rng.choice(['houses', 'woods', 'hills'])
    colour = leaf_colour(rng)
    while x < 150:
        width = rng.uniform(8, 22)
        if kind == 'houses':
            draw_building(canvas, rng, (x, x + width), (z, z + 10), rng.uniform(7, 24))
        else:
            height = rng.uniform(5, 11) if kind == 'woods' else rng.uniform(10, 20)
            canvas.disc((x, 0, z), height, colour, VEGETATION, rng.uniform(0.8, 1.1),
                        squash=rng.uniform(1, 2))
        x += width * rng.uniform(0.6, 1.0)


def random_clouds(rng: np.random.Generator) -> np.ndarray:
    """Smooth noise (64, 128) in [0, 1], its bumps wider than high."""
    broad, fine = (cv2.resize(rng.random(cells, np.float32), (128, 64),
                              interpolation=cv2.INTER_CUBIC) for cells in ((8, 5), (16, 12)))
    return np.clip(0.7 * broad + 0.3 * fine, 0, 1)
