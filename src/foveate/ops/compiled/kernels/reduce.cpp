// Sums, largest values and where the first largest is, of rows or of columns, weighted on the fly.
//
// A map of a sample is a matrix: channels × positions where rows of pixels follow one another in memory, positions ×
// channels where channels of a pixel do. Pooling over positions and statistics over channels are then the same two
// loops, along a row and across the rows.
#include "vectors.h"

namespace ISA {

constexpr float LOWEST = -__builtin_inff();

struct Found {
  float sum, largest;
  int32_t where;
};

// the first position of the largest value, where one that is not a number is larger than all that are
template <class T>
int32_t first(const T* x, const float* weights, long n, float m) {
  vec wanted = all(m);
  long i = 0;
  if (m == m) {
    for (; i + 4 * W <= n; i += 4 * W) {
      ivec equal{};
      for (long k = 0; k < 4 * W; k += W) equal |= (weights ? load(x + i + k) * load(weights + i + k) : load(x + i + k)) == wanted;
      if (any(equal)) break;
    }
    for (; i + W <= n; i += W) {
      if (any((weights ? load(x + i) * load(weights + i) : load(x + i)) == wanted)) break;
    }
  }
  for (; i < n; i++) {
    float v = get(x + i) * (weights ? weights[i] : 1.f);
    if (m == m ? v == m : v != v) return static_cast<int32_t>(i);
  }
  return 0;
}

template <class T, bool WEIGHTED>
Found along(const T* x, const float* weights, long n, bool index) {
  vec s0{}, s1{}, m0 = all(LOWEST), m1 = m0;
  long i = 0;
  for (; i + 2 * W <= n; i += 2 * W) {
    vec a = load(x + i), b = load(x + i + W);
    if (WEIGHTED) {
      a *= load(weights + i);
      b *= load(weights + i + W);
    }
    s0 += a;
    s1 += b;
    m0 = larger(m0, a);
    m1 = larger(m1, b);
  }
  auto at = [&](long k) { return WEIGHTED ? load(x + k) * load(weights + k) : load(x + k); };
  if (i + W <= n) {
    vec a = at(i);
    s0 += a;
    m0 = larger(m0, a);
    i += W;
  }
  if (i < n && n >= W) {  // the row's last vector, of which some is counted already
    vec a = at(n - W);
    s1 += last(a, n - i);
    m1 = larger(m1, a);
    i = n;
  }
  Found found{sum(s0 + s1), largest(larger(m0, m1)), 0};
  for (; i < n; i++) {
    float v = get(x + i) * (WEIGHTED ? weights[i] : 1.f);
    found.sum += v;
    found.largest = found.largest < v ? v : found.largest;
  }
  if (found.sum != found.sum) {  // perhaps one is not a number: then it is the largest, as PyTorch has it
    for (i = 0; i < n; i++) {
      float v = get(x + i) * (WEIGHTED ? weights[i] : 1.f);
      if (v != v) found.largest = v;
    }
  }
  if (index) found.where = first(x, WEIGHTED ? weights : nullptr, n, found.largest);
  return found;
}

template <class T>
void rows(const T* x, const float* weights, float* sums, float* most, int32_t* where,
          long samples, long height, long width, long threads) {
  long block = 1 + 4096 / (width + 1);  // short rows in company
  long blocks = (height + block - 1) / block;
  in_parallel(samples * blocks, threads, [&](long t) {
    long b = t / blocks, begin = (t % blocks) * block, end = begin + block < height ? begin + block : height;
    for (long r = begin; r < end; r++) {
      long at = b * height + r;
      const T* row = x + at * width;
      Found f = weights ? along<T, true>(row, weights + b * width, width, where != nullptr)
                        : along<T, false>(row, nullptr, width, where != nullptr);
      if (sums) sums[at] = f.sum;
      if (most) most[at] = f.largest;
      if (where) where[at] = f.where;
    }
  });
}

constexpr long BLOCK = 1024;  // columns at a time: sums, largest values and positions of them stay in the first cache

// Sums, largest values and rows of them of n columns, four rows at a time. What is not a number is passed over by the
// maximum, but not by the sum: `exact` then does it again.
template <class T, bool MOST, bool INDEX>
void across(const T* x, const float* weights, long height, long width, long n, float* s, float* m, int32_t* k) {
  for (long i = 0; i < n; i += W) {
    store(s + i, vec{});
    if (MOST) store(m + i, all(LOWEST));
  }
  if (INDEX) memset(k, 0, sizeof(int32_t) * n);
  for (long r = 0; r < height; r += 4) {
    long rows = height - r < 4 ? height - r : 4;
    float scale[4];
    for (long j = 0; j < rows; j++) scale[j] = weights ? weights[r + j] : 1.f;
    long i = 0;
    for (; i + W <= n; i += W) {
      vec total = load(s + i), most{};
      ivec which{};
      if (MOST) most = load(m + i);
      if (INDEX) memcpy(&which, k + i, sizeof which);
      auto one = [&](long j) {
        vec v = load(x + (r + j) * width + i) * scale[j];
        total += v;
        if (INDEX) which = most < v ? all_int(static_cast<int32_t>(r + j)) : which;
        if (MOST) most = larger(most, v);
      };
      if (rows == 4) {
        one(0);
        one(1);
        one(2);
        one(3);
      } else {
        for (long j = 0; j < rows; j++) one(j);
      }
      store(s + i, total);
      if (MOST) store(m + i, most);
      if (INDEX) memcpy(k + i, &which, sizeof which);
    }
    for (; i < n; i++) {
      for (long j = 0; j < rows; j++) {
        float v = get(x + (r + j) * width + i) * scale[j];
        s[i] += v;
        if (MOST && m[i] < v) {
          m[i] = v;
          k[i] = static_cast<int32_t>(r + j);
        }
      }
    }
  }
}

template <class T>
void exact(const T* x, const float* weights, long height, long width, float* most, int32_t* where) {
  for (long r = 0; r < height; r++) {
    float v = get(x + r * width) * (weights ? weights[r] : 1.f);
    if (v != v) {
      *most = v;
      if (where) *where = static_cast<int32_t>(r);
      return;
    }
  }
}

template <class T>
void block_of(const T* x, const float* weights, float* sums, float* most, int32_t* where, long height, long width, long n) {
  float s[BLOCK + W], m[BLOCK + W];
  int32_t k[BLOCK + W];
  auto run = where ? across<T, true, true> : most ? across<T, true, false> : across<T, false, false>;
  run(x, weights, height, width, n, s, m, k);
  for (long i = 0; i < n; i++) {
    if (sums) sums[i] = s[i];
    if (most) most[i] = m[i];
    if (where) where[i] = k[i];
    if (most && s[i] != s[i]) exact(x + i, weights, height, width, most + i, where ? where + i : nullptr);
  }
}

template <class T>
void columns(const T* x, const float* weights, float* sums, float* most, int32_t* where,
             long samples, long height, long width, long threads) {
  long block = BLOCK;
  // few samples: narrower blocks, so that every thread has one
  while (block > 4 * W && samples * ((width + block - 1) / block) < threads) block /= 2;
  long blocks = (width + block - 1) / block;
  in_parallel(samples * blocks, threads, [&](long t) {
    long b = t / blocks, begin = (t % blocks) * block, n = width - begin < block ? width - begin : block;
    const T* from = x + b * height * width + begin;
    const float* factor = weights ? weights + b * height : nullptr;
    long at = b * width + begin;
    block_of(from, factor, sums ? sums + at : nullptr, most ? most + at : nullptr,
             where ? where + at : nullptr, height, width, n);
  });
}

}  // namespace ISA

// along: whether rows are reduced, or columns. The weights, if any, are of the axis that goes.
KERNEL void NAMED(reduce)(const void* x, const float* weights, float* sums, float* most,
                          int32_t* where, long samples, long height, long width, long along, long half, long threads) {
  using namespace ISA;
  auto loop = along ? rows<float> : columns<float>;
  auto half_loop = along ? rows<bf16> : columns<bf16>;
  if (half) {
    half_loop(static_cast<const bf16*>(x), weights, sums, most, where, samples, height, width, threads);
  } else {
    loop(static_cast<const float*>(x), weights, sums, most, where, samples, height, width, threads);
  }
}
