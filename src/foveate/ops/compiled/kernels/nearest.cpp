// Weights of neighbourhoods brought to the map's size as they multiply it, and back; means of neighbourhoods.
#include "vectors.h"

namespace ISA {

// A map of planes, rows of pixels one after another; `rows` × `columns` weights a plane, each for a cell of the map.
struct Cells {
  long height, width, rows, columns, tall, wide;
};

inline void widen(const float* weights, float* row, const Cells& c) {
  for (long j = 0; j < c.columns; j++) {
    for (long k = 0; k < c.wide; k++) row[j * c.wide + k] = weights[j];
  }
}

template <class T>
void planes(const T* x, const float* weights, T* y, long count, const Cells& c, long threads) {
  in_parallel(count, threads, [&](long t) {
    float* wider = new float[c.width];
    for (long i = 0; i < c.rows; i++) {
      widen(weights + (t * c.rows + i) * c.columns, wider, c);
      for (long k = 0; k < c.tall; k++) {
        long at = (t * c.height + i * c.tall + k) * c.width, j = 0;
        for (; j + W <= c.width; j += W) store(y + at + j, load(x + at + j) * load(wider + j));
        for (; j < c.width; j++) put(y + at + j, get(x + at + j) * wider[j]);
      }
    }
    delete[] wider;
  });
}

template <class T>
void planes_back(const T* dy, const T* x, const float* weights, T* dx, float* d_weights, long count, const Cells& c,
                 long threads) {
  in_parallel(count, threads, [&](long t) {
    float *wider = new float[2 * c.width], *totals = wider + c.width;
    for (long i = 0; i < c.rows; i++) {
      long cell = (t * c.rows + i) * c.columns;
      widen(weights + cell, wider, c);
      memset(totals, 0, sizeof(float) * c.width);
      for (long k = 0; k < c.tall; k++) {
        long at = (t * c.height + i * c.tall + k) * c.width, j = 0;
        for (; j + W <= c.width; j += W) {
          vec g = load(dy + at + j);
          store(totals + j, load(totals + j) + g * load(x + at + j));
          store(dx + at + j, g * load(wider + j));
        }
        for (; j < c.width; j++) {
          float g = get(dy + at + j);
          totals[j] += g * get(x + at + j);
          put(dx + at + j, g * wider[j]);
        }
      }
      for (long j = 0; j < c.columns; j++) {
        float total = 0;
        for (long k = 0; k < c.wide; k++) total += totals[j * c.wide + k];
        d_weights[cell + j] = total;
      }
    }
    delete[] wider;
  });
}

// The same of a map whose pixels follow one another, each with its channels side by side; weights alike.
template <class T>
void pixels(const T* x, const float* weights, T* y, long samples, long channels, const Cells& c, long threads) {
  in_parallel(samples * c.height, threads, [&](long t) {
    long b = t / c.height, row = t % c.height;
    const float* cells = weights + (b * c.rows + row / c.tall) * c.columns * channels;
    for (long column = 0; column < c.width; column++) {
      const float* w = cells + column / c.wide * channels;
      long at = (t * c.width + column) * channels, i = 0;
      for (; i + W <= channels; i += W) store(y + at + i, load(x + at + i) * load(w + i));
      for (; i < channels; i++) put(y + at + i, get(x + at + i) * w[i]);
    }
  });
}

template <class T>
void pixels_back(const T* dy, const T* x, const float* weights, T* dx, float* d_weights, long samples, long channels,
                 const Cells& c, long threads) {
  in_parallel(samples * c.rows, threads, [&](long t) {
    long b = t / c.rows, i = t % c.rows, cells = t * c.columns * channels;
    memset(d_weights + cells, 0, sizeof(float) * c.columns * channels);
    for (long k = 0; k < c.tall; k++) {
      for (long column = 0; column < c.width; column++) {
        long cell = cells + column / c.wide * channels, j = 0;
        long at = ((b * c.height + i * c.tall + k) * c.width + column) * channels;
        for (; j + W <= channels; j += W) {
          vec g = load(dy + at + j);
          store(d_weights + cell + j, load(d_weights + cell + j) + g * load(x + at + j));
          store(dx + at + j, g * load(weights + cell + j));
        }
        for (; j < channels; j++) {
          float g = get(dy + at + j);
          d_weights[cell + j] += g * get(x + at + j);
          put(dx + at + j, g * weights[cell + j]);
        }
      }
    }
  });
}

// Means of windows of 2·extent - 1 centred on every extent-th position; what is off the map does not count.
struct Window {
  long begin, end;
};
inline Window window(long centre, long extent, long length) {
  long begin = centre * extent - (extent - 1), end = centre * extent + extent;
  return {begin < 0 ? 0 : begin, end > length ? length : end};
}

template <class T>
void means(const T* x, float* y, long count, const Cells& c, long extent, long threads) {
  in_parallel(count, threads, [&](long t) {
    float* totals = new float[c.width];
    for (long i = 0; i < c.rows; i++) {
      Window tall = window(i, extent, c.height);
      memset(totals, 0, sizeof(float) * c.width);
      for (long row = tall.begin; row < tall.end; row++) {
        const T* from = x + (t * c.height + row) * c.width;
        long j = 0;
        for (; j + W <= c.width; j += W) store(totals + j, load(totals + j) + load(from + j));
        for (; j < c.width; j++) totals[j] += get(from + j);
      }
      for (long j = 0; j < c.columns; j++) {
        Window wide = window(j, extent, c.width);
        float total = 0;
        for (long k = wide.begin; k < wide.end; k++) total += totals[k];
        y[(t * c.rows + i) * c.columns + j] = total / ((tall.end - tall.begin) * (wide.end - wide.begin));
      }
    }
    delete[] totals;
  });
}

template <class T>
void means_back(const float* dy, T* dx, long count, const Cells& c, long extent, long threads) {
  in_parallel(count, threads, [&](long t) {
    float *rows = new float[c.rows * c.width], *total = new float[c.width];
    for (long i = 0; i < c.rows; i++) {
      Window tall = window(i, extent, c.height);
      float* row = rows + i * c.width;
      memset(row, 0, sizeof(float) * c.width);
      for (long j = 0; j < c.columns; j++) {
        Window wide = window(j, extent, c.width);
        float share = dy[(t * c.rows + i) * c.columns + j];
        share /= (tall.end - tall.begin) * (wide.end - wide.begin);
        for (long k = wide.begin; k < wide.end; k++) row[k] += share;
      }
    }
    for (long r = 0; r < c.height; r++) {
      memset(total, 0, sizeof(float) * c.width);
      for (long i = r / extent; i < c.rows; i++) {
        Window tall = window(i, extent, c.height);
        if (tall.begin > r) break;
        if (r >= tall.end) continue;
        for (long j = 0; j < c.width; j++) total[j] += rows[i * c.width + j];
      }
      T* into = dx + (t * c.height + r) * c.width;
      for (long j = 0; j < c.width; j++) put(into + j, total[j]);
    }
    delete[] rows;
    delete[] total;
  });
}

}  // namespace ISA

