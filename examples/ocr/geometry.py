"""From a picture of text probabilities to rectangles, which may be tilted, and from those to crops."""
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass
class Rectangle:
    """`along` is the unit vector of the side called width, rightwards or nearly; `down`, at right angles."""
    centre: np.ndarray
    along: np.ndarray
    width: float
    height: float

    @property
    def down(self):
        return np.array([-self.along[1], self.along[0]])

    def corners(self):
        """Top left, top right, bottom right, bottom left."""
        half_x, half_y = self.along * self.width / 2, self.down * self.height / 2
        return np.array([self.centre - half_x - half_y, self.centre + half_x - half_y,
                         self.centre + half_x + half_y, self.centre - half_x + half_y])

    def grown(self, ratio):
        """Every side moved outwards by ratio * area / perimeter."""
        margin = ratio * self.width * self.height / (2 * (self.width + self.height))
        return Rectangle(self.centre, self.along, self.width + 2 * margin, self.height + 2 * margin)


def components(mask):
    """The 8-connected regions of a boolean picture, each a list of runs (row, first, end)."""
    parent = []

    def root(label):
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    runs, above = [], []
    for row, line in enumerate(mask):
        edges = np.flatnonzero(np.diff(line.astype(np.int8), prepend=0, append=0))
        here = []
        for first, end in zip(edges[::2].tolist(), edges[1::2].tolist()):
            label = len(parent)
            parent.append(label)
            for _, other_first, other_end, other in above:
                if other_first <= end and first <= other_end:  # they touch, if only at a corner
                    parent[root(label)] = root(other)
            here.append((row, first, end, label))
        runs += here
        above = here
    regions = {}
    for row, first, end, label in runs:
        regions.setdefault(root(label), []).append((row, first, end))
    return list(regions.values())


def convex_hull(points):
    """Corners of the hull of (x, y) tuples, in order around it (monotone chain)."""
    points = sorted(set(points))

    def chain(sequence):
        hull = []
        for point in sequence:
            while len(hull) > 1 and turn(hull[-2], hull[-1], point) <= 0:
                hull.pop()
            hull.append(point)
        return hull[:-1]

    return chain(points) + chain(reversed(points))


def turn(a, b, c):
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def smallest_rectangle(points):
    """The rectangle of least area around the points: one of its sides lies on a side of their hull."""
    hull = np.array(convex_hull(points), float)
    best = None
    for start, end in zip(hull, np.roll(hull, -1, axis=0)):
        along = (end - start) / np.hypot(*(end - start))
        if abs(along[0]) < abs(along[1]):
            along = np.array([along[1], -along[0]])
        if along[0] < 0:
            along = -along
        down = np.array([-along[1], along[0]])
        x, y = hull @ along, hull @ down
        width, height = np.ptp(x), np.ptp(y)
        if best is None or width * height < best.width * best.height:
            centre = along * (x.min() + x.max()) / 2 + down * (y.min() + y.max()) / 2
            best = Rectangle(centre, along, width, height)
    return best


def mean_inside(picture, rectangle):
    """The mean of the picture's pixels whose centres lie in the rectangle."""
    corners = rectangle.corners()
    height, width = picture.shape
    left, top = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, [width - 1, height - 1])
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int), [left + 1, top + 1], [width, height])
    x = np.arange(left, right) + 0.5 - rectangle.centre[0]
    y = np.arange(top, bottom)[:, None] + 0.5 - rectangle.centre[1]
    inside = ((abs(x * rectangle.along[0] + y * rectangle.along[1]) <= rectangle.width / 2)
              & (abs(x * rectangle.down[0] + y * rectangle.down[1]) <= rectangle.height / 2))
    return picture[top:bottom, left:right][inside].mean() if inside.any() else 0.0


def crop(image, corners):
    """The quadrilateral, given by its corners in reading order, as an upright image."""
    side = lambda a, b: np.hypot(*(corners[a] - corners[b]))
    width = max(1, round(max(side(0, 1), side(3, 2))))
    height = max(1, round(max(side(0, 3), side(1, 2))))
    # The projective map of the unit square to the quadrilateral, in closed form.
    p0, p1, p2, p3 = corners
    d1, d2, d = p1 - p2, p3 - p2, p0 - p1 + p2 - p3
    determinant = d1[0] * d2[1] - d2[0] * d1[1]
    g = (d[0] * d2[1] - d2[0] * d[1]) / determinant
    h = (d1[0] * d[1] - d[0] * d1[1]) / determinant
    x_axis, y_axis = p1 - p0 + g * p1, p3 - p0 + h * p3
    coefficients = (x_axis[0] / width, y_axis[0] / height, p0[0],
                    x_axis[1] / width, y_axis[1] / height, p0[1], g / width, h / height)
    return image.transform((width, height), Image.Transform.PERSPECTIVE, coefficients,
                           Image.Resampling.BILINEAR)
