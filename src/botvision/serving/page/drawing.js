// Draws what a model found, and where its attention looks, on canvases. Sizes are pixels of the image where nothing
// else is said; a pen is the context of a canvas.

export const COLOURS = ["#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#0f8aa3", "#d3259d", "#9a6324",
  "#6f6f00", "#2f7f79"];
const INFERNO = ["#000004", "#0b0724", "#210c4a", "#3d0965", "#57106e", "#71196e", "#8a226a", "#a32c61", "#bc3754",
  "#d24644", "#e45a31", "#f1731d", "#f98e09", "#fcac11", "#f9cb35", "#f2ea69", "#fcffa4"]; // of matplotlib
const COARSE = 8; // maps with fewer cells a side are drawn cell by cell: smoothing would invent what lies between
export const SURE_KEYPOINT = 0.05;
const SMALL = 1000, TINY = 320; // smaller pictures are enlarged, so that names are sharp; tiny ones pixel by pixel

// Make a canvas of the page as large as the picture, or larger where it is small, and draw the picture. Gives the pen,
// which counts in pixels of the image, and how many of them one pixel of the page is.
export function begin(canvas, picture, width, filter = "none") {
  const longest = Math.max(picture.naturalWidth, picture.naturalHeight), zoom = Math.max(1, Math.ceil(SMALL / longest));
  [canvas.width, canvas.height] = [picture.naturalWidth * zoom, picture.naturalHeight * zoom];
  const pen = canvas.getContext("2d"), scale = canvas.width / width;
  pen.imageSmoothingEnabled = longest >= TINY;
  pen.filter = filter;
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  pen.filter = "none";
  pen.scale(scale, scale);
  return [pen, width / canvas.clientWidth];
}

// COCO's compressed run lengths, column after column, as a path, and the number of its pixels. Of large images only
// every so many columns are drawn, as wide as the gap.
export function outline({ size: [height, width], counts }, shownWidth) {
  const path = new Path2D(), step = Math.max(1, Math.floor(width / shownWidth));
  let start = 0, area = 0;
  runLengths(counts).forEach((run, index) => {
    if (index % 2) {
      area += run;
      for (let done = 0; done < run; ) {
        const [x, y] = [Math.floor((start + done) / height), (start + done) % height];
        const length = Math.min(run - done, height - y);
        if (x % step === 0) path.rect(x, y, step + 0.25, length); // a little wider, so that no gap shows
        done += length;
      }
    }
    start += run;
  });
  return [path, area];
}

function runLengths(counts) {
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
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value); // the differences to the run before the last
  }
  return runs;
}

// Masks, boxes, keypoints and names, the strongest on top; `shows` says which of them.
export function drawObjects(pen, unit, objects, categories, width, shows) {
  const weakestFirst = [...objects].reverse();
  for (const object of weakestFirst) {
    pen.fillStyle = pen.strokeStyle = object.colour;
    if (object.path && shows.masks) {
      pen.globalAlpha = 0.45;
      pen.fill(object.path);
      pen.globalAlpha = 1;
    }
    pen.lineWidth = 2 * unit;
    if (shows.boxes) pen.strokeRect(...object.bbox);
    if (object.keypoints) drawKeypoints(pen, unit, object, categories);
  }
  if (shows.names) for (const object of weakestFirst) drawName(pen, unit, object, width);
}

function drawName(pen, unit, { bbox: [left, top], colour, category_name: name, score }, imageWidth) {
  const text = `${name} ${score.toFixed(2)}`;
  pen.font = `${12 * unit}px system-ui, sans-serif`;
  const width = pen.measureText(text).width + 6 * unit;
  const x = Math.max(0, Math.min(left, imageWidth - width)), y = Math.max(0, top - 16 * unit);
  pen.fillStyle = colour;
  pen.fillRect(x, y, width, 16 * unit);
  pen.fillStyle = "#fff";
  pen.fillText(text, x + 3 * unit, y + 12 * unit);
}

function drawKeypoints(pen, unit, { keypoints, category_id: id }, categories) {
  const at = (index) => [keypoints[3 * index] + 0.5, keypoints[3 * index + 1] + 0.5];
  const sure = (index) => keypoints[3 * index + 2] >= SURE_KEYPOINT;
  for (const [first, second] of categories.find((category) => category.id === id).skeleton) {
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

// A ring around the centre of a pixel.
export function mark(pen, unit, [x, y]) {
  for (const [colour, width] of [["#000", 4], ["#42d4f4", 2]]) {
    pen.beginPath();
    pen.arc(x + 0.5, y + 0.5, 9 * unit, 0, 7);
    [pen.strokeStyle, pen.lineWidth] = [colour, width * unit];
    pen.stroke();
  }
}

// A map of shares from 0 to 1, row by row, over the whole canvas, also over what is there where it is `seeThrough`.
export function drawHeat(pen, map, width, height, seeThrough) {
  const [rows, columns] = [map.length, map[0].length];
  const cells = document.createElement("canvas");
  [cells.width, cells.height] = [columns, rows];
  const pixels = new ImageData(columns, rows);
  map.flat().forEach((share, index) => pixels.data.set([...inferno(share), 255], 4 * index));
  cells.getContext("2d").putImageData(pixels, 0, 0);
  pen.globalAlpha = seeThrough ? 0.65 : 1;
  pen.imageSmoothingEnabled = Math.min(rows, columns) >= COARSE;
  pen.drawImage(cells, 0, 0, width, height);
  pen.globalAlpha = 1;
}

// The colour of a share from 0 to 1, as [red, green, blue].
export function inferno(share) {
  const place = Math.min(Math.max(share, 0), 1) * (INFERNO.length - 1);
  const low = Math.min(Math.floor(place), INFERNO.length - 2);
  const channel = (colour, index) => parseInt(INFERNO[colour].slice(1 + 2 * index, 3 + 2 * index), 16);
  return [0, 1, 2].map((index) => Math.round(
    channel(low, index) + (channel(low + 1, index) - channel(low, index)) * (place - low)));
}