KERNEL void NAMED(gate_nearest)(const void* x, const float* weights, void* y, long pixels_first, long samples,
                                long channels, long height, long width, long rows, long columns, long half,
                                long threads) {
  using namespace ISA;
  Cells c{height, width, rows, columns, height / rows, width / columns};
  if (half) {
    auto from = static_cast<const bf16*>(x);
    auto to = static_cast<bf16*>(y);
    pixels_first ? pixels(from, weights, to, samples, channels, c, threads)
                 : planes(from, weights, to, samples * channels, c, threads);
  } else {
    auto from = static_cast<const float*>(x);
    auto to = static_cast<float*>(y);
    pixels_first ? pixels(from, weights, to, samples, channels, c, threads)
                 : planes(from, weights, to, samples * channels, c, threads);
  }
}

KERNEL void NAMED(gate_nearest_back)(const void* dy, const void* x, const float* weights, void* dx, float* d_weights,
                                     long pixels_first, long samples, long channels, long height, long width,
                                     long rows, long columns, long half, long threads) {
  using namespace ISA;
  Cells c{height, width, rows, columns, height / rows, width / columns};
  if (half) {
    auto up = static_cast<const bf16*>(dy), from = static_cast<const bf16*>(x);
    auto to = static_cast<bf16*>(dx);
    pixels_first ? pixels_back(up, from, weights, to, d_weights, samples, channels, c, threads)
                 : planes_back(up, from, weights, to, d_weights, samples * channels, c, threads);
  } else {
    auto up = static_cast<const float*>(dy), from = static_cast<const float*>(x);
    auto to = static_cast<float*>(dx);
    pixels_first ? pixels_back(up, from, weights, to, d_weights, samples, channels, c, threads)
                 : planes_back(up, from, weights, to, d_weights, samples * channels, c, threads);
  }
}

KERNEL void NAMED(neighbourhood_means)(const void* x, float* y, long extent, long planes, long height, long width,
                                       long rows, long columns, long half, long threads) {
  using namespace ISA;
  Cells c{height, width, rows, columns, 0, 0};
  half ? means(static_cast<const bf16*>(x), y, planes, c, extent, threads)
       : means(static_cast<const float*>(x), y, planes, c, extent, threads);
}

KERNEL void NAMED(neighbourhood_means_back)(const float* dy, void* dx, long extent, long planes, long height,
                                            long width, long rows, long columns, long half, long threads) {
  using namespace ISA;
  Cells c{height, width, rows, columns, 0, 0};
  half ? means_back(dy, static_cast<bf16*>(dx), planes, c, extent, threads)
       : means_back(dy, static_cast<float*>(dx), planes, c, extent, threads);
}
