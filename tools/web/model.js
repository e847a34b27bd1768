"use strict";

// The arithmetic of the models in stages/learning/models.py, in float64.
// A tensor is { shape, values }, with the values in C order.

const model = JSON.parse(document.getElementById("model").textContent); // a string if there is none

const weights = Object.fromEntries(
  Object.entries(model.weights ?? {}).map(([name, { shape, values }]) => [
    name,
    { shape, values: new Float32Array(Uint8Array.from(atob(values), (c) => c.charCodeAt(0)).buffer) },
  ]),
);

// x (K), weight (N, K), bias (N) -> (N)
function linear(x, weight, bias) {
  const [n, k] = weight.shape;
  return Float64Array.from({ length: n }, (_, row) => {
    let sum = bias.values[row];
    for (let i = 0; i < k; i++) sum += weight.values[row * k + i] * x[i];
    return sum;
  });
}

function relu(x) {
  return x.map((value) => Math.max(value, 0));
}

// x (C, side, side), weight (N, C, 3, 3) -> (N, side - 2, side - 2)
function conv2d(x, side, weight) {
  const [n, channels] = weight.shape;
  const size = side - 2;
  const y = new Float64Array(n * size * size);
  for (let out = 0; out < n; out++) {
    for (let c = 0; c < channels; c++) {
      for (let tap = 0; tap < 9; tap++) {
        const w = weight.values[(out * channels + c) * 9 + tap];
        const start = c * side * side + Math.floor(tap / 3) * side + (tap % 3);
        for (let row = 0; row < size; row++) {
          for (let column = 0; column < size; column++) {
            y[(out * size + row) * size + column] += w * x[start + row * side + column];
          }
        }
      }
    }
  }
  return y;
}

// The maximum of each 2 x 2 pixels: x (C, side, side) -> (C, side / 2, side / 2)
function maxPool2d(x, side) {
  const half = side / 2;
  return Float64Array.from({ length: x.length / 4 }, (_, i) => {
    const corner = 2 * (Math.floor(i / half) * side + (i % half));
    return Math.max(x[corner], x[corner + 1], x[corner + side], x[corner + side + 1]);
  });
}

// Batch normalisation of x (C, ...) by the running mean and variance (C).
function batchNorm(x, { mean, variance, scale, shift }) {
  const size = x.length / mean.values.length;
  return x.map((value, i) => {
    const c = Math.floor(i / size);
    const factor = scale.values[c] / Math.sqrt(variance.values[c] + 1e-5);
    return (value - mean.values[c]) * factor + shift.values[c];
  });
}

// The ten logits of an image of 784 numbers from 0 to 255.
function logits(image) {
  let x = Float64Array.from(image, (value) => value / 255);
  if (model.name === "mlp") x = relu(linear(x, weights.hidden_weight, weights.hidden_bias));
  if (model.name === "cnn") {
    let side = 28;
    for (let layer = 0; layer < 5; layer++) {
      const tensor = (name) => weights[`convolutions.${layer}.${name}`];
      x = conv2d(x, side, tensor("weight"));
      side -= 2;
      if (layer === 1 || layer === 3) {
        x = maxPool2d(x, side);
        side /= 2;
      }
      const statistics = { mean: tensor("mean"), variance: tensor("var") };
      x = relu(batchNorm(x, { ...statistics, scale: tensor("scale"), shift: tensor("shift") }));
    }
  }
  return Array.from(linear(x, weights.weight, weights.bias));
}

function softmax(values) {
  const largest = Math.max(...values);
  const exponentials = values.map((value) => Math.exp(value - largest));
  const sum = exponentials.reduce((a, b) => a + b);
  return exponentials.map((value) => value / sum);
}
