// Sixteen numbers at a time: GCC's and Clang's own vectors, which become whatever registers the machine has.
// Every source is compiled once for each instruction set, in a namespace of its own, so that the linker never lets
// code for one machine run on another; for the same reason nothing of the standard library's templates is used.
#pragma once
#include <cstdint>
#include <cstring>

#define KERNEL extern "C" __attribute__((visibility("default")))
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAMED(name) JOIN(name, ISA)  // what Python calls: the kernel's name, then the instruction set's

namespace ISA {

constexpr long W = 16;
typedef float vec __attribute__((vector_size(64)));
typedef int32_t ivec __attribute__((vector_size(64)));
typedef uint32_t uvec __attribute__((vector_size(64)));
typedef uint16_t hvec __attribute__((vector_size(32)));

struct bf16 {
  uint16_t bits;
};

inline vec all(float v) { return v - vec{}; }
inline ivec all_int(int32_t v) { return v - ivec{}; }

inline float get(const float* p) { return *p; }
inline float get(const bf16* p) {
  uint32_t bits = static_cast<uint32_t>(p->bits) << 16;
  float v;
  memcpy(&v, &bits, 4);
  return v;
}
inline vec load(const float* p) {
  vec v;
  memcpy(&v, p, sizeof v);
  return v;
}
inline vec load(const bf16* p) {
  hvec half;
  memcpy(&half, p, sizeof half);
  uvec bits = __builtin_convertvector(half, uvec) << 16;
  vec v;
  memcpy(&v, &bits, sizeof v);
  return v;
}

inline void put(float* p, float v) { *p = v; }
inline void put(bf16* p, float v) {
  uint32_t bits;
  memcpy(&bits, &v, 4);
  // to the nearest, to the even one of two equally near; not a number stays one
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  p->bits = static_cast<uint16_t>(v != v ? (bits >> 16) | 0x40 : rounded);
}
inline void store(float* p, vec v) { memcpy(p, &v, sizeof v); }
inline void store(bf16* p, vec v) {
  uvec bits;
  memcpy(&bits, &v, sizeof v);
  uvec rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  uvec chosen = v != v ? ((bits >> 16) | 0x40) : rounded;
  hvec half = __builtin_convertvector(chosen, hvec);
  memcpy(p, &half, sizeof half);
}

// halves folded onto one another until one number is left: few steps that wait for each other
#define FOLDED(v, join)                                                                                   \
  v = join(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15)); \
  v = join(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7));             \
  v = join(v, __builtin_shufflevector(v, v, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3));             \
  v = join(v, __builtin_shufflevector(v, v, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1));

inline vec larger(vec a, vec b) { return a < b ? b : a; }  // of numbers; one that is not may be passed over
inline vec plus(vec a, vec b) { return a + b; }
inline ivec either(ivec a, ivec b) { return a | b; }
inline float sum(vec v) {
  FOLDED(v, plus)
  return v[0];
}
inline float largest(vec v) {
  FOLDED(v, larger)
  return v[0];
}
inline bool any(ivec v) {
  FOLDED(v, either)
  return v[0] != 0;
}
inline vec rectified(vec v) { return v <= 0 ? vec{} : v; }  // as PyTorch has it: what is not a number stays
inline float rectified(float v) { return v <= 0 ? 0 : v; }

// the last, or the first, n of sixteen numbers; zero in place of the others
inline ivec counted(long from) {
  static const int32_t mask[3 * W] = {0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
                                      -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                      0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0};
  ivec v;
  memcpy(&v, mask + from, sizeof v);
  return v;
}
inline vec last(vec v, long n) { return counted(n) ? v : vec{}; }
inline vec first(vec v, long n) { return counted(2 * W - n) ? v : vec{}; }

// sixteen numbers from memory, or the n that there are and zeros after them; and back
template <class T>
inline vec some(const T* x, long n) {
  if (n >= W) return load(x);
  T there[W] = {};
  memcpy(there, x, sizeof(T) * n);
  return load(there);
}
template <class T>
inline void put_some(T* y, vec v, long n) {
  if (n >= W) return store(y, v);
  T there[W];
  store(there, v);
  memcpy(y, there, sizeof(T) * n);
}

// e^x to about one unit in the last place: 2^n times a polynomial on [-ln2/2, ln2/2]
inline vec exponential(vec x) {
  x = x < -87.3f ? all(-87.3f) : x;
  x = x > 88.3f ? all(88.3f) : x;
  vec shifted = x * 1.44269504f + 12582912.f;  // 1.5·2^23: the sum's low bits are the nearest integer
  vec n = shifted - 12582912.f;
  vec r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  vec p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  ivec exponent = (__builtin_convertvector(x == x ? n : vec{}, ivec) + 127) << 23;
  vec scale;
  memcpy(&scale, &exponent, sizeof scale);
  return p * scale;
}
inline vec sigmoid(vec x) { return 1.f / (1.f + exponential(-x)); }
inline float sigmoid(float x) { return sigmoid(all(x))[0]; }

// a loop over tasks, on threads: chunks of equal size, so that a result depends on the number of threads only
template <class Task>
inline void in_parallel(long tasks, long threads, const Task& task) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && tasks > 1)
  for (long t = 0; t < tasks; t++) task(t);
}

}  // namespace ISA
