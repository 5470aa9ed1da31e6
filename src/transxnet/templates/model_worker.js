// The model of this page. It runs in a worker, so that the page stays responsive.
//
// Images are prepared as by `transxnet predict`: for classifiers and segmenters with Pillow's antialiased resampling of
// 8-bit images, for detectors by bilinear interpolation. The outputs are those of model.onnx in ONNX Runtime.

const SHOWN_SIDE = 1280; // px; longest side of masks and label maps
const WEIGHT_BITS = 22; // fractional bits of Pillow's weights of 8-bit images
const MAX_ASPECT = 16; // the middle of longer images is classified
const MEAN_COLOR = [124 / 255, 116 / 255, 104 / 255]; // padding of segmenters, ImageNet's mean

let settings, ort, session;

// ---- Preparing images. An image is {width, height, data}; data is RGBA, 8 bits.

const KERNELS = {
  bilinear: {reach: 1, at: x => Math.max(0, 1 - Math.abs(x))},
  bicubic: {
    reach: 2,
    at: signed => {
      const x = Math.abs(signed);
      return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
    },
  },
};

function readPixels(bitmap) {
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", {willReadFrequently: true});
  context.fillStyle = "white"; // below transparent pixels
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, context.canvas.width, context.canvas.height);
}

// Pillow's weights for the positions first, first + 1, ... of an axis of `own` pixels that is resized to `fitted`.
// Positions outside get no pixels, which makes them black.
function antialiasedWeights(own, fitted, first, count, kernel) {
  const scale = own / fitted, stretch = Math.max(scale, 1);
  return Array.from({length: count}, (_, i) => {
    if (first + i < 0 || first + i >= fitted) return {low: 0, weights: new Int32Array(0)};
    const center = (first + i + 0.5) * scale, reach = kernel.reach * stretch;
    const low = Math.max(Math.trunc(center - reach + 0.5), 0);
    const high = Math.min(Math.trunc(center + reach + 0.5), own);
    const values = Array.from({length: high - low}, (_, j) => kernel.at((low + j + 0.5 - center) / stretch));
    const unit = 2 ** WEIGHT_BITS / values.reduce((a, b) => a + b);
    return {low, weights: Int32Array.from(values, value => Math.sign(value) * Math.floor(Math.abs(value * unit) + 0.5))};
  });
}

// Resize a part of an image to `fitted`, and return the crop of the result: RGB, rounded after each axis as in Pillow.
function resample(image, part, fitted, crop, kernel) {
  const columns = antialiasedWeights(part.width, fitted.width, crop.left, crop.width, kernel);
  const rows = antialiasedWeights(part.height, fitted.height, crop.top, crop.height, kernel);
  const top = Math.min(...rows.map(({low}) => low));
  const bottom = Math.max(...rows.map(({low, weights}) => low + weights.length));
  const half = 1 << (WEIGHT_BITS - 1), stride = 3 * crop.width;
  const narrow = new Uint8ClampedArray((bottom - top) * stride), result = new Uint8ClampedArray(crop.height * stride);
  for (let y = top, to = 0; y < bottom; y++) {
    const row = 4 * ((part.top + y) * image.width + part.left);
    for (const {low, weights} of columns) {
      let red = half, green = half, blue = half;
      for (let i = 0, from = row + 4 * low; i < weights.length; i++, from += 4) {
        const weight = weights[i];
        red += weight * image.data[from];
        green += weight * image.data[from + 1];
        blue += weight * image.data[from + 2];
      }
      narrow[to++] = red >> WEIGHT_BITS;
      narrow[to++] = green >> WEIGHT_BITS;
      narrow[to++] = blue >> WEIGHT_BITS;
    }
  }
  for (let y = 0, to = 0; y < crop.height; y++) {
    const {low, weights} = rows[y];
    for (let x = 0; x < stride; x++) {
      let sum = half;
      for (let i = 0, from = (low - top) * stride + x; i < weights.length; i++, from += stride) sum += weights[i] * narrow[from];
      result[to++] = sum >> WEIGHT_BITS;
    }
  }
  return result;
}

