// The page around the model: images in, results out. The model itself runs in a worker.
//
// Each result is also an event of the document, "prediction", whose detail has the numbers that the page rounds.

const element = id => document.getElementById(id);
const settings = JSON.parse(element("settings").textContent);
const MAX_ROWS = 5, MAP_SHARE = 0.45, MASK_SHARE = 0.4, SMALLEST_VIEW = 640, MAX_PIXELS = 2 ** 24;

const image = element("image"), overlay = element("overlay"), video = element("video"), threshold = element("threshold");
let worker, ready = false, busy = false, waiting = null, stream = null, shownResult = null, wanted = 0;

// ---- The model.

function start() {
  if (location.protocol === "file:") {
    return fail("Browsers load a model only from a server. Run: python -m http.server, in the folder of this page, and open http://localhost:8000");
  }
  const source = new Blob([element("worker").textContent], {type: "text/javascript"});
  worker = new Worker(URL.createObjectURL(source), {type: "module"});
  worker.onerror = event => fail(`The model cannot be loaded: ${event.message ?? "its worker did not start"}`);
  worker.onmessage = ({data}) => receive(data);
  worker.postMessage({settings, base: document.baseURI});
}

function fail(text) {
  element("headline").textContent = "The model cannot be loaded";
  element("progress").hidden = true;
  report(text);
}

function receive({progress, loaded, id, result, error}) {
  if (progress !== undefined) {
    element("progress").value = progress;
  } else if (loaded) {
    ready = true;
    element("progress").hidden = true;
    element("headline").textContent = waiting ? "Computing" : "Choose an image";
    element("runtime").textContent += `. Computed with ${loaded.runtime}`;
    element("notes").textContent = loaded.problems.join(". ");
    sendWaiting();
  } else if (!ready) {
    fail(error);
  } else {
    busy = false;
    if (error) report(`Cannot compute the result: ${error}`);
    else if (id === wanted) show(result); // not of an earlier image
    if (waiting) sendWaiting();
    else if (stream) requestAnimationFrame(sendFrame);
  }
}

// Only the latest image waits while the model computes.
function send(bitmap) {
  waiting?.close();
  waiting = bitmap;
  wanted++;
  if (ready && !busy) sendWaiting();
  else element("headline").textContent = ready ? "Computing" : "Loading the model";
}

function sendWaiting() {
  if (!waiting) return;
  busy = true;
  worker.postMessage({id: wanted, bitmap: waiting}, [waiting]);
  waiting = null;
}

// ---- Images: files, dropped or pasted, and the camera.

async function open(file) {
  stopCamera();
  report("");
  let bitmap;
  try {
    bitmap = await decode(file);
  } catch {
    return report(`Cannot open ${file.name}: it is not an image, or of a format that this browser does not show. Use JPEG or PNG.`);
  }
  draw(bitmap);
  overlay.getContext("2d").clearRect(0, 0, overlay.width, overlay.height);
  send(bitmap);
}

// Pixels as stored, without color management, as Pillow reads them.
async function decode(file) {
  const options = {colorSpaceConversion: "none"}, bitmap = await createImageBitmap(file, options);
  const excess = bitmap.width * bitmap.height / MAX_PIXELS;
  if (excess <= 1) return bitmap;
  const resizeWidth = Math.floor(bitmap.width / Math.sqrt(excess)), resizeHeight = Math.floor(bitmap.height / Math.sqrt(excess));
  report(`The image was reduced from ${bitmap.width}x${bitmap.height} to ${resizeWidth}x${resizeHeight} pixels.`);
  return createImageBitmap(bitmap, {resizeWidth, resizeHeight, resizeQuality: "high"});
}

