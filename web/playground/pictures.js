// Batches of images on canvases, one pixel of the image a pixel of the canvas; the style sheet enlarges them.

const GAP = 1;

/** Draw a batch of grey images in [-1, 1] (clipped to it), `side` by `side` pixels each, in as square a grid as fits. */
export function drawBatch(canvas, batch, side, columns = Math.ceil(Math.sqrt(batch.length / side ** 2))) {
  const count = batch.length / side ** 2;
  const rows = Math.ceil(count / columns);
  canvas.width = columns * (side + GAP) - GAP;
  canvas.height = rows * (side + GAP) - GAP;
  const context = canvas.getContext("2d");
  for (let image = 0; image < count; image++) {
    const pixels = context.createImageData(side, side);
    for (let k = 0; k < side * side; k++) {
      const grey = Math.round(127.5 * (1 + Math.min(1, Math.max(-1, batch[image * side * side + k]))));
      pixels.data.set([grey, grey, grey, 255], 4 * k);
    }
    context.putImageData(pixels, (image % columns) * (side + GAP), Math.floor(image / columns) * (side + GAP));
  }
}

/** Put images with a caption at the head of a list. */
export function keepImages(list, batch, side, caption) {
  const item = document.createElement("li");
  const canvas = document.createElement("canvas");
  const columns = Math.min(8, batch.length / side ** 2);
  drawBatch(canvas, batch, side, columns);
  canvas.style.maxWidth = `${4 * columns}rem`;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Samples, ${caption}`);
  const text = document.createElement("span");
  text.textContent = caption;
  item.append(canvas, text);
  list.prepend(item);
}
