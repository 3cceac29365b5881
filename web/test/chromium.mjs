// Where Chromium is, and what to say where it is not.

import { existsSync } from "node:fs";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** The path of the browser: $CHROMIUM, or else the first known place that exists; undefined if there is none. */
export const CHROMIUM = [process.env.CHROMIUM ?? PLACES].flat().find((path) => existsSync(path));

export const HOW_TO_INSTALL = `\
This needs Chromium, and ${process.env.CHROMIUM ?? PLACES.join(", ")} does not exist.
  Debian:    apt-get install chromium
  elsewhere: install Chromium or Chrome and set CHROMIUM=/path/of/its/program`;
