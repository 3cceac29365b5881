// A static server like those that will host the book: gzip for text, 404.html for what is not there.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

const TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".json": "application/json",
  ".mjs": "text/javascript",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".webp": "image/webp",
  ".woff2": "font/woff2",
};
const PACKED = new Set([".css", ".html", ".js", ".json", ".mjs", ".svg", ".wasm"]);
const packed = new Map(); // file -> its gzipped bytes: a host packs each file once, not at every request

async function body(file, pack) {
  if (!pack) return readFile(file);
  if (!packed.has(file)) packed.set(file, await promisify(gzip)(await readFile(file)));
  return packed.get(file);
}

async function answer(root, request, response, { compress, prefix }) {
  const asked = normalize(decodeURIComponent(new URL(request.url, "http://host").pathname));
  const path = asked.startsWith(prefix) ? asked.slice(prefix.length - 1) : asked;
  const file = join(root, path.endsWith("/") ? `${path}index.html` : path);
  const pack = compress && PACKED.has(extname(file));
  const headers = { "content-type": TYPES[extname(file)] ?? "application/octet-stream" };
  if (pack) headers["content-encoding"] = "gzip";
  try {
    const bytes = await body(file, pack);
    response.writeHead(200, headers).end(bytes);
  } catch {
    const page = await readFile(join(root, "404.html")).catch(() => `no such file: ${path}`);
    response.writeHead(404, { "content-type": TYPES[".html"] }).end(page);
  }
}

/** Serve the folder `root` at "/" and at `prefix`, on a free port of 127.0.0.1; returns {url, close()}. */
export async function serve(root, { compress = true, prefix = "/" } = {}) {
  const server = createServer((request, response) => answer(root, request, response, { compress, prefix }));
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  return { url: `http://127.0.0.1:${server.address().port}/`, close };
}