// For each of `count` positions on an axis of `own` pixels: the two pixels around it, and the share of the second.
function bilinearPlaces(own, count) {
  return Array.from({length: count}, (_, i) => {
    const place = Math.max((i + 0.5) * own / count - 0.5, 0), first = Math.floor(place);
    return [first, Math.min(first + 1, own - 1), place - first];
  });
}

// The channels of RGB values one after another in float32, each value changed by `convert`.
function toPlanes(rgb, width, height, full, fill, convert) {
  const area = full.width * full.height, planes = new Float32Array(3 * area);
  for (let channel = 0; channel < 3; channel++) {
    planes.fill(fill[channel], channel * area, (channel + 1) * area);
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++)
        planes[channel * area + y * full.width + x] = convert(rgb[3 * (y * width + x) + channel], channel);
  }
  return planes;
}

function roundHalfToEven(x) {
  const low = Math.floor(x), rest = x - low;
  return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
}

function classifierInput(image) {
  const {img_size: side, crop_pct: share, interpolation} = settings.resize;
  const most = MAX_ASPECT * Math.min(image.width, image.height);
  const left = Math.max(0, image.width - most) >> 1, top = Math.max(0, image.height - most) >> 1;
  const part = {left, top, width: image.width - 2 * left, height: image.height - 2 * top};
  const shorter = Math.floor(side / share), least = Math.min(part.width, part.height);
  const fitted = {width: Math.floor(shorter * part.width / least), height: Math.floor(shorter * part.height / least)};
  const first = length => roundHalfToEven((length - side) / 2);
  const crop = {left: first(fitted.width), top: first(fitted.height), width: side, height: side};
  const rgb = resample(image, part, fitted, crop, KERNELS[interpolation]);
  const normalize = (value, channel) => (value / 255 - settings.mean[channel]) / settings.std[channel];
  return {planes: toPlanes(rgb, side, side, crop, [0, 0, 0], normalize), full: crop, fitted: crop};
}

// The size of an image that keeps its aspect ratio, and of the input in which it is padded at the right and the bottom.
function fitSides(image, shorter, longer) {
  const [height, width] = ["height", "width"].map((axis, i) => (settings.dynamic.includes(axis) ? Infinity : settings.size[i]));
  const limits = {width, height}, sides = [image.width, image.height];
  const scale = Math.min(
    shorter / Math.min(...sides), longer / Math.max(...sides), width / image.width, height / image.height);
  const fit = axis => Math.min(limits[axis], Math.max(1, Math.floor(image[axis] * scale + 0.5)));
  const fitted = {width: fit("width"), height: fit("height")};
  const pad = axis => (limits[axis] === Infinity ? roundUp(fitted[axis]) : limits[axis]);
  return {fitted, full: {width: pad("width"), height: pad("height")}};
}

const roundUp = side => Math.ceil(side / settings.resize.multiple) * settings.resize.multiple;

function detectorInput(image) {
  const {min_size: shorter, max_size: longer, fill} = settings.resize;
  const {fitted, full} = fitSides(image, shorter, longer);
  const columns = bilinearPlaces(image.width, fitted.width), rgb = new Float32Array(3 * fitted.width * fitted.height);
  let to = 0;
  for (const [above, below, down] of bilinearPlaces(image.height, fitted.height))
    for (const [left, right, across] of columns)
      for (let channel = 0; channel < 3; channel++) {
        const at = (y, x) => image.data[4 * (y * image.width + x) + channel];
        const upper = at(above, left) * (1 - across) + at(above, right) * across;
        const lower = at(below, left) * (1 - across) + at(below, right) * across;
        rgb[to++] = upper * (1 - down) + lower * down;
      }
  return {planes: toPlanes(rgb, fitted.width, fitted.height, full, fill, value => value / 255), full, fitted};
}

