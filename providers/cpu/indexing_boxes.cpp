// NonMaxSuppression: the best boxes of each class that do not overlap a better one.
#include <algorithm>

#include "ops/indexing.h"
#include "providers/cpu/support/parallel.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

namespace {

// Corners in ascending order, and the area between them.
struct Box {
  float y0, x0, y1, x1, area;
};

Box box_of(const float* b, bool centered) {
  Box box;
  if (centered) {
    box = {b[1] - b[3] / 2, b[0] - b[2] / 2, b[1] + b[3] / 2, b[0] + b[2] / 2, 0};
  } else {
    box = {std::min(b[0], b[2]), std::min(b[1], b[3]), std::max(b[0], b[2]), std::max(b[1], b[3]), 0};
  }
  box.area = (box.y1 - box.y0) * (box.x1 - box.x0);
  return box;
}

bool overlaps(const Box& a, const Box& b, float threshold) {
  const float height = std::min(a.y1, b.y1) - std::max(a.y0, b.y0);
  const float width = std::min(a.x1, b.x1) - std::max(a.x0, b.x0);
  if (!(height > 0) || !(width > 0) || !(a.area > 0) || !(b.area > 0)) return false;
  const float common = height * width, together = a.area + b.area - common;
  return together > 0 && common / together > threshold;
}

// Indices of the chosen boxes of one class, best first.
std::vector<int64_t> choose(const std::vector<Box>& boxes, const float* scores, int64_t limit,
                            float iou_threshold, const float* score_threshold) {
  struct Candidate {
    float score;
    int64_t index;
  };
  std::vector<Candidate> candidates;
  for (int64_t i = 0; i < static_cast<int64_t>(boxes.size()); ++i)
    if (score_threshold ? scores[i] > *score_threshold : scores[i] == scores[i])
      candidates.push_back({scores[i], i});
  // A heap, since the limit is often reached early.
  const auto worse = [](const Candidate& a, const Candidate& b) {
    return a.score < b.score || (a.score == b.score && a.index > b.index);
  };
  std::make_heap(candidates.begin(), candidates.end(), worse);
  std::vector<int64_t> chosen;
  std::vector<Box> kept;
  for (auto end = candidates.end(); end != candidates.begin() && static_cast<int64_t>(chosen.size()) < limit;
       --end) {
    std::pop_heap(candidates.begin(), end, worse);
    const int64_t i = (end - 1)->index;
    const Box& box = boxes[static_cast<size_t>(i)];
    if (std::any_of(kept.begin(), kept.end(),
                    [&](const Box& other) { return overlaps(box, other, iou_threshold); }))
      continue;
    chosen.push_back(i);
    kept.push_back(box);
  }
  return chosen;
}

Prepared prepare_non_max_suppression(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<NonMaxSuppressionAttributes>();
  const Dims& boxes = ctx.dims(0);
  const Dims& scores = ctx.dims(1);
  ctx.expect(boxes.size() == 3 && boxes[2] == 4, "dims of input 'boxes'", "[batches, boxes, 4]",
             to_string(boxes));
  ctx.expect(scores.size() == 3 && scores[0] == boxes[0] && scores[2] == boxes[1], "dims of input 'scores'",
             "[" + std::to_string(boxes[0]) + ", classes, " + std::to_string(boxes[1]) + "]",
             to_string(scores));
  ctx.expect(attributes.center_point_box == 0 || attributes.center_point_box == 1,
             "attribute 'center_point_box'", "0 or 1", std::to_string(attributes.center_point_box));
  for (size_t i = 2; i < 5; ++i)
    if (ctx.has_input(i))
      ctx.expect(ctx.input(i).size() == 1, "elements of input " + std::to_string(i), "1",
                 std::to_string(ctx.input(i).size()));
  const bool centered = attributes.center_point_box == 1;
  const int64_t batches = boxes[0], count = boxes[1], classes = scores[1];
  return [=](RunContext& run) {
    const int64_t* limit = run.in<int64_t>(2);
    const float* iou = run.in<float>(3);
    const float* score_threshold = run.in<float>(4);
    const float iou_threshold = iou ? *iou : 0;
    if (!(iou_threshold >= 0 && iou_threshold <= 1))
      run.fail("input 'iou_threshold'", "0 to 1", std::to_string(iou_threshold));
    const int64_t wanted = limit ? *limit : 0;
    std::vector<std::vector<int64_t>> chosen(static_cast<size_t>(batches * classes));
    for (int64_t b = 0; b < batches && wanted > 0; ++b) {
      run.check_cancelled();
      std::vector<Box> all(static_cast<size_t>(count));
      for (int64_t i = 0; i < count; ++i)
        all[static_cast<size_t>(i)] = box_of(run.in<float>(0) + (b * count + i) * 4, centered);
      parallel_for(classes, grain_for(static_cast<double>(count) * 4), [&](int64_t begin, int64_t end) {
        for (int64_t c = begin; c < end; ++c)
          chosen[static_cast<size_t>(b * classes + c)] = choose(
              all, run.in<float>(1) + (b * classes + c) * count, wanted, iou_threshold, score_threshold);
      });
    }
    int64_t total = 0;
    for (const auto& list : chosen) total += static_cast<int64_t>(list.size());
    int64_t* out = run.allocate(0, DType::Int64, {total, 3}).mutable_data<int64_t>();
    for (int64_t line = 0; line < batches * classes; ++line)
      for (int64_t i : chosen[static_cast<size_t>(line)]) {
        *out++ = line / classes;
        *out++ = line % classes;
        *out++ = i;
      }
  };
}

}  // namespace

void register_indexing_boxes(KernelRegistry& registry) {
  registry.ref("NonMaxSuppression", prepare_non_max_suppression);
}

}  // namespace sardonyx::cpu
