#include "products.h"

// Apply X to the sizes of a tile. The functions are compiled for each, with all sums in registers.
#define UP_TO_12(X, V) X(V, 1) X(V, 2) X(V, 3) X(V, 4) X(V, 5) X(V, 6) \
                       X(V, 7) X(V, 8) X(V, 9) X(V, 10) X(V, 11) X(V, 12)
#define UP_TO_6(X, V) X(V, 1) X(V, 2) X(V, 3) X(V, 4) X(V, 5) X(V, 6)
#define LIST(V, N, name) name##_##V##_##N,

INLINE void products_tile(const int V, const int N, const float *in, long in_step, Window window,
                          const float *weights, long weights_step, float *out, long out_step) {
    Vector sum[N][V];
    UNROLL for (int i = 0; i < N; i++) UNROLL for (int v = 0; v < V; v++) sum[i][v] = (Vector){0};
    for (long y = 0; y < window.rows; y++)
        for (long x = 0; x < window.columns; x++) {
            const float *pixel = in + y * window.row_step + x * window.pixel_step;
            for (long c = 0; c < window.channels; c++, weights += weights_step) {
                Vector row[V];
                UNROLL for (int v = 0; v < V; v++) row[v] = load(weights + v * LANES);
                UNROLL for (int i = 0; i < N; i++) {
                    const Vector factor = broadcast(pixel[i * in_step + c]);
                    UNROLL for (int v = 0; v < V; v++)
                        sum[i][v] = multiply_add(factor, row[v], sum[i][v]);
                }
            }
        }
    UNROLL for (int i = 0; i < N; i++)
        UNROLL for (int v = 0; v < V; v++) store(out + i * out_step + v * LANES, sum[i][v]);
}

typedef void ProductsTile(const float *, long, Window, const float *, long, float *, long);
#define PRODUCTS(V, N)                                                                         \
    static __attribute__((noinline)) void products_##V##_##N(                                  \
        const float *in, long in_step, Window window, const float *weights, long weights_step, \
        float *out, long out_step) {                                                           \
        products_tile(V, N, in, in_step, window, weights, weights_step, out, out_step);        \
    }
UP_TO_12(PRODUCTS, 1)
UP_TO_12(PRODUCTS, 2)
UP_TO_6(PRODUCTS, 4)
#define NAMED(V, N) products_##V##_##N,
static ProductsTile *const products_1[] = {UP_TO_12(NAMED, 1)};
static ProductsTile *const products_2[] = {UP_TO_12(NAMED, 2)};
static ProductsTile *const products_4[] = {UP_TO_6(NAMED, 4)};
#undef NAMED

void products(const float *in, long in_step, Window window, const float *weights,
              long weights_step, long count, long vectors, float *out, long out_step) {
    for (long v = 0; v < vectors;) {
        ProductsTile *const *tiles = products_1;
        long width = 1, most = smaller(12, REGISTERS);
        if (vectors - v >= 4 && count <= REGISTERS / 6) {
            tiles = products_4, width = 4, most = REGISTERS / 6;
        } else if (vectors - v >= 2) {
            tiles = products_2, width = 2, most = REGISTERS / 2;
        }
        const long parts = (count + most - 1) / most;
        for (long part = 0; part < parts; part++) {
            const long first = count * part / parts, n = count * (part + 1) / parts - first;
            tiles[n - 1](in + first * in_step, in_step, window, weights + v * LANES, weights_step,
                         out + first * out_step + v * LANES, out_step);
        }
        v += width;
    }
}

INLINE void outer_tile(const int V, const int N, Pixels a, Pixels b, long rows, long width,
                       float *sums, long sums_step) {
    Vector sum[N][V];
    UNROLL for (int i = 0; i < N; i++) UNROLL for (int v = 0; v < V; v++) sum[i][v] = (Vector){0};
    for (long y = 0; y < rows; y++) {
        const float *factors = a.start + y * a.row_step, *row = b.start + y * b.row_step;
        for (long x = 0; x < width; x++, factors += a.pixel_step, row += b.pixel_step) {
            Vector values[V];
            UNROLL for (int v = 0; v < V; v++) values[v] = load(row + v * LANES);
            UNROLL for (int i = 0; i < N; i++) {
                const Vector factor = broadcast(factors[i]);
                UNROLL for (int v = 0; v < V; v++)
                    sum[i][v] = multiply_add(factor, values[v], sum[i][v]);
            }
        }
    }
    UNROLL for (int i = 0; i < N; i++) UNROLL for (int v = 0; v < V; v++) {
        float *const at = sums + i * sums_step + v * LANES;
        store(at, load(at) + sum[i][v]);
    }
}

