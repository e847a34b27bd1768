"use strict";

// The canvas to draw on: its drawing is brought to the form of the data set and classified.

// ink (side * side) -> size * size numbers from 0 to 255, or null without ink; as center_ink in
// tools/preprocessing.py.
function toStrokes(ink, side, size, inkBox) {
  let [top, left, bottom, right] = [side, side, -1, -1];
  ink.forEach((value, i) => {
    if (value === 0) return;
    const [row, column] = [Math.floor(i / side), i % side];
    [top, left] = [Math.min(top, row), Math.min(left, column)];
    [bottom, right] = [Math.max(bottom, row), Math.max(right, column)];
  });
  if (bottom < 0) return null;
  const [boxHeight, boxWidth] = [bottom - top + 1, right - left + 1];
  const scale = inkBox / Math.max(boxHeight, boxWidth);
  const [height, width] = [boxHeight, boxWidth].map((length) => Math.max(1, Math.round(length * scale)));
  const small = Float64Array.from({ length: height * width }, (_, i) => {
    const [y, x] = [Math.floor(i / width), i % width];
    let [sum, count] = [0, 0];
    for (let row = Math.floor(y / scale); row < Math.min((y + 1) / scale, boxHeight); row++) {
      for (let column = Math.floor(x / scale); column < Math.min((x + 1) / scale, boxWidth); column++) {
        sum += ink[(top + row) * side + left + column];
        count++;
      }
    }
    return sum / Math.max(count, 1);
  });
  const largest = Math.max(...small);
  let [mass, momentY, momentX] = [0, 0, 0];
  small.forEach((value, i) => {
    mass += value;
    momentY += value * Math.floor(i / width);
    momentX += value * (i % width);
  });
  const offset = (moment, length) =>
    Math.min(Math.max(Math.round(size / 2 - moment / mass), 0), size - length);
  const [offsetY, offsetX] = [offset(momentY, height), offset(momentX, width)];
  const image = new Array(size * size).fill(0);
  small.forEach((value, i) => {
    const pixel = (offsetY + Math.floor(i / width)) * size + offsetX + (i % width);
    image[pixel] = Math.round((255 * value) / largest);
  });
  return image;
}

// Show the model's input, its probabilities and the predicted class.
function classify(canvas) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const ink = Array.from({ length: data.length / 4 }, (_, i) => data[4 * i + 3]); // the opacity
  const { size, classes } = model;
  const image = toStrokes(ink, canvas.width, size, model.ink_box);
  const probabilities = image && softmax(logits(image));
  document.getElementById("hint").hidden = image !== null;
  const predicted = probabilities && probabilities.indexOf(Math.max(...probabilities));
  document.getElementById("prediction").textContent = image
    ? `${classes[predicted]}, ${Math.round(100 * probabilities[predicted])} %`
    : "";
  document.querySelectorAll("#probabilities tr").forEach((row, label) => {
    row.className = label === predicted ? "predicted" : "";
    row.querySelector("span").style.width = image ? `${100 * probabilities[label]}%` : 0;
    row.lastElementChild.textContent = image ? `${(100 * probabilities[label]).toFixed(1)} %` : "–";
  });
  const context = document.getElementById("model-input").getContext("2d");
  const pixels = context.createImageData(size, size);
  (image ?? new Array(size * size).fill(0)).forEach((value, i) => pixels.data.set([value, value, value, 255], 4 * i));
  context.putImageData(pixels, 0, 0);
}

// pixels (RGBA, width * height) -> ink from 0 to 1: what differs from the colour of the border, as
// measure_ink in tools/preprocessing.py, which also leaves out specks.
function measureInk(pixels, width, height) {
  const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
  const border = [];
  for (let i = 0; i < width * height; i++) {
    const [row, column] = [Math.floor(i / width), i % width];
    if (row % (height - 1) === 0 || column % (width - 1) === 0) border.push(i);
  }
  const background = [0, 1, 2].map((channel) => median(border.map((i) => pixels[4 * i + channel])));
  const difference = (i) => Math.max(...background.map((level, channel) => Math.abs(pixels[4 * i + channel] - level)));
  const deviations = border.map(difference);
  const middle = median([...deviations]);
  const threshold = middle + 6 * median(deviations.map((value) => Math.abs(value - middle)));
  const ink = Array.from({ length: width * height }, (_, i) => Math.max(difference(i) - threshold, 0));
  const most = ink.reduce((a, b) => Math.max(a, b), 30); // what differs less is no ink
  return ink.map((value) => (value > 0.1 * most ? value / most : 0));
}

// Put the drawing in a file onto the canvas, and classify it.
async function openPicture(file, canvas) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (bitmap) {
    const scale = canvas.width / Math.max(bitmap.width, bitmap.height);
    const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(2, Math.round(scale * side)));
    const sheet = new OffscreenCanvas(width, height).getContext("2d");
    sheet.fillStyle = "white";
    sheet.fillRect(0, 0, width, height);
    sheet.drawImage(bitmap, 0, 0, width, height);
    const image = sheet.getImageData(0, 0, width, height);
    measureInk(image.data, width, height).forEach((ink, i) => image.data.set([...INK, Math.round(255 * ink)], 4 * i));
    context.putImageData(image, Math.floor((canvas.width - width) / 2), Math.floor((canvas.height - height) / 2));
  }
  classify(canvas);
  const said = document.getElementById("prediction");
  said.textContent ||= bitmap ? "nothing is drawn in this file" : "this file is no picture";
}

const INK = [127, 141, 163]; // a grey that is visible on a light and on a dark page; only the opacity matters
const canvas = document.getElementById("canvas");
const problem = findProblem();
if (problem) {
  const sentence = document.createElement("p");
  sentence.textContent = problem;
  document.getElementById("drawing").replaceWith(sentence);
} else {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let last = null; // the end of the stroke that is being drawn
  const position = (event) => [event.offsetX, event.offsetY];
  const draw = (event) => {
    if (!last || !event.isPrimary) return;
    Object.assign(context, { lineWidth: 22, lineCap: "round", lineJoin: "round", strokeStyle: `rgb(${INK})` });
    context.beginPath();
    context.moveTo(...last);
    last = position(event);
    context.lineTo(...last);
    context.stroke();
    classify(canvas);
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    last = position(event);
    draw(event);
  });
  canvas.addEventListener("pointermove", draw);
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = null));
  document.getElementById("clear").addEventListener("click", () => {
    context.clearRect(0, 0, canvas.width, canvas.height);
    document.getElementById("file").value = "";
    classify(canvas);
  });
  document.getElementById("file").addEventListener("change", ({ target }) => {
    if (target.files.length) openPicture(target.files[0], canvas);
  });
  classify(canvas);
}