function segmenterInput(image) {
  const shorter = Math.min(...settings.resize.scale), longer = Math.max(...settings.resize.scale);
  let {fitted, full} = fitSides(image, shorter, longer);
  if (["height", "width"].every(axis => settings.dynamic.includes(axis))) fitted = full; // stretched, not padded
  const part = {left: 0, top: 0, width: image.width, height: image.height};
  const rgb = resample(image, part, fitted, {left: 0, top: 0, ...fitted}, KERNELS.bilinear);
  return {planes: toPlanes(rgb, fitted.width, fitted.height, full, MEAN_COLOR, value => value / 255), full, fitted};
}

// ---- Reading outputs.

function readClasses({logits}) {
  const values = Array.from(logits.data), {kind, mean, std} = settings.targets;
  if (kind === "regression") return {value: values[0] * std + mean};
  if (kind === "multilabel") return {probabilities: values.map(x => 1 / (1 + Math.exp(-x)))};
  const largest = Math.max(...values), powers = values.map(x => Math.exp(x - largest));
  const sum = powers.reduce((a, b) => a + b);
  return {probabilities: powers.map(x => x / sum)};
}

// The size at which masks and label maps are shown.
function shownSize({width, height}) {
  const scale = Math.min(1, SHOWN_SIDE / Math.max(width, height));
  return {width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale))};
}

function readDetections({boxes, labels, scores, masks}, image, {fitted}) {
  const shown = shownSize(image), detections = [];
  for (let i = 0; i < scores.data.length; i++) {
    const score = scores.data[i];
    const box = Array.from(boxes.data.subarray(4 * i, 4 * i + 4), (value, j) => {
      const axis = j % 2 ? "height" : "width";
      return Math.min(Math.max(value * image[axis] / fitted[axis], 0), image[axis]);
    });
    if (!(score > settings.score_threshold && box[2] > box[0] && box[3] > box[1])) continue;
    const found = {label: Number(labels.data[i]) - 1, score, box};
    if (masks) found.mask = pasteMask(masks, i, box.map((x, j) => x * (j % 2 ? shown.height / image.height : shown.width / image.width)), shown);
    detections.push(found);
  }
  return {detections, shown};
}

// A mask that spans its box, as pixels of the shown image: 1 where its interpolated value is at least 0.5.
function pasteMask({data, dims}, index, [x1, y1, x2, y2], shown) {
  const side = dims[3], start = index * side * side;
  const left = Math.floor(x1), top = Math.floor(y1);
  const width = Math.min(Math.floor(x2) + 1, shown.width) - left, height = Math.min(Math.floor(y2) + 1, shown.height) - top;
  const at = (y, x) => (x < 0 || y < 0 || x >= side || y >= side ? 0 : data[start + y * side + x]);
  const inside = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const row = (top + y + 0.5 - y1) / (y2 - y1) * side - 0.5, above = Math.floor(row), down = row - above;
    for (let x = 0; x < width; x++) {
      const column = (left + x + 0.5 - x1) / (x2 - x1) * side - 0.5, before = Math.floor(column), across = column - before;
      const upper = at(above, before) * (1 - across) + at(above, before + 1) * across;
      const lower = at(above + 1, before) * (1 - across) + at(above + 1, before + 1) * across;
      inside[y * width + x] = upper * (1 - down) + lower * down >= 0.5;
    }
  }
  return {left, top, width, height, inside};
}

