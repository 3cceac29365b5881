// Gaussian noise from a seed. The same seed gives the same noise on every machine, but not that of torch.

/** Uniform numbers in (0, 1): the generator sfc32 of PractRand (C. Doty-Humphrey), with four words of state. */
function uniforms(a, b, c, d) {
  const next = () => {
    const sum = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return ((sum >>> 0) + 0.5) / 2 ** 32;
  };
  for (let i = 0; i < 15; i++) next(); // states that differ in one bit need some rounds to part
  return next;
}

/**
 * A stream of standard Gaussian noise for one image: `draw(size)` gives the next Float32Array (Box & Muller 1958).
 * Each (seed, image) has its own stream, so that an image does not depend on how many others there are.
 */
export function gaussians(seed, image) {
  const uniform = uniforms(seed | 0, image | 0, 0x6b79a3f1, 1);
  return (size) => {
    const out = new Float32Array(size);
    for (let k = 0; k < size; k += 2) {
      const radius = Math.sqrt(-2 * Math.log(uniform()));
      const angle = 2 * Math.PI * uniform();
      out[k] = radius * Math.cos(angle);
      if (k + 1 < size) out[k + 1] = radius * Math.sin(angle);
    }
    return out;
  };
}

/** The batch whose images are drawn from `streams`, `size` numbers each, one after the other. */
export function drawBatch(streams, size) {
  const batch = new Float32Array(streams.length * size);
  streams.forEach((draw, i) => batch.set(draw(size), i * size));
  return batch;
}