// Show an image. Small images are enlarged, so that text on them is sharp.
function draw(bitmap) {
  const longest = Math.max(bitmap.width, bitmap.height);
  const scale = longest > 2 * SMALLEST_VIEW ? 2 * SMALLEST_VIEW / longest : Math.ceil(SMALLEST_VIEW / longest);
  const [width, height] = [bitmap.width, bitmap.height].map(side => Math.max(1, Math.round(side * scale)));
  for (const canvas of [image, overlay])
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height}); // clears it
  image.getContext("2d").drawImage(bitmap, 0, 0, image.width, image.height);
  image.original = {width: bitmap.width, height: bitmap.height};
  element("stage").hidden = false;
}

async function startCamera() {
  report("");
  try {
    if (!navigator.mediaDevices) throw new Error("browsers allow it only on HTTPS and localhost");
    stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}});
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    stopCamera();
    return report(`Cannot use the camera: ${error.message}`);
  }
  element("camera").textContent = "Stop the camera";
  element("camera").setAttribute("aria-pressed", "true");
  element("announced").setAttribute("aria-live", "off"); // many results a second would be read aloud
  video.hidden = element("stage").hidden = false;
  image.hidden = true;
  sendFrame();
}

async function sendFrame() {
  if (!stream || busy) return;
  const bitmap = await createImageBitmap(video);
  draw(bitmap);
  send(bitmap);
}

function stopCamera() {
  if (!stream) return;
  stream.getTracks().forEach(track => track.stop());
  stream = video.srcObject = null;
  element("camera").textContent = "Use the camera";
  element("camera").setAttribute("aria-pressed", "false");
  element("announced").removeAttribute("aria-live");
  video.hidden = true;
  image.hidden = false;
}

// ---- Results.

function report(text) {
  element("problem").textContent = text;
  element("problem").hidden = !text;
}

function show(result) {
  shownResult = result;
  const view = overlay.getContext("2d");
  view.clearRect(0, 0, overlay.width, overlay.height);
  const {headline, rows, more} = SUMMARIES[settings.task](result, view);
  element("headline").textContent = headline;
  element("rows").replaceChildren(...rows.map(makeRow));
  element("more").textContent = more ? `and ${more} more` : "";
  element("more").hidden = !more;
  element("stage").setAttribute("aria-label", `Image: ${headline}`);
  const {total, model} = result.milliseconds;
  element("time").textContent = `${total.toFixed(0)} ms, of which the model ${model.toFixed(0)} ms`;
  element("time").hidden = false;
  if (element("filter")) element("filter").hidden = false;
  document.dispatchEvent(new CustomEvent("prediction", {detail: result}));
}

function makeRow({name, share, color}) {
  const row = document.createElement("li");
  const [label, value, bar] = ["name", "share", "bar"].map(kind => Object.assign(document.createElement("span"), {className: kind}));
  if (color) {
    label.append(document.createElement("i"));
    label.firstChild.style.setProperty("--color", color);
  }
  label.append(name);
  value.textContent = percent(share);
  bar.style.setProperty("--share", `${100 * share}%`);
  row.append(label, value, bar);
  return row;
}

function percent(share) {
  if (share > 0 && share < 0.01) return "<1%";
  return share > 0.99 && share < 1 ? ">99%" : `${(100 * share).toFixed(0)}%`;
}

const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;

