// Einsum: operands are contracted two at a time, each time as a batched matrix product of strided views.
#include "ops/matmul.h"

#include <algorithm>
#include <map>
#include <memory>

#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/product.h"
#include "providers/cpu/support/strided.h"
#include "providers/cpu/support/strided_loop.h"
#include "providers/cpu/support/widen.h"

namespace sardonyx::cpu {

namespace {

// A letter, or kEllipsis + i for the dimension that stands i-th from the right in an ellipsis.
using Label = int;
using Labels = std::vector<Label>;
constexpr Label kEllipsis = 256;

bool contains(const Labels& labels, Label label) {
  return std::find(labels.begin(), labels.end(), label) != labels.end();
}

struct Equation {
  std::vector<Labels> inputs;
  Labels output;
  std::map<Label, int64_t> sizes;
};

std::vector<std::string> split_terms(const std::string& text) {
  std::vector<std::string> terms = {""};
  for (const char c : text) {
    if (c == ',')
      terms.emplace_back();
    else
      terms.back() += c;
  }
  return terms;
}

// The labels of one term; `ellipsis` is how many dimensions "..." stands for.
Labels term_labels(const PrepareContext& ctx, const std::string& term, size_t ellipsis) {
  Labels labels;
  bool seen = false;
  for (size_t i = 0; i < term.size(); ++i) {
    const char c = term[i];
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      labels.push_back(c);
    } else if (term.compare(i, 3, "...") == 0 && !seen) {
      seen = true;
      for (size_t d = ellipsis; d-- > 0;) labels.push_back(kEllipsis + static_cast<Label>(d));
      i += 2;
    } else {
      ctx.fail("attribute 'equation'", "letters and at most one ellipsis in a term", "'" + term + "'");
    }
  }
  return labels;
}

Equation parse_equation(const PrepareContext& ctx) {
  const auto attribute = ctx.attributes<EinsumAttributes>().equation;
  ctx.expect(attribute.has_value(), "attribute 'equation'", "a string", "none");
  std::string text;
  for (const char c : *attribute)
    if (c != ' ') text += c;
  const size_t arrow = text.find("->");
  const auto terms = split_terms(text.substr(0, arrow));
  ctx.expect(terms.size() == ctx.input_count(), "terms of attribute 'equation'",
             std::to_string(ctx.input_count()) + ", one for each input", std::to_string(terms.size()));
  Equation e;
  std::map<Label, int> uses;
  size_t ellipsis = 0;
  for (size_t i = 0; i < terms.size(); ++i) {
    const Dims& dims = ctx.dims(i);
    const bool dots = terms[i].find("...") != std::string::npos;
    const size_t letters = terms[i].size() - (dots ? 3 : 0);
    ctx.expect(dots ? letters <= dims.size() : letters == dims.size(), "rank of input " + std::to_string(i),
               (dots ? "at least " : "") + std::to_string(letters), std::to_string(dims.size()));
    const size_t covered = dims.size() - std::min(letters, dims.size());
    ellipsis = std::max(ellipsis, covered);
    e.inputs.push_back(term_labels(ctx, terms[i], covered));
    for (size_t d = 0; d < dims.size(); ++d) {
      const Label label = e.inputs[i][d];
      ++uses[label];
      const auto [at, fresh] = e.sizes.emplace(label, dims[d]);
      if (!fresh && at->second == 1) at->second = dims[d];
      ctx.expect(at->second == dims[d] || dims[d] == 1,
                 "input " + std::to_string(i) + " dim " + std::to_string(d), std::to_string(at->second),
                 std::to_string(dims[d]));
    }
  }
  if (arrow != std::string::npos) {
    e.output = term_labels(ctx, text.substr(arrow + 2), ellipsis);
    for (size_t i = 0; i < e.output.size(); ++i) {
      const Label label = e.output[i];
      ctx.expect(uses.count(label) != 0, "output of attribute 'equation'", "labels of the inputs",
                 std::string(1, static_cast<char>(label)));
      ctx.expect(std::count(e.output.begin(), e.output.end(), label) == 1, "output of attribute 'equation'",
                 "each label once", std::string(1, static_cast<char>(label)));
    }
  } else {
    for (size_t d = ellipsis; d-- > 0;) e.output.push_back(kEllipsis + static_cast<Label>(d));
    for (const auto& [label, count] : uses)
      if (label < kEllipsis && count == 1) e.output.push_back(label);
  }
  return e;
}

// Where an operand lies: in an input, in the output, or in scratch.
struct Place {
  enum Kind { Input, Output, Scratch } kind = Scratch;
  size_t at = 0;
  void* in(RunContext& run) const {
    if (kind == Input) return const_cast<void*>(run.input(at).data());
    return kind == Output ? run.output(0).mutable_data() : run.scratch() + at;
  }
};

struct Operand {
  Place place;
  Labels labels;  // each once, none of size 1
  std::map<Label, int64_t> strides;
};

// A group of labels as one dimension of a view; ok when its strides allow that.
struct Group {
  bool ok = true;
  int64_t size = 1, stride = 1;
};

template <typename T>
class EinsumPlan {
 public:
  EinsumPlan(PrepareContext& ctx, ScratchPlan& scratch, Equation equation)
      : ctx_(ctx), scratch_(scratch), e_(std::move(equation)) {}

