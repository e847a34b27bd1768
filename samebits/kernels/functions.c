// Exponentials, logarithms, losses and optimizers, element by element.

#include "vectors.h"

static double square_root(double x) { return __builtin_sqrt(x); }

// e^x for x <= 0 as (e^(x / 1024))^1024: Taylor's polynomial of degree 6, then ten squarings.
// Relative error below 1e-9; e^-64 for all x below -64.
INLINE double exponential(double x) {
    const double r = (x < -64 ? -64 : x) / 1024, inverse[] = {1. / 24, 1. / 6, 1. / 2, 1, 1};
    double result = r * (1. / 720) + 1. / 120;
    for (int i = 0; i < 5; i++) result = result * r + inverse[i];
    for (int i = 0; i < 10; i++) result *= result;
    return result;
}

// log x for 1 <= x <= 1e12, absolute error below 1e-11. x is divided by 10 until it is at most 10.
// With r = x^(1/4) and c = 10^(1/8): log x = 4 log r = log(10) / 2 + 8 artanh z, where
// z = (r - c) / (r + c), so that |z| < 0.143.
INLINE double logarithm(double x) {
    const double log_10 = 2.302585092994046, c = 1.333521432163324;
    double tens = 0;
    for (; x > 10 && tens < 12; tens++) x /= 10;
    const double r = square_root(square_root(x)), z = (r - c) / (r + c), square = z * z;
    double series = square * (1. / 11) + 1. / 9;
    for (int n = 7; n > 0; n -= 2) series = series * square + 1. / n;
    return 8 * (z * series) + log_10 / 2 + tens * log_10;
}

void exp_all(long n, const double *x, double *out) {
    IEEE_754;
    for (long i = 0; i < n; i++) out[i] = exponential(x[i]);
}

void log_all(long n, const double *x, double *out) {
    IEEE_754;
    for (long i = 0; i < n; i++) out[i] = logarithm(x[i]);
}

// For each of n examples: the probabilities (classes) and the cross-entropy with its label, which
// gives `smoothing` in equal parts to all classes.
void softmax_cross_entropies(long n, long classes, const float *logits, const int64_t *labels,
                             double smoothing, double *probabilities, double *losses) {
    IEEE_754;
    for (long i = 0; i < n; i++, logits += classes, probabilities += classes) {
        float largest = logits[0];
        for (long k = 1; k < classes; k++) largest = logits[k] <= largest ? largest : logits[k];
        double sum = 0, spread = 0;
        for (long k = 0; k < classes; k++)
            probabilities[k] = exponential((double)logits[k] - largest);
        for (long k = 0; k < classes; k++) sum += probabilities[k];
        for (long k = 0; k < classes; k++) probabilities[k] /= sum;
        double target = (double)logits[labels[i]] - largest;
        if (smoothing != 0) {
            for (long k = 0; k < classes; k++) spread += (double)logits[k] - largest;
            target = target * (1 - smoothing) + spread * (smoothing / classes);
        }
        const double loss = logarithm(sum) - target;
        losses[i] = loss < 0 ? 0 : loss;  // the logarithm of a sum of 1 comes out as -1e-16
    }
}

// Whether each of n labels is a class, from 0 to classes - 1.
int are_labels(long n, long classes, const int64_t *labels) {
    for (long i = 0; i < n; i++)
        if (labels[i] < 0 || labels[i] >= classes) return 0;
    return 1;
}

// The mean losses of `replicas` times n examples, and the gradients (n, classes) of each mean.
// values: (n, classes): probabilities, with the losses of the examples, or logits if these are null,
// for the mean squared error. weights: of the examples, or null.
void mean_losses(long replicas, long n, long classes, const double *values,
                 const int64_t *labels, double smoothing, const double *weights,
                 const double *losses, double *means, float *gradient) {
    IEEE_754;
    const double terms = losses ? n : (double)n * classes;
    for (long replica = 0; replica < replicas; replica++) {
        double sum = 0;
        for (long i = replica * n; i < (replica + 1) * n; i++) {
            const double weight = weights ? weights[i] : 1;
            const double scale = (losses ? weight : 2 * weight) / terms;
            for (long k = 0; k < classes; k++) {
                const double target = (k == labels[i] ? 1 - smoothing : 0) + smoothing / classes;
                const double error = values[i * classes + k] - target;
                if (!losses) sum += weight * error * error;
                gradient[i * classes + k] = (float)(error * scale);
            }
            if (losses) sum += weight * losses[i];
        }
        means[replica] = sum / terms;
    }
}

// A step of gradient descent with momentum (velocity null without), as torch.optim.SGD.
void sgd(long n, float *restrict weights, const float *restrict gradient, float *restrict velocity,
         float lr, float momentum, long nesterov, float weight_decay) {
    IEEE_754;
    if (!velocity)
        for (long i = 0; i < n; i++) {
            const float step = gradient[i] + weights[i] * weight_decay;
            weights[i] = weights[i] - step * lr;
        }
    else
        for (long i = 0; i < n; i++) {
            const float step = gradient[i] + weights[i] * weight_decay;
            const float moved = velocity[i] * momentum + step;
            velocity[i] = moved;
            weights[i] = weights[i] - (nesterov ? step + moved * momentum : moved) * lr;
        }
}

typedef struct {
    float beta1, rest1, beta2, rest2, epsilon;  // rest: 1 - beta
    float weight_decay, kept;                   // decoupled: 1 - lr * weight_decay
    float root, lr;                             // corrected for the bias of the moments
} AdamStep;

// A step of Adam, or of AdamW by `kept`, as torch.optim.Adam and AdamW.
void adam(long n, float *restrict weights, const float *restrict gradient, float *restrict first,
          float *restrict second, const AdamStep *s) {
    IEEE_754;
    for (long i = 0; i < n; i++) {
        const float kept = weights[i] * s->kept, step = gradient[i] + weights[i] * s->weight_decay;
        first[i] = first[i] * s->beta1 + step * s->rest1;
        second[i] = second[i] * s->beta2 + step * step * s->rest2;
        const float root = (float)__builtin_sqrtf(second[i]) / s->root + s->epsilon;
        weights[i] = kept - first[i] / root * s->lr;
    }
}

// out = in / 255, for bytes.
void scale_bytes(long n, const uint8_t *in, float *out) {
    IEEE_754;
    for (long i = 0; i < n; i++) out[i] = (float)in[i] / 255.f;
}
