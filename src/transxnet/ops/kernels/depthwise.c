/* Depthwise convolution of several kernel sizes on CPUs: forward pass and gradients.
 *
 * The reference is transxnet.ops.multiscale_conv.multiscale_depthwise_conv2d_reference.
 *
 * LANES channels are computed together. A unit of work is one block of LANES channels of one group in an image: its
 * map is copied into a contiguous, zero-padded float plane, so that the loops over pixels have no edges and the values
 * may have any strides and be float32 or bfloat16. All sums are float32.
 */

#include "vectors.h"

#define TILE 8 /* pixels of a row that are summed in registers */

/* A map (B, C, H, W) with strides in elements. */
typedef struct {
    void *data;
    int64_t sb, sc, sh, sw;
} Map;

INLINE float load_one(const void *data, int64_t i, int bf16) { return load_values(data, i, 1, bf16)[0]; }

INLINE void store_one(void *data, int64_t i, float value, int bf16) {
    store_values(data, i, (vec){value}, 1, bf16);
}

/* A unit of work: `lanes` channels from `own` in group g, whose channels start at `first` and whose kernels are K x K. */
typedef struct {
    int g, K, lanes;
    int64_t first, own;
} Unit;

static inline int64_t count_blocks(int64_t channels) { return (channels + LANES - 1) / LANES; }

/* Number of units of an image. */
static int64_t count_units(int groups, const int64_t *channels) {
    int64_t total = 0;
    for (int g = 0; g < groups; g++)
        total += count_blocks(channels[g]);
    return total;
}

static int64_t largest_size(int groups, const int64_t *sizes) {
    int64_t largest = 1;
    for (int g = 0; g < groups; g++)
        largest = sizes[g] > largest ? sizes[g] : largest;
    return largest;
}

static Unit find_unit(int64_t index, const int64_t *channels, const int64_t *sizes) {
    Unit unit = {0};
    for (; index >= count_blocks(channels[unit.g]); unit.g++) {
        index -= count_blocks(channels[unit.g]);
        unit.first += channels[unit.g];
    }
    unit.own = index * LANES;
    unit.K = sizes[unit.g];
    unit.lanes = channels[unit.g] - unit.own < LANES ? (int)(channels[unit.g] - unit.own) : LANES;
    return unit;
}

/* Copy `lanes` channels from `channel` of image b into plane (H + 2 pad, width, LANES), which is zero elsewhere. */
static void copy_in(const Map *map, int bf16, int64_t b, int64_t channel, int lanes, int64_t H, int64_t W, int64_t pad,
                    int64_t width, float *plane) {
    memset(plane, 0, (H + 2 * pad) * width * LANES * sizeof(float));
    int64_t start = b * map->sb + channel * map->sc;
    for (int64_t h = 0; h < H; h++) {
        float *row = plane + ((h + pad) * width + pad) * LANES;
        if (map->sc == 1) {
            for (int64_t w = 0; w < W; w++)
                store(row + w * LANES, load_values(map->data, start + h * map->sh + w * map->sw, lanes, bf16));
        } else {
            for (int c = 0; c < lanes; c++)
                for (int64_t w = 0; w < W; w++)
                    row[w * LANES + c] = load_one(map->data, start + c * map->sc + h * map->sh + w * map->sw, bf16);
        }
    }
}

/* Write a row of W pixels. */
static void copy_out(const Map *map, int bf16, int64_t b, int64_t channel, int lanes, int64_t h, int64_t W,
                     const float *row) {
    int64_t start = b * map->sb + channel * map->sc + h * map->sh;
    if (map->sc == 1) {
        for (int64_t w = 0; w < W; w++)
            store_values(map->data, start + w * map->sw, load(row + w * LANES), lanes, bf16);
    } else {
        for (int c = 0; c < lanes; c++)
            for (int64_t w = 0; w < W; w++)
                store_one(map->data, start + c * map->sc + w * map->sw, row[w * LANES + c], bf16);
    }
}

/* One row of W outputs: K rows of the padded plane times the kernel (K, K, LANES). */
INLINE void convolve_row(const float *plane, int64_t width, int64_t h, int64_t W, int K, int stride,
                         const float *kernel, vec bias, float identity, float *row) {
    int64_t pad = K / 2;
    for (int64_t w = 0; w < W; w += TILE) {
        const float *corner = plane + (h * width + w) * stride * LANES;
        vec sum[TILE];
        for (int t = 0; t < TILE; t++)
            sum[t] = bias + identity * load(corner + (pad * width + t * stride + pad) * LANES);
        for (int i = 0; i < K; i++)
            for (int j = 0; j < K; j++) {
                vec weight = load(kernel + (i * K + j) * LANES);
                const float *from = corner + (i * width + j) * LANES;
                for (int t = 0; t < TILE; t++)
                    sum[t] += weight * load(from + t * stride * LANES);
            }
        for (int t = 0; t < TILE; t++)
            store(row + (w + t) * LANES, sum[t]);
    }
}

