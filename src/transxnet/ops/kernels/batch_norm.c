/* Batch normalization in training on CPUs, optionally of GELU(x): statistics, output and gradients.
 *
 * The reference is transxnet.ops.batch_norm.batch_norm_reference.
 *
 * x is (N, C), contiguous: pixels times channels, as with channels last. Rows are divided into chunks of a fixed size,
 * whose sums are added in order, so that results do not depend on the number of threads. GELU is computed from x each
 * time, which costs less than reading it from memory.
 */

#include <math.h>

#include "vectors.h"

#define SAMPLES 16 /* rows whose mean shifts the values, so that their squares can be summed accurately */

INLINE vec select_vec(ivec mask, vec yes, vec no) { return (vec)((mask & (ivec)yes) | (~mask & (ivec)no)); }

/* exp(x) for x <= 0, by range reduction to 2^n exp(r), |r| <= ln(2) / 2, and the series to r^6. */
INLINE vec exp_negative(vec x) {
    const vec magic = (vec){} + 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, in the lowest bits */
    x = select_vec(x < -87.0f, (vec){} - 87.0f, x);
    vec shifted = x * 1.44269504f + magic, n = shifted - magic;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = r * (1.0f / 720) + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return (vec)((ivec)p + ((ivec)shifted << 23));
}

/* The normal distribution function of x, and its density times x in *slope: GELU'(x) is their sum.
 *
 * By formula 7.1.26 of Abramowitz and Stegun for erf, with an absolute error below 1e-7.
 */
INLINE vec normal_cdf(vec x, vec *slope) {
    vec size = (vec)((ivec)x & 0x7fffffff), power = exp_negative(x * x * -0.5f);
    vec t = 1.0f / (1.0f + size * (0.3275911f * 0.70710678f));
    vec p = t * 1.061405429f - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    vec tail = p * t * power * 0.5f;
    *slope = x * power * 0.39894228f;
    return select_vec(x > 0.0f, 1.0f - tail, tail);
}

INLINE vec activate(vec x, int gelu) {
    vec slope;
    return gelu ? x * normal_cdf(x, &slope) : x;
}

/* Few enough for accurate sums in float. */
static int64_t rows_of_chunk(int64_t C) { return C >= 4096 ? 16 : C <= 128 ? 512 : 65536 / C; }

static int64_t padded(int64_t C) { return rounded(C, LANES); }

/* Call `body` with the two flags as constants, for which the compiler makes separate code. */
#define SPECIALIZE(body)                                                                                               \
    if (gelu && bf16) { enum { GELU = 1, BF16 = 1 }; body; }                                                           \
    else if (gelu) { enum { GELU = 1, BF16 = 0 }; body; }                                                              \
    else if (bf16) { enum { GELU = 0, BF16 = 1 }; body; }                                                              \
    else { enum { GELU = 0, BF16 = 0 }; body; }

/* Sums of the values minus `shift` and of their squares, of rows [from, to). */
INLINE void sum_rows(int64_t from, int64_t to, int64_t C, const void *x, const float *shift, float *sums,
                     float *squares, int gelu, int bf16) {
    for (int64_t row = from; row < to; row++)
        for (int64_t c = 0; c < C; c += LANES) {
            int lanes = C - c < LANES ? (int)(C - c) : LANES;
            vec value = activate(load_values(x, row * C + c, lanes, bf16), gelu) - load(shift + c);
            store(sums + c, load(sums + c) + value);
            store(squares + c, load(squares + c) + value * value);
        }
}

/* Mean and biased variance of each channel. */
void transxnet_batch_norm_statistics(int64_t N, int64_t C, const void *x, float *mean, float *variance, int threads,
                                     int gelu, int bf16) {
    int64_t size = rows_of_chunk(C), chunks = (N + size - 1) / size, width = padded(C);
    float *shift = allocate(width), *parts = allocate(chunks * 2 * width);
    int64_t samples = N < SAMPLES ? N : SAMPLES;
    memset(shift, 0, width * sizeof(float));
    for (int64_t i = 0; i < samples; i++)
        for (int64_t c = 0; c < C; c += LANES) {
            int lanes = C - c < LANES ? (int)(C - c) : LANES;
            store(shift + c, load(shift + c) + activate(load_values(x, i * (N / samples) * C + c, lanes, bf16), gelu) / (float)samples);
        }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        float *sums = parts + chunk * 2 * width, *squares = sums + width;
        int64_t from = chunk * size, to = from + size < N ? from + size : N;
        memset(sums, 0, 2 * width * sizeof(float));
        SPECIALIZE(sum_rows(from, to, C, x, shift, sums, squares, GELU, BF16));
    }
    for (int64_t c = 0; c < C; c++) {
        double sum = 0, square = 0;
        for (int64_t chunk = 0; chunk < chunks; chunk++) {
            sum += parts[chunk * 2 * width + c];
            square += parts[(chunk * 2 + 1) * width + c];
        }
        double offset = sum / N, spread = square / N - offset * offset;
        mean[c] = (float)(shift[c] + offset);
        variance[c] = spread < 0 ? 0 : (float)spread;
    }
    free(shift);
    free(parts);
}

