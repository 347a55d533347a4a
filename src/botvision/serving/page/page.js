// Sends photographs to the server, and shows what it answers. It asks the server alone: about, predict and attend.
import { COLOURS, SURE_KEYPOINT, begin, drawHeat, drawObjects, inferno, mark, outline } from "./drawing.js";

const byId = (id) => document.getElementById(id);

let about = { blocks: [], classes: [], max_megabytes: 0, least_score: 0 };
let file = null; // what was chosen
let picture = null; // what the server saw, as an image
let answer = null; // of predict
let point = null; // in pixels of the image; shown once it was moved or clicked
let attention = null; // of attend
let asked = 0; // requests so far: an answer that comes after a newer request is not shown
let predicting = 0; // photographs that the server looks at; meanwhile nothing else is asked

function say(text, kind = "") {
  byId("status").textContent = text;
  byId("status").className = kind;
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

async function ask(path, body) {
  const response = await fetch(path, { method: body ? "POST" : "GET", body }).catch(() => null);
  if (!response) throw new Error("the server does not answer; is it still running?");
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

// Ask for something and show it, unless a newer request was made meanwhile; errors are said on the page.
async function askAndShow(request, show) {
  const own = ++asked;
  try {
    const found = await request();
    if (own === asked) show(found);
  } catch (error) {
    if (own === asked) say(error.message, "bad");
  }
}

// --- an image goes to the model ---

async function predict(chosen) {
  if (!chosen || byId("file").disabled) return;
  if (chosen.size > about.max_megabytes * 2 ** 20) {
    asked++;
    return say(`${chosen.name} is larger than ${about.max_megabytes} MB, the most that is taken`, "bad");
  }
  say(`looking at ${chosen.name} ...`, "busy");
  predicting++;
  await askAndShow(async () => {
    const found = await ask(`predict?name=${encodeURIComponent(chosen.name)}`, chosen), shown = new Image();
    shown.src = `data:image/jpeg;base64,${found.picture}`;
    await shown.decode();
    return [found, shown];
  }, ([found, shown]) => {
    [file, answer, picture, attention, point] = [chosen, found, shown, null, null];
    say(`${file.name}: ${answer.width} x ${answer.height} pixels, ${answer.seconds.toFixed(2)} s`);
    byId("attention").hidden = true;
    byId("stage").hidden = byId("side").hidden = false;
    byId("hint").hidden = !about.blocks.length;
    byId("detector").hidden = !answer.objects;
    byId("masks").parentElement.hidden = !answer.objects?.some((object) => object.segmentation);
    if (answer.objects) prepareObjects();
    show();
  });
  predicting--;
}

// Colours are given to the classes of this image, so that they differ as long as they suffice.
function prepareObjects() {
  const found = new Set(answer.objects.map((object) => object.category_id));
  const seen = answer.categories.filter((category) => found.has(category.id));
  const colours = new Map(seen.map((category, index) => [category.id, COLOURS[index % COLOURS.length]]));
  for (const object of answer.objects) {
    object.colour = colours.get(object.category_id);
    if (object.segmentation) [object.path, object.area] = outline(object.segmentation, picture.naturalWidth);
  }
  byId("classes").replaceChildren(...seen.map(({ id, name }) => {
    const box = element("input", { type: "checkbox", checked: true, value: String(id), onchange: show });
    return element("label", {}, box, swatch(colours.get(id)), name);
  }));
}

function swatch(colour) {
  const made = element("i");
  made.style.background = colour;
  return made;
}

// --- what was found ---

function shownObjects() {
  const threshold = Number(byId("threshold").value);
  const classes = new Set([...document.querySelectorAll("#classes input:checked")].map((box) => box.value));
  return answer.objects.filter((object) => object.score >= threshold && classes.has(String(object.category_id)));
}

function show() {
  if (!answer) return;
  const objects = answer.objects ? shownObjects() : [];
  byId("shown").value = Number(byId("threshold").value).toFixed(2);
  byId("found").textContent = answer.objects
    ? `${objects.length} of ${answer.objects.length} objects`
    : "Likeliest classes";
  byId("list").replaceChildren(...(answer.objects ? objects.map(objectRow) : answer.classes.map(classRow)));
  const [pen, unit] = begin(byId("view"), picture, answer.width);
  const shows = Object.fromEntries(["masks", "boxes", "names"].map((id) => [id, byId(id).checked]));
  drawObjects(pen, unit, objects, answer.categories, answer.width, shows);
  if (point) mark(pen, unit, point);
}

function objectRow({ colour, category_name: name, score }) {
  return element("li", {}, swatch(colour), element("span", { textContent: name }), score.toFixed(2));
}

function classRow({ name, probability }) {
  const share = `${(100 * probability).toFixed(1)}%`;
  const meter = element("meter", { value: probability, ariaLabel: `probability of ${name}` });
  return element("li", { className: "class" }, element("span", { textContent: name }), share, meter);
}

function download() {
  const annotations = shownObjects().map(({ colour, path, category_name, keypoints, ...row }, index) => ({
    ...row, ...(keypoints && asLabelled(keypoints)), id: index + 1, iscrowd: 0,
    area: row.area ?? row.bbox[2] * row.bbox[3],
  }));
  const images = [{ id: 1, file_name: file.name, width: answer.width, height: answer.height }];
  const content = JSON.stringify({ images, categories: answer.categories, annotations });
  const url = URL.createObjectURL(new Blob([content], { type: "application/json" }));
  element("a", { href: url, download: `${file.name.replace(/\.[^.]*$/, "")}.json` }).click();
  URL.revokeObjectURL(url);
}

// Keypoints of results have a score each; those of annotations are visible (2) or not there (0).
function asLabelled(keypoints) {
  const labelled = keypoints.map((value, index) => index % 3 === 2 ? 2 * (value >= SURE_KEYPOINT) : value);
  return { keypoints: labelled, num_keypoints: labelled.filter((value, index) => index % 3 === 2 && value).length };
}

// --- where the attention looks ---

function attend() {
  if (!point || predicting) return;
  const [x, y] = point;
  show();
  say(`looking from ${x}, ${y} ...`, "busy");
  const query = new URLSearchParams({ x, y, block: byId("block").value, name: file.name });
  askAndShow(() => ask(`attend?${query}`, file), (found) => {
    attention = found;
    say("");
    byId("attention").hidden = false;
    byId("hint").hidden = true;
    show(); // the image may have got another size
    showAttention();
  });
}

function showAttention() {
  if (!attention) return;
  const { heads, cell: [row, column] } = attention, [rows, columns] = [heads[0].length, heads[0][0].length];
  const mean = heads[0].map((line, y) =>
    line.map((_, x) => heads.reduce((sum, head) => sum + head[y][x], 0) / heads.length));
  const maps = heads.length > 1 ? [["mean", mean]] : [];
  heads.forEach((head, index) => maps.push([`head ${index + 1}`, head]));
  const most = Math.max(...heads.flat(2));
  const percent = (share) => `${(100 * share).toPrecision(3)}%`;
  byId("point").textContent = `From ${point[0]}, ${point[1]}: row ${row + 1}, column ${column + 1} of ${rows} x `
    + `${columns} cells. If a head looked everywhere alike, each cell would have ${percent(1 / (rows * columns))}.`;
  byId("most").textContent = `${percent(most)} of a head's attention in one cell`;
  const captions = maps.map(([title, map]) => `${title}: up to ${percent(Math.max(...map.flat()))}`);
  const canvases = captions.map((caption) => element("canvas", { role: "img", ariaLabel: caption }));
  byId("heads").replaceChildren(...canvases.map((canvas, index) =>
    element("figure", {}, canvas, element("figcaption", { textContent: captions[index] }))));
  canvases.forEach((canvas, index) => { // in the page, where they have their sizes
    const [pen, unit] = begin(canvas, picture, answer.width, "grayscale(1)");
    const shares = maps[index][1].map((line) => line.map((share) => share / most));
    drawHeat(pen, shares, answer.width, answer.height, byId("over").checked);
    mark(pen, 0.7 * unit, point);
  });
}

const within = (place) => place.map((side, axis) =>
  Math.min(Math.max(Math.floor(side), 0), [answer.width, answer.height][axis] - 1));

function clicked(event) {
  const { clientWidth: width, clientHeight: height } = byId("view");
  point = within([event.offsetX / width * answer.width, event.offsetY / height * answer.height]);
  attend();
}

function pressed(event) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Enter: [0, 0] }
    [event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const stride = Math.max(1, Math.round(Math.max(answer.width, answer.height) / 40));
  point = within((point ?? [answer.width / 2, answer.height / 2]).map((side, axis) => side + step[axis] * stride));
  if (event.key === "Enter") attend();
  else show();
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
window.addEventListener("resize", () => [show(), showAttention()]);
byId("download").addEventListener("click", download);
byId("block").addEventListener("change", attend);
byId("over").addEventListener("change", showAttention);
byId("close").addEventListener("click", () => {
  byId("attention").hidden = true;
  byId("hint").hidden = false;
  [attention, point] = [null, null];
  show();
});

const bar = byId("bar").getContext("2d");
for (let x = 0; x < 256; x++) {
  bar.fillStyle = `rgb(${inferno(x / 255).join()})`;
  bar.fillRect(x, 0, 1, 1);
}
try {
  about = await ask("about");
  byId("model").textContent = `${about.model}, ${about.classes.length} classes`;
  document.title = `${about.model} - botvision`;
  byId("threshold").min = about.least_score;
  byId("block").replaceChildren(...about.blocks.map((block) => element("option", { textContent: block })));
  byId("block").selectedIndex = about.blocks.length - 1;
  byId("file").disabled = false;
  if (about.blocks.length) {
    byId("view").addEventListener("click", clicked);
    byId("view").addEventListener("keydown", pressed);
    byId("view").classList.add("clickable");
    byId("view").tabIndex = 0;
  }
} catch (error) {
  say(error.message, "bad");
}