  // Steps that leave the result in `result`, dense in the order of the equation's output.
  std::vector<std::function<void(RunContext&)>> plan(const std::vector<Place>& places, Place result);

 private:
  using Step = std::function<void(RunContext&)>;

  int64_t size(const Labels& labels) const {
    int64_t n = 1;
    for (const Label label : labels) n = checked_mul(n, e_.sizes.at(label), "einsum");
    return n;
  }
  Group group(const Operand& operand, const Labels& labels) const;
  Operand fresh(const Labels& labels) {
    const size_t bytes = static_cast<size_t>(checked_mul(size(labels), sizeof(T), "einsum"));
    return dense({Place::Scratch, scratch_.add(bytes)}, labels);
  }
  Operand dense(Place place, const Labels& labels) const;
  Operand rearranged(const Operand& from, const Labels& labels, Operand to);
  Operand arranged(const Operand& from, Labels batch, const Labels& rows, const Labels& columns);
  Operand without(const Operand& from, const std::vector<Operand>& others);
  Operand contract(Operand a, Operand b, const std::vector<Operand>& others);
  void multiply(const Operand& a, const Operand& b, const Labels& summed, const Operand& to);
  bool wanted(Label label, const std::vector<Operand>& others) const;

  PrepareContext& ctx_;
  ScratchPlan& scratch_;
  Equation e_;
  Labels order_;  // the output's labels of more than one element
  Place result_;
  std::vector<Step> steps_;
};

template <typename T>
Operand EinsumPlan<T>::dense(Place place, const Labels& labels) const {
  Operand operand{place, labels, {}};
  int64_t stride = 1;
  for (size_t i = labels.size(); i-- > 0;) {
    operand.strides[labels[i]] = stride;
    stride *= e_.sizes.at(labels[i]);
  }
  return operand;
}

template <typename T>
Group EinsumPlan<T>::group(const Operand& operand, const Labels& labels) const {
  Group g;
  for (size_t i = labels.size(); i-- > 0;) {
    const int64_t stride = operand.strides.at(labels[i]), n = e_.sizes.at(labels[i]);
    if (i + 1 == labels.size())
      g.stride = stride;
    else
      g.ok = g.ok && stride == g.stride * g.size;
    g.size *= n;
  }
  return g;
}

template <typename T>
bool EinsumPlan<T>::wanted(Label label, const std::vector<Operand>& others) const {
  return contains(order_, label) || std::any_of(others.begin(), others.end(),
                                                [&](const Operand& o) { return contains(o.labels, label); });
}

// Copies `from` to `to`, which is dense in the order of `labels`; other labels of `from` are summed over.
template <typename T>
Operand EinsumPlan<T>::rearranged(const Operand& from, const Labels& labels, Operand to) {
  StridedLoop kept, summed;
  kept.strides.resize(1);
  summed.strides.resize(1);
  for (const Label label : labels)
    kept.sizes.push_back(e_.sizes.at(label)), kept.strides[0].push_back(from.strides.at(label));
  for (const Label label : from.labels)
    if (!contains(labels, label))
      summed.sizes.push_back(e_.sizes.at(label)), summed.strides[0].push_back(from.strides.at(label));
  kept.collapse();
  summed.collapse();
  const Place source = from.place, target = to.place;
  if (kept.count() == 0) return to;
  if (summed.sizes.empty()) {
    const StridedCopy copy(dtype_of<T>, kept.sizes, kept.strides[0], contiguous_strides(kept.sizes));
    steps_.push_back([=](RunContext& run) { copy.run(source.in(run), target.in(run)); });
    return to;
  }
  steps_.push_back([=](RunContext& run) {
    using Sum = std::conditional_t<std::is_floating_point_v<T>, double, T>;
    const T* src = static_cast<const T*>(source.in(run));
    T* dst = static_cast<T*>(target.in(run));
    const int64_t terms = summed.count(), inner = summed.sizes.back(), step = summed.strides[0].back();
    parallel_for(kept.count(), grain_for(static_cast<double>(terms) + 5), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* at = src + kept.offset(0, i);
        Sum sum = 0;
        for (int64_t j = 0; j < terms; j += inner) {
          const T* run_at = at + summed.offset(0, j);
          for (int64_t l = 0; l < inner; ++l) sum += static_cast<Sum>(run_at[l * step]);
        }
        dst[i] = static_cast<T>(sum);
      }
    });
  });
  return to;
}