/* The gradient of the kernel (K, K, LANES) of one block: the padded input times the gradient (H, W) of the output. */
INLINE void kernel_gradient(const float *plane, const float *gradient, int64_t width, int64_t H, int64_t W, int K,
                            int stride, float *result) {
    for (int i = 0; i < K; i++) {
        vec sum[K];
        for (int j = 0; j < K; j++)
            sum[j] = (vec){0};
        for (int64_t h = 0; h < H; h++) {
            const float *from = plane + (h * stride + i) * width * LANES, *g = gradient + h * W * LANES;
            for (int64_t w = 0; w < W; w++) {
                vec value = load(g + w * LANES);
                for (int j = 0; j < K; j++)
                    sum[j] += value * load(from + (w * stride + j) * LANES);
            }
        }
        for (int j = 0; j < K; j++)
            store(result + (i * K + j) * LANES, sum[j]);
    }
}

/* Add the gradient of the padded input of one block, from the gradient (H, W) of the output. */
static void input_gradient(const float *gradient, const float *kernel, int64_t width, int64_t H, int64_t W, int K,
                           int stride, float *plane) {
    for (int64_t h = 0; h < H; h++)
        for (int64_t w = 0; w < W; w++) {
            vec value = load(gradient + (h * W + w) * LANES);
            float *corner = plane + (h * width + w) * stride * LANES;
            for (int i = 0; i < K; i++)
                for (int j = 0; j < K; j++)
                    store(corner + (i * width + j) * LANES, load(corner + (i * width + j) * LANES) + value * load(kernel + (i * K + j) * LANES));
        }
}

#define FOR_EACH_SIZE(call)                                                                                            \
    switch (K) {                                                                                                       \
    case 1: { enum { k = 1 }; call; break; }                                                                           \
    case 3: { enum { k = 3 }; call; break; }                                                                           \
    case 5: { enum { k = 5 }; call; break; }                                                                           \
    case 7: { enum { k = 7 }; call; break; }                                                                           \
    case 9: { enum { k = 9 }; call; break; }                                                                           \
    default: { int k = K; call; break; }                                                                               \
    }

static inline int64_t strided(int64_t size, int stride) { return (size + stride - 1) / stride; }

/* Rows of a plane are wide enough for a whole number of tiles of outputs. */
static inline int64_t plane_width(int64_t W, int K, int stride) {
    return rounded(strided(W, stride), TILE) * stride + K;
}

/* Collect LANES kernels (K, K, LANES) from weights (C, K, K), rotated by 180 degrees if `flip`. */
static void gather_kernel(const float *weights, int K, int lanes, int flip, float *kernel) {
    memset(kernel, 0, K * K * LANES * sizeof(float));
    for (int c = 0; c < lanes; c++)
        for (int i = 0; i < K * K; i++)
            kernel[i * LANES + c] = weights[c * K * K + (flip ? K * K - 1 - i : i)];
}

/* out = [x +] convolution [+ bias]. x is (B, C, H, W), out (B, C, ceil(H / stride), ceil(W / stride)).
 *
 * weights and biases: for each group (G, C_i, K_i, K_i) and (G, C_i); biases may be NULL. G is B if per_sample, else 1.
 * flip: rotate the kernels, which gives the gradient of x from the gradient of the output at stride 1.
 */
void transxnet_depthwise(int64_t B, int64_t H, int64_t W, int groups, const int64_t *channels, const int64_t *sizes,
                         Map *x, Map *out, const float **weights, const float **biases, int threads,
                         int per_sample, int stride, int flip, int identity, int bf16) {
    int64_t total = count_units(groups, channels), largest = largest_size(groups, sizes);
    int64_t padded = (H + largest) * plane_width(W, largest, stride) * LANES;
    int64_t rows = strided(H, stride), columns = strided(W, stride);
#pragma omp parallel num_threads(threads)
    {
        float *plane = allocate(padded);
        float *row = allocate(rounded(columns, TILE) * LANES);
        float *kernel = allocate(largest * largest * LANES);
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (int64_t b = 0; b < B; b++)
            for (int64_t index = 0; index < total; index++) {
                Unit unit = find_unit(index, channels, sizes);
                int g = unit.g, K = unit.K, lanes = unit.lanes;
                int64_t channel = unit.first + unit.own, width = plane_width(W, K, stride);
                int64_t at = (per_sample ? b * channels[g] : 0) + unit.own;
                copy_in(x, bf16, b, channel, lanes, H, W, K / 2, width, plane);
                gather_kernel(weights[g] + at * K * K, K, lanes, flip, kernel);
                float start[LANES] = {0};
                if (biases)
                    memcpy(start, biases[g] + at, lanes * sizeof(float));
                for (int64_t h = 0; h < rows; h++) {
                    if (stride == 1) {
                        FOR_EACH_SIZE(convolve_row(plane, width, h, W, k, 1, kernel, load(start), identity, row));
                    } else
                        convolve_row(plane, width, h, columns, K, stride, kernel, load(start), identity, row);
                    copy_out(out, bf16, b, channel, lanes, h, columns, row);
                }
            }
        free(plane);
        free(row);
        free(kernel);
    }
}

