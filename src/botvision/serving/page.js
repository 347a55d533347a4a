// The page of `botvision serve`. It asks its own server alone: /about, /predict and /attend.
const byId = (id) => document.getElementById(id);
const COLOURS = ["#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#9a6324", "#808000", "#469990"];
const INFERNO = ["#000004", "#210c4a", "#57106e", "#8a226a", "#bc3754", "#e45a31", "#f98e09", "#f9cb35", "#fcffa4"];
const COARSE = 8; // maps with fewer cells a side are drawn cell by cell: smoothing would invent what lies between
const SURE_KEYPOINT = 0.05;

let about = { blocks: [], max_megabytes: 0, least_score: 0 };
let file = null; // what was chosen
let picture = null; // what the server saw, as an image
let answer = null; // of /predict
let cross = null; // the point in pixels of the image
let attention = null; // of /attend
let asked = 0; // requests so far: an answer that comes after a newer request is not shown

function say(text, isBad = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("bad", isBad);
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

async function ask(path, body) {
  const response = await fetch(path, { method: body ? "POST" : "GET", body });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

// --- an image goes to the model ---

async function predict(chosen) {
  if (!chosen) return;
  if (chosen.size > about.max_megabytes * 2 ** 20) {
    return say(`${chosen.name} is larger than ${about.max_megabytes} MB, the most that is taken`, true);
  }
  const own = ++asked;
  say(`looking at ${chosen.name} ...`);
  try {
    const found = await ask(`/predict?name=${encodeURIComponent(chosen.name)}`, chosen);
    const shown = new Image();
    shown.src = `data:image/jpeg;base64,${found.picture}`;
    await shown.decode();
    if (own !== asked) return;
    [file, answer, picture, attention] = [chosen, found, shown, null];
    cross = [Math.floor(found.width / 2), Math.floor(found.height / 2)];
  } catch (error) {
    if (own === asked) say(error.message || "the server does not answer", true);
    return;
  }
  say(`${chosen.name}: ${answer.width} x ${answer.height} pixels, ${answer.seconds.toFixed(2)} s`
    + (about.blocks.length ? "; click into the image to see where the attention looks" : ""));
  byId("attention").hidden = true;
  byId("stage").hidden = byId("side").hidden = false;
  byId("detector").hidden = !answer.objects;
  if (answer.objects) prepareObjects();
  show();
}

function prepareObjects() {
  const place = new Map(answer.categories.map((category, index) => [category.id, index]));
  for (const object of answer.objects) {
    object.colour = COLOURS[place.get(object.category_id) % COLOURS.length];
    if (object.segmentation) [object.path, object.area] = outline(object.segmentation);
  }
  const counts = new Map();
  for (const object of answer.objects) counts.set(object.category_id, (counts.get(object.category_id) || 0) + 1);
  byId("classes").replaceChildren(...answer.categories.filter((category) => counts.has(category.id)).map((category) => {
    const box = element("input", { type: "checkbox", checked: true, value: String(category.id), onchange: show });
    const colour = element("i");
    colour.style.background = COLOURS[place.get(category.id) % COLOURS.length];
    return element("label", {}, box, colour, `${category.name} (${counts.get(category.id)})`);
  }));
}

// COCO's compressed run lengths, column after column, as a path in pixels of the image, and the number of its pixels.
function outline({ size: [height], counts }) {
  const path = new Path2D();
  const runs = [];
  for (let place = 0; place < counts.length; ) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const code = counts.charCodeAt(place++) - 48;
      value |= (code & 31) << shift;
      more = code & 32;
      shift += 5;
      if (!more && code & 16) value |= -1 << shift;
    }
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  let start = 0, area = 0;
  runs.forEach((run, index) => {
    for (let done = 0; index % 2 && done < run; ) {
      const [x, y] = [Math.floor((start + done) / height), (start + done) % height];
      const length = Math.min(run - done, height - y);
      path.rect(x, y, 1.25, length); // wider than a pixel, so that no gap shows between columns
      done += length;
    }
    area += index % 2 ? run : 0;
    start += run;
  });
  return [path, area];
}

// --- what was found ---

const shownObjects = () => {
  const threshold = Number(byId("threshold").value);
  const classes = new Set([...document.querySelectorAll("#classes input:checked")].map((box) => box.value));
  return answer.objects.filter((object) => object.score >= threshold && classes.has(String(object.category_id)));
};

function show() {
  if (!answer) return;
  const objects = answer.objects ? shownObjects() : [];
  byId("shown").value = Number(byId("threshold").value).toFixed(2);
  draw(objects);
  const rows = answer.objects ? objects : answer.classes;
  byId("found").textContent = answer.objects
    ? `${objects.length} ${objects.length === 1 ? "object" : "objects"}`
    : "Likeliest classes";
  byId("list").replaceChildren(...rows.map((row) => {
    const colour = element("i");
    colour.style.background = row.colour || COLOURS[2];
    const score = row.score ?? row.probability;
    const item = element("li", {}, colour, element("span", { textContent: row.category_name ?? row.name }),
      element("span", { textContent: answer.objects ? score.toFixed(2) : `${(100 * score).toFixed(1)}%` }));
    if (!answer.objects) item.append(element("meter", { value: score, ariaLabel: "probability" }));
    return item;
  }));
}

function draw(objects) {
  const view = byId("view"), pen = view.getContext("2d"), scale = picture.naturalWidth / answer.width, zoom = zoomed();
  [view.width, view.height] = [picture.naturalWidth * zoom, picture.naturalHeight * zoom];
  pen.imageSmoothingEnabled = zoom === 1;
  pen.drawImage(picture, 0, 0, view.width, view.height);
  pen.scale(scale * zoom, scale * zoom);
  const unit = Math.max(view.width, view.height) / 640 / (scale * zoom); // as wide in every image
  for (const object of [...objects].reverse()) {
    pen.fillStyle = pen.strokeStyle = object.colour;
    if (object.path && byId("masks").checked) {
      pen.globalAlpha = 0.45;
      pen.fill(object.path);
      pen.globalAlpha = 1;
    }
    pen.lineWidth = 2 * unit;
    if (byId("boxes").checked) pen.strokeRect(...object.bbox);
    if (object.keypoints) drawKeypoints(pen, object, unit);
  }
  if (byId("names").checked) for (const object of [...objects].reverse()) drawName(pen, object, unit);
  if (attention) mark(pen, cross, 9 * unit);
}

// Small images are enlarged, so that names and marks have room.
const zoomed = () => Math.max(1, Math.ceil(640 / Math.max(picture.naturalWidth, picture.naturalHeight)));

function drawName(pen, { bbox: [left, top], colour, category_name: name, score }, unit) {
  const text = `${name} ${score.toFixed(2)}`;
  pen.font = `${14 * unit}px system-ui, sans-serif`;
  const width = pen.measureText(text).width + 6 * unit;
  const x = Math.max(0, Math.min(left, answer.width - width)), y = Math.max(0, top - 18 * unit);
  pen.fillStyle = colour;
  pen.fillRect(x, y, width, 18 * unit);
  pen.fillStyle = "#fff";
  pen.fillText(text, x + 3 * unit, y + 13.5 * unit);
}

function drawKeypoints(pen, { keypoints, category_id: id }, unit) {
  const at = (index) => [keypoints[3 * index] + 0.5, keypoints[3 * index + 1] + 0.5];
  const sure = (index) => keypoints[3 * index + 2] >= SURE_KEYPOINT;
  for (const [first, second] of answer.categories.find((category) => category.id === id).skeleton) {
    if (!sure(first - 1) || !sure(second - 1)) continue;
    pen.beginPath();
    pen.moveTo(...at(first - 1));
    pen.lineTo(...at(second - 1));
    pen.stroke();
  }
  for (let index = 0; index < keypoints.length / 3; index++) {
    if (!sure(index)) continue;
    pen.beginPath();
    pen.arc(...at(index), 3 * unit, 0, 7);
    pen.fill();
  }
}

function mark(pen, [x, y], radius) {
  for (const [colour, width] of [["#000", 4], ["#42d4f4", 2]]) {
    pen.beginPath();
    pen.arc(x + 0.5, y + 0.5, radius, 0, 7);
    [pen.strokeStyle, pen.lineWidth] = [colour, width * radius / 9];
    pen.stroke();
  }
}

function download() {
  const objects = shownObjects();
  const annotations = objects.map(({ colour, path, category_name, ...row }, index) => ({
    ...row, id: index + 1, iscrowd: 0, area: row.area ?? row.bbox[2] * row.bbox[3],
  }));
  const images = [{ id: 1, file_name: file.name, width: answer.width, height: answer.height }];
  const content = JSON.stringify({ images, categories: answer.categories, annotations });
  const url = URL.createObjectURL(new Blob([content], { type: "application/json" }));
  element("a", { href: url, download: `${file.name.replace(/\.[^.]*$/, "")}.json` }).click();
  URL.revokeObjectURL(url);
}

// --- where the attention looks ---

async function attend() {
  if (!answer || !about.blocks.length) return;
  const own = ++asked, [x, y] = cross;
  const query = new URLSearchParams({ x, y, block: byId("block").value, name: file.name });
  say(`looking from ${x}, ${y} ...`);
  try {
    const found = await ask(`/attend?${query}`, file);
    if (own !== asked) return;
    attention = found;
    say("");
    byId("attention").hidden = false;
    showAttention();
    show();
  } catch (error) {
    if (own === asked) say(error.message || "the server does not answer", true);
  }
}

function showAttention() {
  const { heads, cell: [row, column] } = attention;
  const [rows, columns] = [heads[0].length, heads[0][0].length];
  const mean = heads[0].map((line, y) => line.map((_, x) => heads.reduce((sum, head) => sum + head[y][x], 0) / heads.length));
  const maps = heads.length > 1 ? [["mean of the heads", mean]] : [];
  heads.forEach((head, index) => maps.push([`head ${index + 1}`, head]));
  const most = Math.max(...maps.flatMap(([, map]) => map.flat()));
  const percent = (share) => `${(100 * share).toPrecision(3)}%`;
  byId("point").textContent = `From ${cross[0]}, ${cross[1]} (row ${row + 1}, column ${column + 1} of ${rows} x ${columns}`
    + ` cells); a cell would have ${percent(1 / (rows * columns))} if all had the same.`;
  byId("most").textContent = `${percent(most)} of a head's attention in one cell`;
  byId("heads").replaceChildren(...maps.map(([title, map]) => {
    const canvas = element("canvas", { width: picture.naturalWidth * zoomed(), height: picture.naturalHeight * zoomed(), role: "img" });
    const largest = Math.max(...map.flat());
    canvas.ariaLabel = `${title}, at most ${percent(largest)} in one cell`;
    drawHeat(canvas, map.map((line) => line.map((share) => share / most)), byId("over").checked);
    return element("figure", {}, canvas, element("figcaption", { textContent: `${title}: up to ${percent(largest)}` }));
  }));
}

function drawHeat(canvas, map, isOver) {
  const pen = canvas.getContext("2d"), [rows, columns] = [map.length, map[0].length];
  const cells = element("canvas", { width: columns, height: rows });
  const pixels = cells.getContext("2d").createImageData(columns, rows);
  map.flat().forEach((share, index) => pixels.data.set([...inferno(share), 255], 4 * index));
  cells.getContext("2d").putImageData(pixels, 0, 0);
  if (isOver) {
    pen.filter = "grayscale(1)";
    pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
    pen.filter = "none";
    pen.globalAlpha = 0.65;
  }
  pen.imageSmoothingEnabled = Math.min(rows, columns) >= COARSE;
  pen.drawImage(cells, 0, 0, canvas.width, canvas.height);
  pen.globalAlpha = 1;
  mark(pen, cross.map((side) => side * canvas.width / answer.width), Math.max(...[canvas.width, canvas.height]) / 50);
}

function inferno(share) {
  const place = Math.min(Math.max(share, 0), 1) * (INFERNO.length - 1), low = Math.min(Math.floor(place), INFERNO.length - 2);
  const channel = (colour, index) => parseInt(INFERNO[colour].slice(1 + 2 * index, 3 + 2 * index), 16);
  return [0, 1, 2].map((index) => Math.round(channel(low, index) + (channel(low + 1, index) - channel(low, index)) * (place - low)));
}

function clicked(event) {
  if (!answer) return;
  const view = byId("view");
  cross = [Math.floor(event.offsetX / view.clientWidth * answer.width), Math.floor(event.offsetY / view.clientHeight * answer.height)]
    .map((side, index) => Math.min(Math.max(side, 0), [answer.width, answer.height][index] - 1));
  attend();
}

function pressed(event) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!answer || !(step || event.key === "Enter")) return;
  event.preventDefault();
  if (!step) return void attend();
  const stride = Math.max(1, Math.round(Math.max(answer.width, answer.height) / 40));
  cross = cross.map((side, index) => Math.min(Math.max(side + step[index] * stride, 0), [answer.width, answer.height][index] - 1));
  draw(answer.objects ? shownObjects() : []);
  const pen = byId("view").getContext("2d");
  mark(pen, cross, 9 * Math.max(answer.width, answer.height) / 640);
}