typedef void OuterTile(Pixels, Pixels, long, long, float *, long);
#define OUTER(V, N)                                                                          \
    static __attribute__((noinline)) void outer_##V##_##N(Pixels a, Pixels b, long rows,     \
                                                          long width, float *sums,           \
                                                          long sums_step) {                  \
        outer_tile(V, N, a, b, rows, width, sums, sums_step);                                \
    }
UP_TO_12(OUTER, 1)
UP_TO_12(OUTER, 2)
#define NAMED(V, N) outer_##V##_##N,
static OuterTile *const outer_1[] = {UP_TO_12(NAMED, 1)};
static OuterTile *const outer_2[] = {UP_TO_12(NAMED, 2)};
#undef NAMED

void outer_products(Pixels a, Pixels b, long rows, long width, long count, long vectors,
                    float *sums, long sums_step) {
    for (long v = 0; v < vectors; v += 2) {
        const int two = vectors - v >= 2;
        const long most = two ? REGISTERS / 2 : smaller(12, REGISTERS);
        const long parts = (count + most - 1) / most;
        for (long part = 0; part < parts; part++) {
            const long first = count * part / parts, n = count * (part + 1) / parts - first;
            Pixels factors = a, values = b;
            factors.start += first;
            values.start += v * LANES;
            (two ? outer_2 : outer_1)[n - 1](factors, values, rows, width,
                                             sums + first * sums_step + v * LANES, sums_step);
        }
    }
}

INLINE void add_tile(const int ROWS, const int V, long terms, const float *factors,
                     const int32_t *offsets, const float *in, long in_step, float *out,
                     long out_step) {
    Vector sum[ROWS][V];
    UNROLL for (int y = 0; y < ROWS; y++)
        UNROLL for (int v = 0; v < V; v++) sum[y][v] = load(out + y * out_step + v * LANES);
    for (long i = 0; i < terms; i++) {
        const Vector factor = broadcast(factors[i]);
        const float *const at = in + offsets[i];
        UNROLL for (int y = 0; y < ROWS; y++) UNROLL for (int v = 0; v < V; v++)
            sum[y][v] = multiply_add(factor, load(at + y * in_step + v * LANES), sum[y][v]);
    }
    UNROLL for (int y = 0; y < ROWS; y++)
        UNROLL for (int v = 0; v < V; v++) store(out + y * out_step + v * LANES, sum[y][v]);
}

typedef void AddTile(long, const float *, const int32_t *, const float *, long, float *, long);
#define ADD(ROWS, V)                                                                         \
    static __attribute__((noinline)) void add_##ROWS##_##V(                                  \
        long terms, const float *factors, const int32_t *offsets, const float *in,           \
        long in_step, float *out, long out_step) {                                           \
        add_tile(ROWS, V, terms, factors, offsets, in, in_step, out, out_step);              \
    }
UP_TO_12(ADD, 1)
UP_TO_6(ADD, 3)
#define NAMED(ROWS, V) add_##ROWS##_##V,
static AddTile *const add_1[] = {UP_TO_12(NAMED, 1)};
static AddTile *const add_3[] = {UP_TO_6(NAMED, 3)};
#undef NAMED

void add_scaled(long terms, const float *factors, const int32_t *offsets, const float *in,
                Runs runs, float *out) {
    for (long y = 0; y < runs.rows;) {
        const int three = runs.rows - y >= 3 && REGISTERS >= 18;
        const long most = three ? 6 : 12, parts = (runs.vectors + most - 1) / most;
        for (long part = 0; part < parts; part++) {
            const long first = runs.vectors * part / parts;
            const long n = runs.vectors * (part + 1) / parts - first;
            const long in_at = y * runs.in_step + first * LANES;
            (three ? add_3 : add_1)[n - 1](terms, factors, offsets, in + in_at, runs.in_step,
                                           out + y * runs.out_step + first * LANES,
                                           runs.out_step);
        }
        y += three ? 3 : 1;
    }
}
