#include "geometry.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace examples {

namespace {

double dot(const Point& a, const Point& b) { return a.x * b.x + a.y * b.y; }

// Positive when the way from a over b to c turns towards the y axis.
double turn(const Point& a, const Point& b, const Point& c) {
  return (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
}

// The corners of the hull, in order around it (monotone chain).
std::vector<Point> convex_hull(std::vector<Point> points) {
  std::sort(points.begin(), points.end(),
            [](const Point& a, const Point& b) { return a.x != b.x ? a.x < b.x : a.y < b.y; });
  std::vector<Point> hull;
  for (int side = 0; side < 2; ++side) {
    const size_t base = hull.size();
    for (const Point& point : points) {
      while (hull.size() > base + 1 && turn(hull[hull.size() - 2], hull.back(), point) <= 0) hull.pop_back();
      hull.push_back(point);
    }
    hull.pop_back();  // the next side begins with it
    std::reverse(points.begin(), points.end());
  }
  return hull;
}

// A stretch of pixels in one row: [first, end).
struct Run {
  int row, first, end;
};

}  // namespace

double distance(const Point& a, const Point& b) { return std::hypot(a.x - b.x, a.y - b.y); }

Quad Rectangle::corners() const {
  const Point x{along.x * width / 2, along.y * width / 2};
  const Point y{down().x * height / 2, down().y * height / 2};
  return {{{centre.x - x.x - y.x, centre.y - x.y - y.y},
           {centre.x + x.x - y.x, centre.y + x.y - y.y},
           {centre.x + x.x + y.x, centre.y + x.y + y.y},
           {centre.x - x.x + y.x, centre.y - x.y + y.y}}};
}

Rectangle Rectangle::grown(double ratio) const {
  const double margin = ratio * width * height / (2 * (width + height));
  return {centre, along, width + 2 * margin, height + 2 * margin};
}

std::vector<std::vector<Point>> regions_above(const Picture& picture, float threshold) {
  std::vector<Run> runs;
  std::vector<size_t> parent;
  auto root = [&](size_t i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
  };
  size_t above = 0;  // the first run that may touch one of the current row
  for (int y = 0; y < picture.height; ++y) {
    const float* row = picture.values + static_cast<int64_t>(y) * picture.width;
    const size_t row_begin = runs.size();
    size_t candidate = above;
    for (int x = 0; x < picture.width; ++x) {
      if (!(row[x] > threshold)) continue;
      Run run{y, x, x};
      while (run.end < picture.width && row[run.end] > threshold) ++run.end;
      x = run.end;
      parent.push_back(runs.size());
      // Both rows run from left to right; runs touch when they overlap or meet at a corner.
      while (candidate < row_begin && runs[candidate].end < run.first) ++candidate;
      for (size_t i = candidate; i < row_begin && runs[i].first <= run.end; ++i)
        parent[root(runs.size())] = root(i);
      runs.push_back(run);
    }
    above = row_begin;
  }

  std::vector<std::vector<Point>> regions;
  std::vector<size_t> region_of(runs.size(), std::numeric_limits<size_t>::max());
  for (size_t i = 0; i < runs.size(); ++i) {
    size_t& region = region_of[root(i)];
    if (region == std::numeric_limits<size_t>::max()) {
      region = regions.size();
      regions.emplace_back();
    }
    for (int x : {runs[i].first, runs[i].end})
      for (int y : {runs[i].row, runs[i].row + 1})
        regions[region].push_back({static_cast<double>(x), static_cast<double>(y)});
  }
  return regions;
}

Rectangle smallest_rectangle(std::vector<Point> points) {
  const std::vector<Point> hull = convex_hull(std::move(points));
  Rectangle best;
  double best_area = std::numeric_limits<double>::infinity();
  // One side of the best rectangle lies on a side of the hull.
  for (size_t i = 0; i < hull.size(); ++i) {
    const Point& start = hull[i];
    const Point& end = hull[(i + 1) % hull.size()];
    const double length = distance(start, end);
    Point along{(end.x - start.x) / length, (end.y - start.y) / length};
    if (std::abs(along.x) < std::abs(along.y)) along = {along.y, -along.x};
    if (along.x < 0) along = {-along.x, -along.y};
    const Point down{-along.y, along.x};
    double left = std::numeric_limits<double>::infinity(), right = -left, top = left, bottom = -left;
    for (const Point& point : hull) {
      left = std::min(left, dot(point, along));
      right = std::max(right, dot(point, along));
      top = std::min(top, dot(point, down));
      bottom = std::max(bottom, dot(point, down));
    }
    if ((right - left) * (bottom - top) < best_area) {
      best_area = (right - left) * (bottom - top);
      const double x = (left + right) / 2, y = (top + bottom) / 2;
      best = {{along.x * x + down.x * y, along.y * x + down.y * y}, along, right - left, bottom - top};
    }
  }
  return best;
}

double mean_inside(const Picture& picture, const Rectangle& rectangle) {
  double left = picture.width, right = 0, top = picture.height, bottom = 0;
  for (const Point& corner : rectangle.corners()) {
    left = std::min(left, corner.x);
    right = std::max(right, corner.x);
    top = std::min(top, corner.y);
    bottom = std::max(bottom, corner.y);
  }
  const int x0 = std::max(0, static_cast<int>(std::floor(left)));
  const int x1 = std::min(picture.width, static_cast<int>(std::ceil(right)));
  const int y0 = std::max(0, static_cast<int>(std::floor(top)));
  const int y1 = std::min(picture.height, static_cast<int>(std::ceil(bottom)));
  double sum = 0;
  int64_t count = 0;
  for (int y = y0; y < y1; ++y) {
    for (int x = x0; x < x1; ++x) {
      const Point offset{x + 0.5 - rectangle.centre.x, y + 0.5 - rectangle.centre.y};
      if (std::abs(dot(offset, rectangle.along)) > rectangle.width / 2) continue;
      if (std::abs(dot(offset, rectangle.down())) > rectangle.height / 2) continue;
      sum += picture.values[static_cast<int64_t>(y) * picture.width + x];
      ++count;
    }
  }
  return count ? sum / static_cast<double>(count) : 0;
}

}  // namespace examples
