// From a picture of text probabilities to rectangles, which may be tilted.
#pragma once

#include <cstdint>
#include <vector>

#include "../common/image.h"

namespace examples {

// Values in rows; a view of the model's output.
struct Picture {
  const float* values;
  int width, height;
};

// `along` is the unit vector of the side called width: rightwards, or nearly. The other side is at right
// angles.
struct Rectangle {
  Point centre, along;
  double width = 0, height = 0;

  Point down() const { return {-along.y, along.x}; }
  Quad corners() const;
  // Every side moved outwards by ratio * area / perimeter.
  Rectangle grown(double ratio) const;
};

// The outer corners of the pixels of each 8-connected region above the threshold, or as many of them as make
// its convex hull.
std::vector<std::vector<Point>> regions_above(const Picture& picture, float threshold);
// The rectangle of least area around the points, of which there are at least four and not all in a line.
Rectangle smallest_rectangle(std::vector<Point> points);
// The mean of the picture's pixels whose centres lie in the rectangle; 0 when there are none.
double mean_inside(const Picture& picture, const Rectangle& rectangle);

double distance(const Point& a, const Point& b);

}  // namespace examples
