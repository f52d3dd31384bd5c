// A map times weights of its rows, of its columns or of both; plus a shortcut, rectified, if asked for; and back.
#include "vectors.h"

namespace ISA {

// rows whose work one thread takes at once
inline long rows_at_once(long width) { return 1 + 8192 / (width + 1); }

template <class T, bool COLUMNS, bool SHORTCUT, bool RECTIFIED>
void apply(const T* x, const float* row_weights, const float* weights, const T* shortcut, T* y, long samples,
           long height, long width, long threads) {
  long block = rows_at_once(width), blocks = (height + block - 1) / block;
  in_parallel(samples * blocks, threads, [&](long t) {
    long b = t / blocks, begin = (t % blocks) * block, end = begin + block < height ? begin + block : height;
    const float* factor = COLUMNS ? weights + b * width : nullptr;
    for (long r = begin; r < end; r++) {
      long at = (b * height + r) * width, i = 0;
      float scale = row_weights ? row_weights[b * height + r] : 1.f;
      for (; i + W <= width; i += W) {
        vec v = load(x + at + i) * scale;
        if (COLUMNS) v *= load(factor + i);
        if (SHORTCUT) v += load(shortcut + at + i);
        store(y + at + i, RECTIFIED ? rectified(v) : v);
      }
      for (; i < width; i++) {
        float v = get(x + at + i) * scale;
        if (COLUMNS) v *= factor[i];
        if (SHORTCUT) v += get(shortcut + at + i);
        put(y + at + i, RECTIFIED ? rectified(v) : v);
      }
    }
  });
}

template <class T>
void choose(const void* x, const float* row_weights, const float* weights, const void* shortcut, void* y,
            bool rectify, long samples, long height, long width, long threads) {
  auto run = weights ? (shortcut ? (rectify ? apply<T, true, true, true> : apply<T, true, true, false>)
                                 : (rectify ? apply<T, true, false, true> : apply<T, true, false, false>))
                     : (shortcut ? (rectify ? apply<T, false, true, true> : apply<T, false, true, false>)
                                 : (rectify ? apply<T, false, false, true> : apply<T, false, false, false>));
  run(static_cast<const T*>(x), row_weights, weights, static_cast<const T*>(shortcut), static_cast<T*>(y), samples,
      height, width, threads);
}

// Rows of every sample in parts, each of which adds to columns of its own; then the columns of a sample's parts are
// added in order. One part a sample where there are samples for all threads.
template <class Part>
void in_parts(long samples, long height, long width, long threads, float* columns, const Part& part) {
  long parts = (threads + samples - 1) / samples;
  if (parts > height) parts = height;
  float* partial = parts > 1 ? new float[samples * parts * width] : columns;
  memset(partial, 0, sizeof(float) * samples * parts * width);
  in_parallel(samples * parts, threads, [&](long t) {
    long b = t / parts, p = t % parts;
    part(b, height * p / parts, height * (p + 1) / parts, partial + t * width);
  });
  if (parts == 1) return;
  for (long b = 0; b < samples; b++) {
    for (long i = 0; i < width; i++) {
      float total = 0;
      for (long p = 0; p < parts; p++) total += partial[(b * parts + p) * width + i];
      columns[b * width + i] = total;
    }
  }
  delete[] partial;
}

// What comes back: to the map, to the weights of rows and of columns, and to the shortcut. `y` is the output where it
// was rectified: what is not above zero there lets nothing through.
template <class T, bool COLUMNS, bool RECTIFIED>
void apply_back(const T* dy, const T* x, const float* row_weights, const float* weights, const T* y, T* dx,
                float* d_rows, float* d_columns, T* d_shortcut, long samples, long height, long width, long threads) {
  auto some = [&](long b, long begin, long end, float* into) {
    const float* factor = COLUMNS ? weights + b * width : nullptr;
    for (long r = begin; r < end; r++) {
      long at = (b * height + r) * width, i = 0;
      float scale = row_weights ? row_weights[b * height + r] : 1.f;
      vec total{};
      for (; i + W <= width; i += W) {
        vec g = load(dy + at + i);
        if (RECTIFIED) g = load(y + at + i) <= 0 ? vec{} : g;
        if (RECTIFIED && d_shortcut) store(d_shortcut + at + i, g);
        vec product = g * load(x + at + i);
        if (into) store(into + i, load(into + i) + product * scale);
        vec w = all(scale);
        if (COLUMNS) {
          vec f = load(factor + i);
          product *= f;
          w *= f;
        }
        total += product;
        if (dx) store(dx + at + i, g * w);
      }
      float rest = sum(total);
      for (; i < width; i++) {
        float g = get(dy + at + i);
        if (RECTIFIED) g = get(y + at + i) <= 0 ? 0 : g;
        if (RECTIFIED && d_shortcut) put(d_shortcut + at + i, g);
        float product = g * get(x + at + i), f = COLUMNS ? factor[i] : 1.f;
        if (into) into[i] += product * scale;
        rest += product * f;
        if (dx) put(dx + at + i, g * scale * f);
      }
      if (d_rows) d_rows[b * height + r] = rest;
    }
  };
  if (d_columns) return in_parts(samples, height, width, threads, d_columns, some);
  long block = rows_at_once(width), blocks = (height + block - 1) / block;
  in_parallel(samples * blocks, threads, [&](long t) {
    long begin = (t % blocks) * block;
    some(t / blocks, begin, begin + block < height ? begin + block : height, static_cast<float*>(nullptr));
  });
}

template <class T>
void choose_back(const void* dy, const void* x, const float* row_weights, const float* weights, const void* y,
                 void* dx, float* d_rows, float* d_columns, void* d_shortcut, long samples, long height, long width,
                 long threads) {
  auto run = weights ? (y ? apply_back<T, true, true> : apply_back<T, true, false>)
                     : (y ? apply_back<T, false, true> : apply_back<T, false, false>);
  run(static_cast<const T*>(dy), static_cast<const T*>(x), row_weights, weights, static_cast<const T*>(y),
      static_cast<T*>(dx), d_rows, d_columns, static_cast<T*>(d_shortcut), samples, height, width, threads);
}

// The way back of a maximum and a mean across rows that were weighted: each column's share of the mean goes to all of
// its elements, that of the maximum to the first largest; added to a gradient that is there.
template <class T>
void columns_back(const float* d_most, const float* d_mean, const int32_t* where, const T* x, const float* row_weights,
                   T* dx, float* d_rows, long samples, long height, long width, long threads) {
  long block = rows_at_once(width), blocks = (height + block - 1) / block;
  in_parallel(samples * blocks, threads, [&](long t) {
    long b = t / blocks, begin = (t % blocks) * block, end = begin + block < height ? begin + block : height;
    const float *most = d_most + b * width, *mean = d_mean + b * width;
    const int32_t* at_row = where + b * width;
    for (long r = begin; r < end; r++) {
      long at = (b * height + r) * width, i = 0;
      float scale = row_weights[b * height + r];
      vec total{};
      for (; i + W <= width; i += W) {
        ivec first;
        memcpy(&first, at_row + i, sizeof first);
        vec share = load(mean + i) + (first == static_cast<int32_t>(r) ? load(most + i) : vec{});
        total += share * load(x + at + i);
        store(dx + at + i, load(dx + at + i) + share * scale);
      }
      float rest = sum(total);
      for (; i < width; i++) {
        float share = mean[i] + (at_row[i] == r ? most[i] : 0);
        rest += share * get(x + at + i);
        put(dx + at + i, get(dx + at + i) + share * scale);
      }
      d_rows[b * height + r] = rest;
    }
  });
}

// The same of a maximum and a mean along rows whose columns were weighted.
template <class T>
void rows_back(const float* d_most, const float* d_mean, const int32_t* where, const T* x, const float* weights, T* dx,
               float* d_columns, long samples, long height, long width, long threads) {
  in_parts(samples, height, width, threads, d_columns, [&](long b, long begin, long end, float* into) {
    const float* factor = weights + b * width;
    for (long r = begin; r < end; r++) {
      long at = (b * height + r) * width, i = 0, k = where[b * height + r];
      float mean = d_mean[b * height + r], most = d_most[b * height + r];
      float seen = get(x + at + k), there = get(dx + at + k) + (mean + most) * factor[k];
      for (; i + W <= width; i += W) {
        store(into + i, load(into + i) + mean * load(x + at + i));
        store(dx + at + i, load(dx + at + i) + mean * load(factor + i));
      }
      for (; i < width; i++) {
        into[i] += mean * get(x + at + i);
        put(dx + at + i, get(dx + at + i) + mean * factor[i]);
      }
      into[k] += most * seen;
      put(dx + at + k, there);
    }
  });
}

}  // namespace ISA