/* The gradient dx (B, C, H, W) of x, from the gradient of the output, for shared kernels without identity.
 *
 * At stride 1 transxnet_depthwise with flip is faster.
 */
void transxnet_depthwise_input_gradient(int64_t B, int64_t H, int64_t W, int groups, const int64_t *channels,
                                        const int64_t *sizes, Map *dx, Map *gradient, const float **weights,
                                        const float **biases, int threads, int per_sample, int stride, int bf16) {
    int64_t total = count_units(groups, channels), largest = largest_size(groups, sizes);
    int64_t rows = strided(H, stride), columns = strided(W, stride);
    int64_t padded = (H + largest + stride) * plane_width(W, largest, stride) * LANES;
    (void)biases;
#pragma omp parallel num_threads(threads)
    {
        float *plane = allocate(padded);
        float *other = allocate(rows * columns * LANES);
        float *kernel = allocate(largest * largest * LANES);
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (int64_t b = 0; b < B; b++)
            for (int64_t index = 0; index < total; index++) {
                Unit unit = find_unit(index, channels, sizes);
                int g = unit.g, K = unit.K, lanes = unit.lanes, pad = K / 2;
                int64_t channel = unit.first + unit.own, width = plane_width(W, K, stride);
                int64_t at = (per_sample ? b * channels[g] : 0) + unit.own;
                copy_in(gradient, bf16, b, channel, lanes, rows, columns, 0, columns, other);
                gather_kernel(weights[g] + at * K * K, K, lanes, 0, kernel);
                memset(plane, 0, padded * sizeof(float));
                input_gradient(other, kernel, width, rows, columns, K, stride, plane);
                for (int64_t h = 0; h < H; h++)
                    copy_out(dx, bf16, b, channel, lanes, h, W, plane + ((h + pad) * width + pad) * LANES);
            }
        free(plane);
        free(other);
        free(kernel);
    }
}

/* Gradients of the kernels and biases: for each group (G, C_i, K_i, K_i) and (G, C_i), G = B if per_sample, else 1.
 *
 * Each image's part is computed separately and they are added in order, so the result does not depend on the threads.
 */
void transxnet_depthwise_weight_gradient(int64_t B, int64_t H, int64_t W, int groups, const int64_t *channels,
                                         const int64_t *sizes, Map *x, Map *gradient, float **weights, float **biases,
                                         int threads, int per_sample, int stride, int bf16) {
    int64_t total = count_units(groups, channels), largest = largest_size(groups, sizes);
    int64_t rows = strided(H, stride), columns = strided(W, stride);
    int64_t padded = (H + largest) * plane_width(W, largest, stride) * LANES, each = (largest * largest + 1) * LANES;
    float *parts = allocate(B * total * each);
#pragma omp parallel num_threads(threads)
    {
        float *plane = allocate(padded);
        float *other = allocate(rows * columns * LANES);
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (int64_t b = 0; b < B; b++)
            for (int64_t index = 0; index < total; index++) {
                Unit unit = find_unit(index, channels, sizes);
                int K = unit.K, lanes = unit.lanes;
                int64_t channel = unit.first + unit.own, width = plane_width(W, K, stride);
                copy_in(x, bf16, b, channel, lanes, H, W, K / 2, width, plane);
                copy_in(gradient, bf16, b, channel, lanes, rows, columns, 0, columns, other);
                float *part = parts + (b * total + index) * each;
                if (stride == 1) {
                    FOR_EACH_SIZE(kernel_gradient(plane, other, width, H, W, k, 1, part));
                } else
                    kernel_gradient(plane, other, width, rows, columns, K, stride, part);
                vec sum = (vec){0};
                for (int64_t i = 0; i < rows * columns; i++)
                    sum += load(other + i * LANES);
                store(part + K * K * LANES, sum);
            }
        free(plane);
        free(other);
#pragma omp for schedule(static)
        for (int64_t index = 0; index < total; index++) {
            Unit unit = find_unit(index, channels, sizes);
            int g = unit.g, K = unit.K, lanes = unit.lanes;
            for (int64_t b = 0; b < B; b++) {
                const float *part = parts + (b * total + index) * each;
                int64_t at = (per_sample ? b * channels[g] : 0) + unit.own;
                int add = !per_sample && b > 0;
                for (int c = 0; c < lanes; c++) {
                    for (int i = 0; i < K * K; i++) {
                        float *to = weights[g] + (at + c) * K * K + i;
                        *to = (add ? *to : 0) + part[i * LANES + c];
                    }
                    biases[g][at + c] = (add ? biases[g][at + c] : 0) + part[K * K * LANES + c];
                }
            }
        }
    }
    free(parts);
}