// `from` as [batch..., rows, columns] with one of the last two walked by steps of 1: itself, or a copy.
template <typename T>
Operand EinsumPlan<T>::arranged(const Operand& from, Labels batch, const Labels& rows,
                                const Labels& columns) {
  const Group r = group(from, rows), c = group(from, columns);
  if (r.ok && c.ok && (r.stride == 1 || c.stride == 1 || (r.size == 1 && c.size == 1))) return from;
  batch.insert(batch.end(), rows.begin(), rows.end());
  batch.insert(batch.end(), columns.begin(), columns.end());
  return rearranged(from, batch, fresh(batch));
}

// Sums out the labels that neither the output nor another operand has.
template <typename T>
Operand EinsumPlan<T>::without(const Operand& from, const std::vector<Operand>& others) {
  Labels kept;
  for (const Label label : from.labels)
    if (wanted(label, others)) kept.push_back(label);
  return kept.size() == from.labels.size() ? from : rearranged(from, kept, fresh(kept));
}

// Element by element where nothing or everything but the batch is summed: to[i] = sum of a * b.
template <typename T>
void EinsumPlan<T>::multiply(const Operand& a, const Operand& b, const Labels& summed, const Operand& to) {
  const auto loop_over = [&](const Labels& labels) {
    StridedLoop loop;
    loop.strides.resize(2);
    for (const Label label : labels) {
      loop.sizes.push_back(e_.sizes.at(label));
      loop.strides[0].push_back(a.strides.count(label) ? a.strides.at(label) : 0);
      loop.strides[1].push_back(b.strides.count(label) ? b.strides.at(label) : 0);
    }
    loop.collapse();
    if (loop.sizes.empty()) loop.sizes = {1}, loop.strides = {{0}, {0}};
    return loop;
  };
  const StridedLoop outer = loop_over(to.labels), inner = loop_over(summed);
  const Place left = a.place, right = b.place, target = to.place;
  const bool dot = !summed.empty();
  steps_.push_back([=](RunContext& run) {
    const T *x = static_cast<const T*>(left.in(run)), *y = static_cast<const T*>(right.in(run));
    T* z = static_cast<T*>(target.in(run));
    const int64_t columns = outer.sizes.back(), x_step = outer.strides[0].back(),
                  y_step = outer.strides[1].back();
    const int64_t terms = inner.count(), length = inner.sizes.back(), x_inner = inner.strides[0].back(),
                  y_inner = inner.strides[1].back();
    if (columns == 0) return;
    parallel_for(
        outer.count() / columns, grain_for(static_cast<double>(columns) * static_cast<double>(terms + 1)),
        [&](int64_t begin, int64_t end) {
          for (int64_t row = begin; row < end; ++row) {
            const T *p = x + outer.offset(0, row * columns), *q = y + outer.offset(1, row * columns);
            T* to_row = z + row * columns;
            if (!dot) {
              for (int64_t i = 0; i < columns; ++i) to_row[i] = p[i * x_step] * q[i * y_step];
              continue;
            }
            using Sum = std::conditional_t<std::is_floating_point_v<T>, double, T>;
            for (int64_t i = 0; i < columns; ++i) {
              Sum sum = 0;
              for (int64_t j = 0; j < terms; j += length) {
                const T *u = p + i * x_step + inner.offset(0, j), *v = q + i * y_step + inner.offset(1, j);
                for (int64_t l = 0; l < length; ++l)
                  sum += static_cast<Sum>(u[l * x_inner]) * static_cast<Sum>(v[l * y_inner]);
              }
              to_row[i] = static_cast<T>(sum);
            }
          }
        });
  });
}