KERNEL void NAMED(gate)(const void* x, const float* row_weights, const float* weights, const void* shortcut, void* y,
                        long rectify, long samples, long height, long width, long half, long threads) {
  auto run = half ? ISA::choose<ISA::bf16> : ISA::choose<float>;
  run(x, row_weights, weights, shortcut, y, rectify != 0, samples, height, width, threads);
}

KERNEL void NAMED(gate_back)(const void* dy, const void* x, const float* row_weights, const float* weights,
                             const void* y, void* dx, float* d_rows, float* d_columns, void* d_shortcut, long samples,
                             long height, long width, long half, long threads) {
  auto run = half ? ISA::choose_back<ISA::bf16> : ISA::choose_back<float>;
  run(dy, x, row_weights, weights, y, dx, d_rows, d_columns, d_shortcut, samples, height, width, threads);
}

// of_rows: whether each row had a maximum and a mean, with weights of the columns; or each column, with weights of rows
KERNEL void NAMED(extremes_back)(const float* d_most, const float* d_mean, const int32_t* where, const void* x,
                                 const float* weights, void* dx, float* d_weights, long of_rows, long samples,
                                 long height, long width, long half, long threads) {
  using namespace ISA;
  if (half) {
    auto run = of_rows ? rows_back<bf16> : columns_back<bf16>;
    run(d_most, d_mean, where, static_cast<const bf16*>(x), weights, static_cast<bf16*>(dx), d_weights, samples,
        height, width, threads);
  } else {
    auto run = of_rows ? rows_back<float> : columns_back<float>;
    run(d_most, d_mean, where, static_cast<const float*>(x), weights, static_cast<float*>(dx), d_weights, samples,
        height, width, threads);
  }
}
