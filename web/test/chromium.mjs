// Where Chromium is, and what to say where it is not.

import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

const NAMES = ["chromium", "chromium-browser", "google-chrome"];
const FOLDERS = (process.env.PATH ?? "").split(delimiter);
const PLACES = NAMES.flatMap((name) => FOLDERS.map((folder) => join(folder, name)));

/** The path of the browser: $CHROMIUM, or else the first of the known names on $PATH; undefined if there is none. */
export const CHROMIUM = [process.env.CHROMIUM ?? PLACES].flat().find((path) => existsSync(path));

export const HOW_TO_INSTALL = `\
This needs Chromium, and ${process.env.CHROMIUM ?? NAMES.join(", or ")} does not exist.
  Debian:    apt-get install chromium
  elsewhere: install Chromium or Chrome and set CHROMIUM=/path/of/its/program`;
