// The plain loops of the activations' derivatives; those of f32 are with the other elementwise operators.
#include "ops/registry/operator.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {
namespace {

struct Relu {
  template <typename C>
  static C apply(C dy, C y) {
    return y <= 0 ? C(0) : dy;
  }
};
struct Sigmoid {
  template <typename C>
  static C apply(C dy, C y) {
    return dy * (y * (1 - y));
  }
};
struct Tanh {
  template <typename C>
  static C apply(C dy, C y) {
    return dy * (1 - y * y);
  }
};
struct HardSwish {
  template <typename C>
  static C apply(C dy, C x) {
    return x <= -3 ? C(0) : x < 3 ? dy * (x / 3 + C(0.5)) : dy;
  }
};

template <typename F>
Prepared prepare(PrepareContext& ctx) {
  ctx.expect(ctx.dims(0) == ctx.dims(1), "dims of input 1", to_string(ctx.dims(0)), to_string(ctx.dims(1)));
  ctx.output(0, ctx.dtype(0), ctx.dims(0));
  ctx.may_share(0, 0);
  const int64_t size = ctx.input(0).size();
  Prepared prepared = decline("only floats");
  visit<AllFloats>(ctx.dtype(0), [&]<typename T>() {
    prepared = [size](RunContext& run) {
      using C = Compute<T>;
      const T *dy = run.in<T>(0), *at = run.in<T>(1);
      T* dx = run.out<T>(0);
      parallel_for(size, grain_for(1), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          dx[i] = static_cast<T>(F::apply(static_cast<C>(dy[i]), static_cast<C>(at[i])));
      });
    };
  });
  return prepared;
}

}  // namespace

void register_activation_backward(KernelRegistry& r) {
  r.ref("ReluBackward", prepare<Relu>, kOwnDomain);
  r.ref("SigmoidBackward", prepare<Sigmoid>, kOwnDomain);
  r.ref("TanhBackward", prepare<Tanh>, kOwnDomain);
  r.ref("HardSwishBackward", prepare<HardSwish>, kOwnDomain);
}

}  // namespace sardonyx::cpu