template <typename T>
Operand EinsumPlan<T>::contract(Operand a, Operand b, const std::vector<Operand>& others) {
  std::vector<Operand> beside_a = others, beside_b = others;
  beside_a.push_back(b);
  a = without(a, beside_a);
  beside_b.push_back(a);
  b = without(b, beside_b);
  Labels batch, rows, columns, summed;
  // The order of the output, so that the last product can be written where it belongs.
  Labels all = order_;
  for (const Operand* o : {&a, &b})
    for (const Label label : o->labels)
      if (!contains(all, label)) all.push_back(label);
  for (const Label label : all) {
    const bool in_a = contains(a.labels, label), in_b = contains(b.labels, label);
    if (in_a && in_b)
      (wanted(label, others) ? batch : summed).push_back(label);
    else if (in_a)
      rows.push_back(label);
    else if (in_b)
      columns.push_back(label);
  }
  const bool last = others.empty();
  // The operand that makes the innermost labels of the result goes to the right.
  if (last && !order_.empty() && contains(rows, order_.back())) {
    std::swap(a, b);
    std::swap(rows, columns);
  }
  Labels made = batch;
  made.insert(made.end(), rows.begin(), rows.end());
  made.insert(made.end(), columns.begin(), columns.end());
  if (summed.empty() || (rows.empty() && columns.empty())) {
    const Labels& labels = last ? order_ : made;
    const Operand to = last ? dense(result_, labels) : fresh(labels);
    multiply(a, b, summed, to);
    return to;
  }
  a = arranged(a, batch, rows, summed);
  b = arranged(b, batch, summed, columns);
  Operand to = last ? dense(result_, order_) : fresh(made);
  const Group out_rows = group(to, rows), out_columns = group(to, columns);
  if (!out_rows.ok || !out_columns.ok || (out_columns.size > 1 && out_columns.stride != 1)) to = fresh(made);

  StridedLoop loop;
  loop.strides.resize(3);
  for (const Label label : batch) {
    loop.sizes.push_back(e_.sizes.at(label));
    loop.strides[0].push_back(a.strides.at(label));
    loop.strides[1].push_back(b.strides.at(label));
    loop.strides[2].push_back(to.strides.at(label));
  }
  loop.collapse();
  const Group a_rows = group(a, rows), a_columns = group(a, summed), b_rows = group(b, summed),
              b_columns = group(b, columns);
  ProductShape shape;
  shape.m = a_rows.size, shape.k = a_columns.size, shape.n = b_columns.size;
  shape.batch = loop.sizes;
  shape.a_batch = loop.strides[0], shape.b_batch = loop.strides[1], shape.c_batch = loop.strides[2];
  shape.a_row = a_rows.stride, shape.a_column = a_columns.stride;
  shape.b_row = b_rows.stride, shape.b_column = b_columns.stride;
  shape.c_row = group(to, rows).stride;
  const Tensor* constant = b.place.kind == Place::Input && ctx_.dtype(b.place.at) == dtype_of<T>
                               ? ctx_.constant(b.place.at)
                               : nullptr;
  const auto product = Product::plan(scratch_, dtype_of<T>, shape, constant);
  const Place left = a.place, right = b.place, target = to.place;
  steps_.push_back([=, product = *product](RunContext& run) {
    product.run(run.scratch(), left.in(run), right.in(run), target.in(run));
  });
  return to;
}

