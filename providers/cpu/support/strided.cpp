#include "providers/cpu/support/strided.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "providers/cpu/support/parallel.h"

namespace sardonyx::cpu {

namespace {

// How an element is moved: N bytes at any alignment, or a string.
template <int N>
struct Bytes {
  static constexpr int64_t kSize = N;
  static void one(char* dst, const char* src) { std::memcpy(dst, src, N); }
  static void run(char* dst, const char* src, int64_t n) {
    std::memcpy(dst, src, static_cast<size_t>(n) * N);
  }
  static void fill(char* dst, const char* value, int64_t n) {
    if constexpr (N == 1) {
      std::memset(dst, *value, static_cast<size_t>(n));
    } else {
      char one_value[N];
      std::memcpy(one_value, value, N);
      for (int64_t i = 0; i < n; ++i) std::memcpy(dst + i * N, one_value, N);
    }
  }
};
struct String {
  static constexpr int64_t kSize = sizeof(std::string);
  static void one(char* dst, const char* src) {
    *reinterpret_cast<std::string*>(dst) = *reinterpret_cast<const std::string*>(src);
  }
  static void run(char* dst, const char* src, int64_t n) {
    for (int64_t i = 0; i < n; ++i) one(dst + i * kSize, src + i * kSize);
  }
  static void fill(char* dst, const char* value, int64_t n) {
    for (int64_t i = 0; i < n; ++i) one(dst + i * kSize, value);
  }
};

template <typename F>
void visit_unit(int64_t unit, bool strings, F&& f) {
  if (strings) return f.template operator()<String>();
  switch (unit) {
    case 1:
      return f.template operator()<Bytes<1>>();
    case 2:
      return f.template operator()<Bytes<2>>();
    case 4:
      return f.template operator()<Bytes<4>>();
    case 8:
      return f.template operator()<Bytes<8>>();
    case 16:
      return f.template operator()<Bytes<16>>();
    default:
      throw UnsupportedError("an element of " + std::to_string(unit) + " bytes");
  }
}

constexpr int64_t kChunkBytes = 1 << 15;
// Nanoseconds for moving a byte that comes from memory.
constexpr double kByteCost = 0.12;
// What finding the place of the next run or line costs.
constexpr double kStepCost = 3;

template <typename Element>
void copy_chunks(char* dst, const char* src, int64_t n) {
  constexpr int64_t chunk = std::max<int64_t>(kChunkBytes / Element::kSize, 1);
  parallel_for((n + chunk - 1) / chunk, grain_for(kChunkBytes * kByteCost), [&](int64_t begin, int64_t end) {
    const int64_t first = begin * chunk, last = std::min(end * chunk, n);
    Element::run(dst + first * Element::kSize, src + first * Element::kSize, last - first);
  });
}

// 16 bytes of lanes, and the perfect shuffle of two of them: what a transposition in registers is made of.
template <int N>
struct Lanes;
template <>
struct Lanes<1> {
  typedef uint8_t type __attribute__((vector_size(16)));
};
template <>
struct Lanes<2> {
  typedef uint16_t type __attribute__((vector_size(16)));
};
template <>
struct Lanes<4> {
  typedef uint32_t type __attribute__((vector_size(16)));
};
template <>
struct Lanes<8> {
  typedef uint64_t type __attribute__((vector_size(16)));
};

template <int kHalf, typename V, int... I>
inline V interleave(V a, V b, std::integer_sequence<int, I...>) {
  constexpr int n = sizeof...(I);
  return __builtin_shufflevector(a, b, (I / 2 + kHalf * n / 2 + (I % 2) * n)...);
}

// A square of 16 / N rows of 16 bytes: dst(i, j) = src(j, i). log2 rounds of shuffling row i with row
// i + half leave every row in its place.
template <int N>
inline void transpose_square(char* dst, int64_t dst_stride, const char* src, int64_t src_stride) {
  using V = typename Lanes<N>::type;
  constexpr int n = 16 / N;
  constexpr auto lanes = std::make_integer_sequence<int, n>();
  V a[n], b[n];
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i) std::memcpy(&a[i], src + i * src_stride, 16);
#pragma GCC unroll 16
  for (int width = n; width > 1; width /= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < n / 2; ++i) {
      b[2 * i] = interleave<0>(a[i], a[i + n / 2], lanes);
      b[2 * i + 1] = interleave<1>(a[i], a[i + n / 2], lanes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) a[i] = b[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i) std::memcpy(dst + i * dst_stride, &a[i], 16);
}

// N bytes that are moved as one.
template <int N>
struct Piece {
  typedef uint32_t type;
};
template <>
struct Piece<8> {
  typedef uint64_t type;
};
template <>
struct Piece<16> {
  typedef unsigned __int128 type;
};

// v holds 16 * R bytes of elements of N bytes. Each round rotates the bits of every element's place by one:
// log2(R) rounds turn R rows of 16 / N elements into 16 / N rows of R, log2(16 / N) rounds turn them back.
template <int N, int R>
inline void rotate_places(typename Lanes<N>::type* v, int places) {
  using V = typename Lanes<N>::type;
  constexpr auto lanes = std::make_integer_sequence<int, 16 / N>();
#pragma GCC unroll 4
  for (int width = 1; width < places; width *= 2) {
    V next[R];
#pragma GCC unroll 8
    for (int i = 0; i < R / 2; ++i) {
      next[2 * i] = interleave<0>(v[i], v[i + R / 2], lanes);
      next[2 * i + 1] = interleave<1>(v[i], v[i + R / 2], lanes);
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) v[i] = next[i];
  }
}

// Interleaves `rows` long rows, at most R, into n dense rows of `rows` elements. Stores R elements each time;
// the next store corrects the surplus, so the last rows are left to the caller. Returns how many are done.
template <int N, int R>
int64_t weave(char* dst, const char* src, int64_t src_stride, int64_t rows, int64_t n) {
  using P = typename Piece<N * R>::type;
  constexpr int step = 16 / N, pieces = 16 / sizeof(P);
  int64_t at = 0;
  for (; at + step < n; at += step) {
    typename Lanes<N>::type v[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      std::memcpy(&v[r], src + std::min<int64_t>(r, rows - 1) * src_stride + at * N, 16);
    rotate_places<N, R>(v, R);
#pragma GCC unroll 16
    for (int k = 0; k < step; ++k) {
      P piece[pieces];
      std::memcpy(piece, &v[k / pieces], 16);
      std::memcpy(dst + (at + k) * rows * N, &piece[k % pieces], sizeof(P));
    }
  }
  return at;
}

// The inverse: n dense rows of `columns` elements, at most R, become `columns` long rows. Loads R elements
// each time, so the last rows are left to the caller.
template <int N, int R>
int64_t unweave(char* dst, int64_t dst_stride, const char* src, int64_t columns, int64_t n) {
  using V = typename Lanes<N>::type;
  using P = typename Piece<N * R>::type;
  using W = typename Lanes<std::min<int>(sizeof(P), 8)>::type;
  constexpr int step = 16 / N, pieces = 16 / sizeof(P);
  int64_t at = 0;
  for (; at + step < n; at += step) {
    V v[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const char* from = src + (at + r * pieces) * columns * N;
      const auto piece = [&](int k) {
        P result;
        std::memcpy(&result, from + k * columns * N, sizeof(P));
        return result;
      };
      if constexpr (pieces == 4)
        v[r] = std::bit_cast<V>(W{piece(0), piece(1), piece(2), piece(3)});
      else if constexpr (pieces == 2)
        v[r] = std::bit_cast<V>(W{piece(0), piece(1)});
      else
        std::memcpy(&v[r], from, 16);
    }
    rotate_places<N, R>(v, step);
#pragma GCC unroll 8
    for (int c = 0; c < R; ++c)
      if (c < columns) std::memcpy(dst + c * dst_stride + at * N, &v[c], 16);
  }
  return at;
}

// f.template operator()<R>() for the R that weaves m elements of N bytes; false when there is none.
template <int N, typename F>
bool visit_weave(int64_t m, F&& f) {
  if constexpr (N == 4) {
    if (m <= 4) return m <= 2 ? f.template operator()<2>() : f.template operator()<4>(), true;
  } else if constexpr (N == 2) {
    if (m <= 8)
      return m <= 2   ? f.template operator()<2>()
             : m <= 4 ? f.template operator()<4>()
                      : f.template operator()<8>(),
             true;
  } else if constexpr (N == 1) {
    if (m <= 8) return m <= 4 ? f.template operator()<4>() : f.template operator()<8>(), true;
  }
  return false;
}

// dst(i, j) = src(j, i) for i < across, j < along, where one step of i is one element in the source and
// one step of j one element in the destination.
template <typename Element>
void transpose_block(char* dst, int64_t dst_stride, const char* src, int64_t src_stride, int64_t across,
                     int64_t along) {
  constexpr int64_t size = Element::kSize;
  int64_t i = 0;
  if constexpr (size <= 8) {
    constexpr int64_t n = 16 / size;
    for (; i + n <= across; i += n) {
      int64_t j = 0;
      for (; j + n <= along; j += n)
        transpose_square<size>(dst + i * dst_stride + j * size, dst_stride, src + j * src_stride + i * size,
                               src_stride);
      for (; j < along; ++j)
        for (int64_t k = i; k < i + n; ++k)
          Element::one(dst + k * dst_stride + j * size, src + j * src_stride + k * size);
    }
  }
  for (; i < across; ++i)
    for (int64_t j = 0; j < along; ++j)
      Element::one(dst + i * dst_stride + j * size, src + j * src_stride + i * size);
}

}  // namespace

StridedCopy::StridedCopy(DType dtype, const Dims& dims, const Dims& src_strides, const Dims& dst_strides)
    : strings_(dtype == DType::String), unit_(static_cast<int64_t>(element_size(dtype))) {
  if (element_count(dims) == 0) return;
  for (size_t i = 0; i < dims.size(); ++i)
    if (dims[i] != 1) axes_.push_back({dims[i], src_strides[i] * unit_, dst_strides[i] * unit_});
  std::stable_sort(axes_.begin(), axes_.end(), [](const Axis& a, const Axis& b) { return a.dst > b.dst; });
  classify();
  for (const Axis& axis : axes_) outer_ *= axis.size;
}

// Joins dimensions that both layouts walk through in one stride, and takes the innermost ones as the core.
void StridedCopy::classify() {
  std::vector<Axis> joined;
  for (const Axis& axis : axes_) {
    if (!joined.empty() && joined.back().src == axis.src * axis.size &&
        joined.back().dst == axis.dst * axis.size)
      joined.back() = {joined.back().size * axis.size, axis.src, axis.dst};
    else
      joined.push_back(axis);
  }
  axes_ = std::move(joined);
  kind_ = Kind::Runs;
  if (axes_.empty()) return;
  const Axis last = axes_.back();
  if (last.src == unit_ && last.dst == unit_) {
    axes_.pop_back();
    const int64_t bytes = last.size * unit_;
    if (!strings_ && !axes_.empty() && (bytes == 2 || bytes == 4 || bytes == 8 || bytes == 16)) {
      unit_ = bytes;  // a short run is moved as one wider element
      return classify();
    }
    run_ = last.size;
    return;
  }
  along_ = last;
  axes_.pop_back();
  kind_ = Kind::Lines;
  if (last.dst != unit_) return;
  for (size_t i = 0; i < axes_.size(); ++i) {
    if (axes_[i].src != unit_) continue;
    kind_ = Kind::Tiles;
    across_ = axes_[i];
    axes_.erase(axes_.begin() + static_cast<std::ptrdiff_t>(i));
    return;
  }
}

// f(src offset, dst offset) for the positions [begin, end) of the outer dimensions.
template <typename F>
void StridedCopy::walk(int64_t begin, int64_t end, F&& f) const {
  std::vector<int64_t> index(axes_.size());
  int64_t src = 0, dst = 0, rest = begin;
  for (size_t i = axes_.size(); i-- > 0;) {
    index[i] = rest % axes_[i].size;
    rest /= axes_[i].size;
    src += index[i] * axes_[i].src;
    dst += index[i] * axes_[i].dst;
  }
  for (int64_t position = begin; position < end; ++position) {
    f(src, dst);
    for (size_t i = axes_.size(); i-- > 0;) {
      src += axes_[i].src;
      dst += axes_[i].dst;
      if (++index[i] < axes_[i].size) break;
      index[i] = 0;
      src -= axes_[i].size * axes_[i].src;
      dst -= axes_[i].size * axes_[i].dst;
    }
  }
}

template <typename Element>
void StridedCopy::runs(const char* src, char* dst) const {
  if (axes_.empty()) return copy_chunks<Element>(dst, src, run_);
  const int64_t bytes = run_ * Element::kSize;
  if (bytes >= 4 * kChunkBytes && outer_ < 4 * thread_count()) {
    walk(0, outer_, [&](int64_t s, int64_t d) { copy_chunks<Element>(dst + d, src + s, run_); });
    return;
  }
  parallel_for(outer_, grain_for(kStepCost + static_cast<double>(bytes) * kByteCost),
               [&](int64_t begin, int64_t end) {
                 walk(begin, end, [&](int64_t s, int64_t d) { Element::run(dst + d, src + s, run_); });
               });
}

template <typename Element>
void StridedCopy::lines(const char* src, char* dst) const {
  const Axis along = along_;
  const int64_t chunk = std::max<int64_t>(1, 4096 / Element::kSize),
                chunks = (along.size + chunk - 1) / chunk;
  auto line = [&](char* d, const char* s, int64_t n) {
    if (along.src == 0 && along.dst == Element::kSize) {
      Element::fill(d, s, n);
    } else if (along.dst == Element::kSize) {
      for (int64_t i = 0; i < n; ++i) Element::one(d + i * Element::kSize, s + i * along.src);
    } else {
      for (int64_t i = 0; i < n; ++i) Element::one(d + i * along.dst, s + i * along.src);
    }
  };
  if (outer_ < 4 * thread_count()) {
    walk(0, outer_, [&](int64_t s, int64_t d) {
      parallel_for(chunks, grain_for(static_cast<double>(chunk)), [&](int64_t begin, int64_t end) {
        const int64_t first = begin * chunk, last = std::min(end * chunk, along.size);
        line(dst + d + first * along.dst, src + s + first * along.src, last - first);
      });
    });
    return;
  }
  parallel_for(outer_, grain_for(kStepCost + static_cast<double>(along.size)),
               [&](int64_t begin, int64_t end) {
                 walk(begin, end, [&](int64_t s, int64_t d) { line(dst + d, src + s, along.size); });
               });
}

// Pictures of a few channels, and the like: one side of the tiles is short and dense.
template <typename Element>
bool StridedCopy::narrow_tiles(const char* src, char* dst) const {
  constexpr int64_t size = Element::kSize;
  if constexpr (std::is_same_v<Element, String>) {
    return false;
  } else {
    const Axis across = across_, along = along_;
    const bool weaves = along.size <= 8 && across.dst == along.size * size;
    if (!weaves && along.src != across.size * size) return false;
    const int64_t m = weaves ? along.size : across.size, n = weaves ? across.size : along.size;
    constexpr int64_t chunk = 4096;
    const int64_t chunks = (n + chunk - 1) / chunk;
    return visit_weave<size>(m, [&]<int R>() {
      parallel_for(outer_ * chunks,
                   grain_for(static_cast<double>(std::min(chunk, n) * m * size) * kByteCost * 2),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t c = begin; c < end; ++c) {
                       const int64_t first = c % chunks * chunk, count = std::min(chunk, n - first);
                       walk(c / chunks, c / chunks + 1, [&](int64_t s, int64_t d) {
                         if (weaves) {
                           const char* from = src + s + first * size;
                           char* to = dst + d + first * across.dst;
                           const int64_t done = weave<size, R>(to, from, along.src, m, count);
                           transpose_block<Element>(to + done * across.dst, across.dst, from + done * size,
                                                    along.src, count - done, m);
                         } else {
                           const char* from = src + s + first * along.src;
                           char* to = dst + d + first * size;
                           const int64_t done = unweave<size, R>(to, across.dst, from, m, count);
                           transpose_block<Element>(to + done * size, across.dst, from + done * along.src,
                                                    along.src, m, count - done);
                         }
                       });
                     }
                   });
    });
  }
}

