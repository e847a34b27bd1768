// Batch normalization and ReLU of images (N, H, W, C), with `step` floats from pixel to pixel.

#include "vectors.h"

typedef struct {
    long images, pixels, channels, step;
    long relu, training;
} Normalization;

// Of each channel, in rows of `step` floats.
typedef struct {
    float *mean, *factor, *shift;    // y = factor * (x - mean) + shift
    float *mean_gradient, *slope;    // what the mean and the variance take from the gradient of x
} Constants;

static Constants rows_of(const Normalization *s, float *constants) {
    return (Constants){constants, constants + s->step, constants + 2 * s->step,
                       constants + 3 * s->step, constants + 4 * s->step};
}

// The lanes of x where y is positive or NaN, and 0 elsewhere.
INLINE Vector where_positive(Vector y, Vector x) {
    return (Vector)((Mask)x & ~(Mask)(y <= (Vector){0}));
}

// The gradient of ReLU's input, from that of its output; y has the bits that it had forward.
INLINE Vector through_relu(const Normalization *s, Vector gradient, Vector centred, Vector factor,
                           Vector shift) {
    return s->relu ? where_positive(multiply_add(centred, factor, shift), gradient) : gradient;
}

// For images [first, last) and each channel: the sum, and the sum of the squared differences from
// the mean of the image. sums: (images, 2, step).
void image_statistics(long first, long last, const Normalization *s, const float *x, float *sums) {
    IEEE_754;
    for (long image = first; image < last; image++)
        for (long c = 0; c < s->channels; c += LANES) {
            const float *const from = x + image * s->pixels * s->step + c;
            Vector sum = {0}, squares = {0};
            for (long i = 0; i < s->pixels; i++) sum += load(from + i * s->step);
            const Vector mean = sum / broadcast((float)s->pixels);
            for (long i = 0; i < s->pixels; i++) {
                const Vector centred = load(from + i * s->step) - mean;
                squares = multiply_add(centred, centred, squares);
            }
            store(sums + 2 * image * s->step + c, sum);
            store(sums + (2 * image + 1) * s->step + c, squares);
        }
}

// The sum of (images, 2, step) over the images, of one channel; half is 0 or 1.
static double sum_of(const Normalization *s, const float *sums, long half, long channel) {
    double sum = 0;
    for (long image = 0; image < s->images; image++)
        sum += sums[(2 * image + half) * s->step + channel];
    return sum;
}

// The constants of `normalize`, and 1 / standard deviation, inverse: (channels). In training from
// the statistics of the images (Chan et al. 1983, https://doi.org/10.1080/00031305.1983.10483115),
// by which the running mean and variance are updated; else from these.
void normalization_constants(const Normalization *s, const float *sums, const float *scale,
                             const float *shift, float *running_mean, float *running_variance,
                             float momentum, double epsilon, float *constants, double *inverse) {
    IEEE_754;
    const Constants out = rows_of(s, constants);
    const double pixels = (double)s->pixels, n = pixels * s->images;
    for (long c = 0; c < s->channels; c++) {
        double mean = running_mean[c], variance = running_variance[c];
        if (s->training) {
            double squares = 0;
            mean = sum_of(s, sums, 0, c) / n;
            for (long image = 0; image < s->images; image++) {
                const float sum = sums[2 * image * s->step + c];
                const double centre = sum / (float)s->pixels;  // as in image_statistics
                const double difference = centre - mean;
                squares += sums[(2 * image + 1) * s->step + c];
                squares += 2 * difference * (sum - pixels * centre);
                squares += pixels * difference * difference;
            }
            variance = squares / n;
            const float unbiased = (float)(squares / (n > 1 ? n - 1 : 1));
            running_mean[c] = running_mean[c] * (1 - momentum) + (float)mean * momentum;
            running_variance[c] = running_variance[c] * (1 - momentum) + unbiased * momentum;
        }
        inverse[c] = 1 / __builtin_sqrt(variance + epsilon);
        out.mean[c] = (float)mean;
        out.factor[c] = (float)(scale[c] * inverse[c]);
        out.shift[c] = shift[c];
    }
}

// Normalize images [first, last).
void normalize(long first, long last, const Normalization *s, const float *x, float *constants,
               float *out) {
    IEEE_754;
    const Constants of = rows_of(s, constants);
    for (long image = first; image < last; image++)
        for (long c = 0; c < s->step; c += LANES) {
            const Vector mean = load(of.mean + c), factor = load(of.factor + c);
            const Vector shift = load(of.shift + c);
            for (long i = image * s->pixels; i < (image + 1) * s->pixels; i++) {
                const Vector y = multiply_add(load(x + i * s->step + c) - mean, factor, shift);
                store(out + i * s->step + c, c >= s->channels ? (Vector){0}
                                             : s->relu        ? where_positive(y, y)
                                                              : y);
            }
        }
}

// For images [first, last) and each channel: the sums of the gradient through ReLU, and of that
// times the centred x. sums: (images, 2, step).
void gradient_sums(long first, long last, const Normalization *s, const float *x,
                   const float *gradient, float *constants, float *sums) {
    IEEE_754;
    const Constants of = rows_of(s, constants);
    for (long image = first; image < last; image++)
        for (long c = 0; c < s->channels; c += LANES) {
            const Vector mean = load(of.mean + c), factor = load(of.factor + c);
            const Vector shift = load(of.shift + c);
            Vector sum = {0}, products = {0};
            for (long i = image * s->pixels; i < (image + 1) * s->pixels; i++) {
                const Vector centred = load(x + i * s->step + c) - mean;
                const Vector before = load(gradient + i * s->step + c);
                const Vector error = through_relu(s, before, centred, factor, shift);
                sum += error;
                products = multiply_add(error, centred, products);
            }
            store(sums + 2 * image * s->step + c, sum);
            store(sums + (2 * image + 1) * s->step + c, products);
        }
}

// The gradients of scale and shift, and the constants of `normalize_gradient`. Without `inverse`
// only that of shift: the sum.
void gradient_constants(const Normalization *s, const float *sums, const double *inverse,
                        float *of_scale, float *of_shift, float *constants) {
    IEEE_754;
    const double n = (double)s->pixels * s->images;
    for (long c = 0; c < s->channels; c++) {
        const double sum = sum_of(s, sums, 0, c);
        of_shift[c] = (float)sum;
        if (!inverse) continue;
        const Constants out = rows_of(s, constants);
        const double product = sum_of(s, sums, 1, c) * inverse[c];
        of_scale[c] = (float)product;
        out.mean_gradient[c] = s->training ? (float)(sum / n) : 0;
        out.slope[c] = s->training ? (float)(product * inverse[c] / n) : 0;
    }
}

// The gradient of images [first, last).
void normalize_gradient(long first, long last, const Normalization *s, const float *x,
                        const float *gradient, float *constants, float *out) {
    IEEE_754;
    const Constants of = rows_of(s, constants);
    for (long image = first; image < last; image++)
        for (long c = 0; c < s->step; c += LANES) {
            const Vector mean = load(of.mean + c), factor = load(of.factor + c);
            const Vector shift = load(of.shift + c), slope = load(of.slope + c);
            const Vector mean_gradient = load(of.mean_gradient + c);
            for (long i = image * s->pixels; i < (image + 1) * s->pixels; i++) {
                const Vector centred = load(x + i * s->step + c) - mean;
                const Vector before = load(gradient + i * s->step + c);
                Vector error = through_relu(s, before, centred, factor, shift);
                error = (error - mean_gradient - centred * slope) * factor;
                store(out + i * s->step + c, c < s->channels ? error : (Vector){0});
            }
        }
}