template <typename T>
std::vector<std::function<void(RunContext&)>> EinsumPlan<T>::plan(const std::vector<Place>& places,
                                                                  Place result) {
  result_ = result;
  for (const Label label : e_.output)
    if (e_.sizes.at(label) != 1) order_.push_back(label);
  std::vector<Operand> operands;
  for (size_t i = 0; i < places.size(); ++i) {
    Operand operand{places[i], {}, {}};
    const Dims strides = contiguous_strides(ctx_.dims(i));
    for (size_t d = 0; d < strides.size(); ++d) {
      const Label label = e_.inputs[i][d];
      if (ctx_.dims(i)[d] == 1) continue;  // broadcast
      if (!contains(operand.labels, label)) operand.labels.push_back(label);
      operand.strides[label] += strides[d];  // a label that repeats walks the diagonal
    }
    operands.push_back(std::move(operand));
  }
  while (operands.size() > 1) {
    // The pair with the smallest result; the first two when there are very many operands.
    size_t first = 0, second = 1;
    double best = -1;
    for (size_t i = 0; operands.size() > 2 && operands.size() <= 32 && i < operands.size(); ++i) {
      for (size_t j = i + 1; j < operands.size(); ++j) {
        std::vector<Operand> others;
        for (size_t o = 0; o < operands.size(); ++o)
          if (o != i && o != j) others.push_back(operands[o]);
        double cost = 1;
        Labels seen;
        for (const Operand* o : {&operands[i], &operands[j]})
          for (const Label label : o->labels)
            if (!contains(seen, label) && wanted(label, others))
              seen.push_back(label), cost *= static_cast<double>(e_.sizes.at(label));
        if (best < 0 || cost < best) best = cost, first = i, second = j;
      }
    }
    Operand a = operands[first], b = operands[second];
    operands.erase(operands.begin() + static_cast<std::ptrdiff_t>(second));
    operands.erase(operands.begin() + static_cast<std::ptrdiff_t>(first));
    operands.push_back(contract(std::move(a), std::move(b), operands));
  }
  const Operand& whole = operands.front();
  if (whole.place.kind != result.kind || whole.place.at != result.at)
    rearranged(whole, order_, dense(result, order_));
  return std::move(steps_);
}

// 8- and 16-bit integers are computed in 32 bits, which wrap to the same result.
template <typename T>
Prepared prepare_as(PrepareContext& ctx, const Equation& equation, const Dims& dims) {
  using C =
      std::conditional_t<!std::is_integral_v<T>, T, std::conditional_t<sizeof(T) <= 4, uint32_t, uint64_t>>;
  ScratchPlan scratch(ctx);
  std::vector<Place> places;
  Place result{Place::Output, 0};
  constexpr bool converts = sizeof(T) != sizeof(C);
  for (size_t i = 0; i < ctx.input_count(); ++i)
    places.push_back(
        converts ? Place{Place::Scratch, scratch.add(static_cast<size_t>(ctx.input(i).size()) * sizeof(C))}
                 : Place{Place::Input, i});
  if (converts)
    result = {Place::Scratch,
              scratch.add(static_cast<size_t>(checked_mul(element_count(dims), sizeof(C), "einsum")))};
  // A sum over nothing is 0, whatever else the operands hold.
  bool zero = false;
  for (const auto& [label, n] : equation.sizes) zero = zero || n == 0;
  ctx.output(0, ctx.dtype(0), dims);
  const int64_t count = element_count(dims);
  if (zero) return [count](RunContext& run) { std::fill(run.out<T>(0), run.out<T>(0) + count, T{}); };
  const auto steps = EinsumPlan<C>(ctx, scratch, equation).plan(places, result);
  return [=](RunContext& run) {
    if constexpr (converts) {
      for (size_t i = 0; i < places.size(); ++i) {
        const T* from = run.in<T>(i);
        std::copy(from, from + run.input(i).size(), static_cast<C*>(places[i].in(run)));
      }
    }
    for (const auto& step : steps) step(run);
    if constexpr (converts) {
      const C* from = static_cast<const C*>(result.in(run));
      std::transform(from, from + count, run.out<T>(0), [](C value) { return static_cast<T>(value); });
    }
  };
}

Prepared prepare_einsum(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  for (size_t i = 1; i < ctx.input_count(); ++i)
    ctx.expect(ctx.dtype(i) == dtype, "dtype of input " + std::to_string(i), dtype_name(dtype),
               dtype_name(ctx.dtype(i)));
  if (dtype == DType::Float16 || dtype == DType::BFloat16) return widened(ctx, dtype, prepare_einsum);
  const Equation equation = parse_equation(ctx);
  Dims dims;
  for (const Label label : equation.output) dims.push_back(equation.sizes.at(label));
  element_count(dims);
  std::optional<Prepared> prepared;
  visit<Numbers>(dtype, [&]<typename T>() { prepared = prepare_as<T>(ctx, equation, dims); });
  ctx.expect(prepared.has_value(), "dtype of input 0", "a number", dtype_name(dtype));
  return *prepared;
}

}  // namespace

void register_matmul_einsum(KernelRegistry& registry) { registry.ref("Einsum", prepare_einsum); }

}  // namespace sardonyx::cpu