// The most probable class of each pixel of the shown image, from logits interpolated to its size.
function readLabelMap({logits}, image, {fitted}) {
  const [, classes, height, width] = logits.dims, shown = shownSize(image);
  const labels = new Uint8Array(shown.width * shown.height), columns = bilinearPlaces(fitted.width, shown.width);
  const line = new Float32Array(classes * fitted.width);
  let to = 0;
  for (const [above, below, down] of bilinearPlaces(fitted.height, shown.height)) {
    for (let k = 0, i = 0; k < classes; k++) {
      const upper = (k * height + above) * width, lower = (k * height + below) * width;
      for (let x = 0; x < fitted.width; x++) line[i++] = logits.data[upper + x] * (1 - down) + logits.data[lower + x] * down;
    }
    for (const [left, right, across] of columns) {
      let best = -Infinity, label = 0;
      for (let k = 0, start = 0; k < classes; k++, start += fitted.width) {
        const value = line[start + left] * (1 - across) + line[start + right] * across;
        if (value > best) [best, label] = [value, k];
      }
      labels[to++] = label;
    }
  }
  return {labels, shown};
}

const TASKS = {
  classify: [classifierInput, readClasses],
  detect: [detectorInput, readDetections],
  segment: [segmenterInput, readLabelMap],
};

async function predict(bitmap) {
  const [prepare, read] = TASKS[settings.task], start = performance.now();
  const image = readPixels(bitmap), input = prepare(image), prepared = performance.now();
  const outputs = await run(input.planes, input.full), computed = performance.now();
  const result = read(outputs, image, input);
  return {...result, milliseconds: {total: performance.now() - start, model: computed - prepared}};
}

const run = (planes, {width, height}) => session.run({images: new ort.Tensor("float32", planes, [1, 3, height, width])});

// ---- Loading.

async function download(path, base, advance) {
  const response = await fetch(new URL(path, base));
  if (!response.ok) throw new Error(`cannot load ${path}: ${response.status} ${response.statusText}`);
  const parts = [], reader = response.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    advance(part.value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

// Compare with ONNX Runtime's outputs for the same input: WebGPU has computed wrong values on some devices.
async function checkOutputs({size: [height, width], outputs, tolerance}) {
  const planes = Float32Array.from({length: 3 * height * width}, (_, i) => (Math.imul(i, 2654435761) >>> 0) / 2 ** 32);
  const answer = await run(planes, {width, height});
  for (const {name, positions, values} of outputs) {
    const largest = Math.max(...values.map(Math.abs));
    const difference = Math.max(...values.map((value, i) => Math.abs(answer[name].data[positions[i]] - value))) / (largest || 1);
    if (!(difference <= tolerance)) throw new Error(`its outputs differ from the expected ones by ${difference.toPrecision(2)}`);
  }
}

// Open the model with the first runtime whose outputs are right.
async function load({base}) {
  const threads = crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 8) : 1;
  const adapter = await navigator.gpu?.requestAdapter();
  const runtimes = settings.runtimes.filter(({provider}) => adapter || provider !== "webgpu");
  const problems = [];
  let model;
  for (const {name, provider, script, binary, bytes} of runtimes) {
    try {
      let done = model?.length ?? 0;
      const advance = count => postMessage({progress: (done += count) / (settings.model_bytes + bytes)});
      model ??= await download("model.onnx", base, advance);
      ort = await import(new URL(script, base));
      ort.env.logLevel = "error"; // its warnings are about its own optimizations
      ort.env.wasm.wasmBinary = await download(binary, base, advance);
      ort.env.wasm.numThreads = threads;
      session = await ort.InferenceSession.create(model, {executionProviders: [provider]});
      await checkOutputs(settings.check);
      return {runtime: provider === "webgpu" ? name : `${name}, ${threads} thread${threads > 1 ? "s" : ""}`, problems};
    } catch (error) {
      problems.push(`${name} is not used: ${error.message}`);
    }
  }
  throw new Error(problems.join(". "));
}

onmessage = async ({data}) => {
  try {
    if (data.settings) {
      settings = data.settings;
      postMessage({loaded: await load(data)});
    } else {
      postMessage({id: data.id, result: await predict(data.bitmap)});
    }
  } catch (error) {
    postMessage({id: data.id, error: error.message ?? String(error)});
  }
};