template <typename Element>
void StridedCopy::tiles(const char* src, char* dst) const {
  if (narrow_tiles<Element>(src, dst)) return;
  // A tile reads and writes pairs of whole cache lines.
  constexpr int64_t size = Element::kSize;
  constexpr int64_t side = std::max<int64_t>(128 / size, 4);
  const Axis across = across_, along = along_;
  const int64_t across_tiles = (across.size + side - 1) / side, along_tiles = (along.size + side - 1) / side;
  const int64_t tiles = across_tiles * along_tiles;
  // The next tile is the nearer one in memory.
  const bool across_first = across.dst < std::abs(along.src);
  parallel_for(outer_ * tiles, grain_for(side * side * size * kByteCost * 2),
               [&](int64_t begin, int64_t end) {
                 int64_t outer = -1, s0 = 0, d0 = 0;
                 for (int64_t t = begin; t < end; ++t) {
                   if (t / tiles != outer) {
                     outer = t / tiles;
                     walk(outer, outer + 1, [&](int64_t s, int64_t d) { s0 = s, d0 = d; });
                   }
                   const int64_t tile = t % tiles;
                   const int64_t i = (across_first ? tile % across_tiles : tile / along_tiles) * side;
                   const int64_t j = (across_first ? tile / across_tiles : tile % along_tiles) * side;
                   const int64_t m = std::min(side, across.size - i), n = std::min(side, along.size - j);
                   const char* from = src + s0 + i * size + j * along.src;
                   char* to = dst + d0 + i * across.dst + j * size;
                   transpose_block<Element>(to, across.dst, from, along.src, m, n);
                 }
               });
}

