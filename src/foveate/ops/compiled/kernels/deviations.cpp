// A map times the sigmoid of each position's squared distance from its channel's mean over four times the channel's
// variance plus a number, plus a half; and back. A channel that is a row stays in the cache between the passes over
// it; channels that are columns are passed over together, row by row, with their statistics in the cache.
#include "vectors.h"

namespace ISA {

// the output, its gradient's part that stays in place, and what goes through the mean and the variance
struct Point {
  vec gate, through;
};
inline vec gate_of(vec distance, vec scale) { return sigmoid(distance * distance * scale + 0.5f); }
inline Point back_of(vec up, vec v, vec distance, vec scale) {
  vec g = gate_of(distance, scale);
  return {g, up * v * g * (1.f - g) * distance};
}
inline vec gradient(vec up, const Point& p, vec distance, vec scale, vec shift, vec shrink) {
  return up * p.gate + 2.f * scale * (p.through - shift - shrink * distance);
}

inline long freedom(long n) { return n > 1 ? n - 1 : 1; }

struct Spread {
  vec mean, scale;  // scale: 1 / (4 · (variance + λ))
};

// calls each(column) for sixteen columns of a row at a time; the last sixteen end with the row, so that some of them
// come twice, and `once` leaves out of sums what was in one already, or what is past the end of a very short row
template <class Each>
inline void walk(long n, const Each& each) {
  long i = 0;
  for (; i + W <= n; i += W) each(i, i);
  if (i < n) each(n < W ? 0 : n - W, i);
}
inline vec once(vec v, long at, long from, long n) {
  if (n < W) return first(v, n);
  return at == from ? v : last(v, n - from);
}

template <class T>
Spread spread(const T* x, long n, float regulariser) {
  vec total{}, squares{};
  walk(n, [&](long at, long from) { total += once(some(x + at, n), at, from, n); });
  float mean = sum(total) / n;
  walk(n, [&](long at, long from) {
    vec d = some(x + at, n) - mean;
    squares += once(d * d, at, from, n);
  });
  return {all(mean), all(0.25f / (sum(squares) / freedom(n) + regulariser))};
}

template <class T>
void row(const T* x, T* y, long n, float regulariser) {
  Spread s = spread(x, n, regulariser);
  walk(n, [&](long at, long) {
    vec v = some(x + at, n);
    put_some(y + at, v * gate_of(v - s.mean, s.scale), n);
  });
}

template <class T>
void row_back(const T* dy, const T* x, T* dx, long n, float regulariser) {
  Spread s = spread(x, n, regulariser);
  vec total{}, squares{};
  walk(n, [&](long at, long from) {
    vec v = some(x + at, n), d = v - s.mean;
    Point p = back_of(some(dy + at, n), v, d, s.scale);
    total += once(p.through, at, from, n);
    squares += once(p.through * d, at, from, n);
  });
  vec shift = all(sum(total) / n), shrink = s.scale * sum(squares) * (4.f / freedom(n));
  walk(n, [&](long at, long) {
    vec v = some(x + at, n), d = v - s.mean, up = some(dy + at, n);
    put_some(dx + at, gradient(up, back_of(up, v, d, s.scale), d, s.scale, shift, shrink), n);
  });
}

constexpr long BLOCK = 512;  // columns passed over together

// calls each(row, column, numbers left in it) for sixteen columns at a time, row by row
template <class Each>
inline void sweep(long height, long n, const Each& each) {
  for (long r = 0; r < height; r++) {
    for (long i = 0; i < n; i += W) each(r, i, n - i);
  }
}

template <class T>
void spreads(const T* x, long height, long width, long n, float regulariser, vec* mean, vec* scale) {
  for (long i = 0; i < n; i += W) mean[i / W] = scale[i / W] = vec{};
  sweep(height, n, [&](long r, long i, long left) { mean[i / W] += some(x + r * width + i, left); });
  for (long i = 0; i < n; i += W) mean[i / W] /= static_cast<float>(height);
  sweep(height, n, [&](long r, long i, long left) {
    vec d = some(x + r * width + i, left) - mean[i / W];
    scale[i / W] += d * d;
  });
  for (long i = 0; i < n; i += W) scale[i / W] = 0.25f / (scale[i / W] / static_cast<float>(freedom(height)) + regulariser);
}

template <class T>
void columns(const T* x, T* y, long height, long width, long n, float regulariser) {
  vec mean[BLOCK / W], scale[BLOCK / W];
  spreads(x, height, width, n, regulariser, mean, scale);
  sweep(height, n, [&](long r, long i, long left) {
    vec v = some(x + r * width + i, left);
    put_some(y + r * width + i, v * gate_of(v - mean[i / W], scale[i / W]), left);
  });
}

template <class T>
void columns_back(const T* dy, const T* x, T* dx, long height, long width, long n, float regulariser) {
  vec mean[BLOCK / W], scale[BLOCK / W], shift[BLOCK / W], shrink[BLOCK / W];
  spreads(x, height, width, n, regulariser, mean, scale);
  for (long i = 0; i < n; i += W) shift[i / W] = shrink[i / W] = vec{};
  sweep(height, n, [&](long r, long i, long left) {
    long k = i / W, at = r * width + i;
    vec v = some(x + at, left), d = v - mean[k];
    Point p = back_of(some(dy + at, left), v, d, scale[k]);
    shift[k] += p.through;
    shrink[k] += p.through * d;
  });
  for (long i = 0; i < n; i += W) {
    shift[i / W] /= static_cast<float>(height);
    shrink[i / W] *= scale[i / W] * (4.f / freedom(height));
  }
  sweep(height, n, [&](long r, long i, long left) {
    long k = i / W, at = r * width + i;
    vec v = some(x + at, left), d = v - mean[k], up = some(dy + at, left);
    put_some(dx + at, gradient(up, back_of(up, v, d, scale[k]), d, scale[k], shift[k], shrink[k]), left);
  });
}

// Channels are rows: one at a time. They are columns: a block of them at a time, smaller where samples are few.
template <class OfRow, class OfColumns>
void channels(bool are_rows, long samples, long height, long width, long threads, const OfRow& of_row,
              const OfColumns& of_columns) {
  if (are_rows) return in_parallel(samples * height, threads, [&](long t) { of_row(t * width); });
  long block = BLOCK;
  while (block > 4 * W && samples * ((width + block - 1) / block) < threads) block /= 2;
  long blocks = (width + block - 1) / block;
  in_parallel(samples * blocks, threads, [&](long t) {
    long begin = (t % blocks) * block;
    of_columns((t / blocks) * height * width + begin, width - begin < block ? width - begin : block);
  });
}

template <class T>
void forward(const void* input, void* output, float regulariser, bool are_rows, long samples, long height, long width,
             long threads) {
  auto x = static_cast<const T*>(input);
  auto y = static_cast<T*>(output);
  channels(
      are_rows, samples, height, width, threads, [&](long at) { row(x + at, y + at, width, regulariser); },
      [&](long at, long n) { columns(x + at, y + at, height, width, n, regulariser); });
}

template <class T>
void backward(const void* upstream, const void* input, void* gradient_, float regulariser, bool are_rows, long samples,
              long height, long width, long threads) {
  auto dy = static_cast<const T*>(upstream), x = static_cast<const T*>(input);
  auto dx = static_cast<T*>(gradient_);
  channels(
      are_rows, samples, height, width, threads,
      [&](long at) { row_back(dy + at, x + at, dx + at, width, regulariser); },
      [&](long at, long n) { columns_back(dy + at, x + at, dx + at, height, width, n, regulariser); });
}

}  // namespace ISA

KERNEL void NAMED(gate_deviations)(const void* x, void* y, float regulariser, long channels_are_rows, long samples,
                                   long height, long width, long half, long threads) {
  auto run = half ? ISA::forward<ISA::bf16> : ISA::forward<float>;
  run(x, y, regulariser, channels_are_rows != 0, samples, height, width, threads);
}

KERNEL void NAMED(gate_deviations_back)(const void* dy, const void* x, void* dx, float regulariser,
                                        long channels_are_rows, long samples, long height, long width, long half,
                                        long threads) {
  auto run = half ? ISA::backward<ISA::bf16> : ISA::backward<float>;
  run(dy, x, dx, regulariser, channels_are_rows != 0, samples, height, width, threads);
}
