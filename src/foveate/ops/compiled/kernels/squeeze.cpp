// A gate for each channel from the means of all channels through two layers, one sample at a time: what a sample's
// means were read from is still in the cache when it is multiplied.
#include "vectors.h"

KERNEL void NAMED(reduce)(const void*, const float*, float*, float*, int32_t*, long, long, long, long, long, long);
KERNEL void NAMED(gate)(const void*, const float*, const float*, const void*, void*, long, long, long, long, long,
                        long);

namespace ISA {

inline float dot(const float* a, const float* b, long n) {
  vec s0{}, s1{};
  long i = 0;
  for (; i + 2 * W <= n; i += 2 * W) {
    s0 += load(a + i) * load(b + i);
    s1 += load(a + i + W) * load(b + i + W);
  }
  for (; i + W <= n; i += W) s0 += load(a + i) * load(b + i);
  float total = sum(s0 + s1);
  for (; i < n; i++) total += a[i] * b[i];
  return total;
}

}  // namespace ISA

// of_rows: whether channels are the rows of a sample, or its columns. blend may be null: the gates as they are.
KERNEL void NAMED(squeeze_gate)(const float* x, const float* w1, const float* b1, const float* w2, const float* b2,
                                const float* blend, float* gates, float* y, long hidden, long of_rows, long samples,
                                long height, long width, long threads) {
  using namespace ISA;
  long channels = of_rows ? height : width, positions = of_rows ? width : height;
  auto sample = [&](long b, long inner) {
    long at = b * height * width;
    float *mean = gates + b * channels, *unit = new float[hidden];
    NAMED(reduce)(x + at, nullptr, mean, nullptr, nullptr, 1, height, width, of_rows, 0, inner);
    for (long c = 0; c < channels; c++) mean[c] /= positions;
    for (long j = 0; j < hidden; j++) {
      float v = dot(w1 + j * channels, mean, channels) + (b1 ? b1[j] : 0);
      unit[j] = v < 0 ? 0 : v;
    }
    for (long c = 0; c < channels; c++) mean[c] = dot(w2 + c * hidden, unit, hidden) + (b2 ? b2[c] : 0);
    long c = 0;
    for (; c + W <= channels; c += W) store(mean + c, sigmoid(load(mean + c)));
    for (; c < channels; c++) mean[c] = sigmoid(mean[c]);
    if (blend) {
      for (c = 0; c < channels; c++) mean[c] = 1 + blend[0] * (mean[c] - 1);
    }
    NAMED(gate)(x + at, of_rows ? mean : nullptr, of_rows ? nullptr : mean, nullptr, y + at, 0, 1, height, width, 0,
                inner);
    delete[] unit;
  };
  if (samples >= threads) {
    in_parallel(samples, threads, [&](long b) { sample(b, 1); });
  } else {
    for (long b = 0; b < samples; b++) sample(b, threads);
  }
}