template <typename Element>
void StridedCopy::run_as(const char* src, char* dst) const {
  switch (kind_) {
    case Kind::Nothing:
      return;
    case Kind::Runs:
      return runs<Element>(src, dst);
    case Kind::Lines:
      return lines<Element>(src, dst);
    case Kind::Tiles:
      return tiles<Element>(src, dst);
  }
}

void StridedCopy::run(const void* src, void* dst) const {
  if (kind_ == Kind::Nothing) return;
  visit_unit(unit_, strings_, [&]<typename Element>() {
    run_as<Element>(static_cast<const char*>(src), static_cast<char*>(dst));
  });
}

void fill(DType dtype, void* dst, const void* value, int64_t n) {
  if (n <= 0) return;
  const bool strings = dtype == DType::String;
  visit_unit(static_cast<int64_t>(element_size(dtype)), strings, [&]<typename Element>() {
    parallel_for(n, grain_for(static_cast<double>(Element::kSize) * kByteCost),
                 [&](int64_t begin, int64_t end) {
                   Element::fill(static_cast<char*>(dst) + begin * Element::kSize,
                                 static_cast<const char*>(value), end - begin);
                 });
  });
}

void fill_zero(DType dtype, void* dst, int64_t n) {
  if (dtype == DType::String) {
    const std::string empty;
    return fill(dtype, dst, &empty, n);
  }
  const char zero = 0;
  fill(DType::UInt8, dst, &zero, n * static_cast<int64_t>(element_size(dtype)));
}

void copy(DType dtype, void* dst, const void* src, int64_t n) {
  if (n <= 0) return;
  visit_unit(static_cast<int64_t>(element_size(dtype)), dtype == DType::String, [&]<typename Element>() {
    copy_chunks<Element>(static_cast<char*>(dst), static_cast<const char*>(src), n);
  });
}

}  // namespace sardonyx::cpu