// --- what the user does ---

byId("file").addEventListener("change", (event) => predict(event.target.files[0]));
document.addEventListener("paste", (event) => predict(event.clipboardData.files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") predict(event.dataTransfer.files[0]);
  });
}
for (const id of ["threshold", "masks", "boxes", "names"]) byId(id).addEventListener("input", show);
for (const id of ["all", "none"]) {
  byId(id).addEventListener("click", () => {
    for (const box of document.querySelectorAll("#classes input")) box.checked = id === "all";
    show();
  });
}
byId("download").addEventListener("click", download);
byId("view").addEventListener("click", clicked);
byId("view").addEventListener("keydown", pressed);
byId("block").addEventListener("change", attend);
byId("over").addEventListener("change", showAttention);
byId("close").addEventListener("click", () => {
  byId("attention").hidden = true;
  attention = null;
  show();
});

const bar = byId("bar").getContext("2d");
for (let x = 0; x < 256; x++) {
  bar.fillStyle = `rgb(${inferno(x / 255).join()})`;
  bar.fillRect(x, 0, 1, 1);
}
try {
  about = await ask("/about");
  byId("model").textContent = `${about.model}, ${about.classes.length} classes`;
  byId("threshold").min = about.least_score;
  byId("block").replaceChildren(...about.blocks.map((block) => element("option", { textContent: block })));
  byId("block").selectedIndex = about.blocks.length - 1;
} catch (error) {
  say(error.message || "the server does not answer", true);
}