INLINE void normalize_rows(int64_t from, int64_t to, int64_t C, const void *x, const float *scale, const float *offset,
                           void *out, int gelu, int bf16) {
    for (int64_t row = from; row < to; row++)
        for (int64_t c = 0; c < C; c += LANES) {
            int lanes = C - c < LANES ? (int)(C - c) : LANES;
            vec value = activate(load_values(x, row * C + c, lanes, bf16), gelu);
            store_values(out, row * C + c, value * load(scale + c) + load(offset + c), lanes, bf16);
        }
}

/* out = (value - mean) / sqrt(variance + eps) * weight + bias, where value is x or GELU(x). */
void transxnet_batch_norm_normalize(int64_t N, int64_t C, const void *x, const float *mean, const float *variance,
                                    const float *weight, const float *bias, double eps, void *out, int threads,
                                    int gelu, int bf16) {
    int64_t size = rows_of_chunk(C), chunks = (N + size - 1) / size, width = padded(C);
    float *scale = allocate(2 * width), *offset = scale + width;
    memset(scale, 0, 2 * width * sizeof(float));
    for (int64_t c = 0; c < C; c++) {
        double factor = weight[c] / sqrt(variance[c] + eps);
        scale[c] = (float)factor;
        offset[c] = (float)(bias[c] - mean[c] * factor);
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        int64_t from = chunk * size, to = from + size < N ? from + size : N;
        SPECIALIZE(normalize_rows(from, to, C, x, scale, offset, out, GELU, BF16));
    }
    free(scale);
}

/* Sums of the gradient, and of the gradient times the centered value. */
INLINE void sum_gradients(int64_t from, int64_t to, int64_t C, const void *g, const void *x, const float *mean,
                          float *sums, float *products, int gelu, int bf16) {
    for (int64_t row = from; row < to; row++)
        for (int64_t c = 0; c < C; c += LANES) {
            int lanes = C - c < LANES ? (int)(C - c) : LANES;
            vec gradient = load_values(g, row * C + c, lanes, bf16);
            vec value = activate(load_values(x, row * C + c, lanes, bf16), gelu) - load(mean + c);
            store(sums + c, load(sums + c) + gradient);
            store(products + c, load(products + c) + gradient * value);
        }
}

/* dx = [GELU'(x)] scale (g - average - centered value * slope) */
INLINE void gradient_rows(int64_t from, int64_t to, int64_t C, const void *g, const void *x, const float *mean,
                          const float *scale, const float *average, const float *slope, void *dx, int gelu, int bf16) {
    for (int64_t row = from; row < to; row++)
        for (int64_t c = 0; c < C; c += LANES) {
            int lanes = C - c < LANES ? (int)(C - c) : LANES;
            vec value = load_values(x, row * C + c, lanes, bf16), factor = load(scale + c);
            if (gelu) {
                vec density, cdf = normal_cdf(value, &density);
                factor *= cdf + density;
                value *= cdf;
            }
            value -= load(mean + c);
            vec gradient = load_values(g, row * C + c, lanes, bf16) - load(average + c);
            store_values(dx, row * C + c, factor * (gradient - value * load(slope + c)), lanes, bf16);
        }
}

/* Gradients of x, weight and bias, from the gradient g of the output. */
void transxnet_batch_norm_backward(int64_t N, int64_t C, const void *g, const void *x, const float *mean,
                                   const float *variance, const float *weight, double eps, void *dx, float *dweight,
                                   float *dbias, int threads, int gelu, int bf16) {
    int64_t size = rows_of_chunk(C), chunks = (N + size - 1) / size, width = padded(C);
    float *center = allocate(4 * width), *scale = center + width, *average = scale + width, *slope = average + width;
    float *parts = allocate(chunks * 2 * width);
    memset(center, 0, 4 * width * sizeof(float));
    memcpy(center, mean, C * sizeof(float));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        float *sums = parts + chunk * 2 * width, *products = sums + width;
        int64_t from = chunk * size, to = from + size < N ? from + size : N;
        memset(sums, 0, 2 * width * sizeof(float));
        SPECIALIZE(sum_gradients(from, to, C, g, x, center, sums, products, GELU, BF16));
    }
    for (int64_t c = 0; c < C; c++) {
        double sum = 0, product = 0, inverse = 1 / sqrt(variance[c] + eps);
        for (int64_t chunk = 0; chunk < chunks; chunk++) {
            sum += parts[chunk * 2 * width + c];
            product += parts[(chunk * 2 + 1) * width + c];
        }
        dbias[c] = (float)sum;
        dweight[c] = (float)(product * inverse);
        scale[c] = (float)(weight[c] * inverse);
        average[c] = (float)(sum / N);
        slope[c] = (float)(product * inverse * inverse / N);
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        int64_t from = chunk * size, to = from + size < N ? from + size : N;
        SPECIALIZE(gradient_rows(from, to, C, g, x, center, scale, average, slope, dx, GELU, BF16));
    }
    free(center);
    free(parts);
}