const SUMMARIES = {
  classify({value, probabilities}) {
    if (value !== undefined) return {headline: `${settings.class_names[0]}: ${Number(value.toPrecision(4))}`, rows: []};
    const {kind, thresholds} = settings.targets;
    const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
    const best = order.slice(0, MAX_ROWS), rows = best.map(i => ({name: settings.class_names[i], share: probabilities[i]}));
    const labels = order.filter(i => kind !== "multilabel" ? i === order[0] : probabilities[i] >= thresholds[i]);
    const headline = labels.map(i => settings.class_names[i]).join(", ") || "No label";
    return {headline, rows, more: order.length - rows.length};
  },

  detect({detections, shown}, view) {
    const least = Number(threshold.value), found = detections.filter(({score}) => score >= least);
    const scale = view.canvas.width / image.original.width;
    for (const {mask, label} of [...found].reverse()) if (mask) drawMask(view, mask, settings.colors[label], shown);
    for (const detection of [...found].reverse()) drawBox(view, detection, scale);
    const rows = found.slice(0, 2 * MAX_ROWS).map(({label, score}) => (
      {name: settings.class_names[label], share: score, color: settings.colors[label].fill}));
    return {headline: found.length ? count(found.length, "detection", "detections") : "No detections", rows, more: found.length - rows.length};
  },

  segment({labels, shown}, view) {
    const pixels = new Array(settings.class_names.length).fill(0);
    for (const label of labels) pixels[label]++;
    const order = pixels.map((_, i) => i).filter(i => pixels[i]).sort((a, b) => pixels[b] - pixels[a]);
    const untinted = settings.background ?? order[0];
    const colors = settings.colors.map(({rgb}, i) => [...rgb, i === untinted ? 0 : 255 * MAP_SHARE]);
    paint(view, {left: 0, top: 0, ...shown}, i => colors[labels[i]], shown);
    const rows = order.slice(0, 2 * MAX_ROWS).map(i => ({
      name: settings.class_names[i] + (i === untinted ? " (not tinted)" : ""),
      share: pixels[i] / labels.length,
      color: i === untinted ? null : settings.colors[i].fill,
    }));
    return {headline: count(order.length, "class", "classes"), rows, more: order.length - rows.length};
  },
};

// Draw a rectangle of pixels of the shown image, whose RGBA colors `colorOf` gives.
function paint(view, {left, top, width, height}, colorOf, shown) {
  if (width < 1 || height < 1) return;
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) pixels.data.set(colorOf(i), 4 * i);
  context.putImageData(pixels, 0, 0);
  const across = view.canvas.width / shown.width, down = view.canvas.height / shown.height;
  view.imageSmoothingEnabled = false;
  view.drawImage(canvas, left * across, top * down, width * across, height * down);
}

function drawMask(view, mask, {rgb}, shown) {
  const {width, height, inside} = mask;
  const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && inside[y * width + x];
  const outline = (x, y) => !(at(x - 1, y) && at(x + 1, y) && at(x, y - 1) && at(x, y + 1));
  paint(view, mask, i => {
    const x = i % width, y = (i - x) / width;
    return inside[i] ? [...rgb, outline(x, y) ? 255 : 255 * MASK_SHARE] : [0, 0, 0, 0];
  }, shown);
}

function drawBox(view, {label, score, box}, scale) {
  const {fill, text} = settings.colors[label], [x1, y1, x2, y2] = box.map(x => x * scale);
  const size = Math.max(14, view.canvas.width / 45), caption = `${settings.class_names[label]} ${percent(score)}`;
  view.lineWidth = size / 6;
  view.strokeStyle = view.fillStyle = fill;
  view.strokeRect(x1, y1, x2 - x1, y2 - y1);
  view.font = `600 ${size}px system-ui, sans-serif`;
  const width = view.measureText(caption).width + size * 0.6, height = size * 1.35;
  const left = Math.max(0, Math.min(x1, view.canvas.width - width)), top = y1 >= height ? y1 - height : y1;
  view.fillRect(left, top, width, height);
  view.fillStyle = text;
  view.fillText(caption, left + size * 0.3, top + size);
}

// ---- Controls.

const imageFile = items => [...(items?.files ?? [])][0];

element("file").addEventListener("change", event => {
  const file = imageFile(event.target);
  if (file) open(file);
  event.target.value = ""; // so that the same file can be chosen again
});
element("camera").addEventListener("click", () => (stream ? stopCamera() : startCamera()));
threshold?.addEventListener("input", () => {
  element("threshold-text").textContent = percent(Number(threshold.value));
  if (shownResult) show(shownResult);
});
addEventListener("paste", event => {
  const file = imageFile(event.clipboardData);
  if (file) open(file);
});
addEventListener("dragover", event => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", event => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
addEventListener("drop", event => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const file = imageFile(event.dataTransfer);
  if (file) open(file);
});
start();
