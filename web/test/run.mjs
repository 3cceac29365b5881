// `make test-web`: run all tests of this folder, or the files that are named.
//
// One file after another, since one of them measures times. Where Chromium is missing this says how to install
// it; that is an error in CI (the variable CI is set), and none elsewhere.

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { CHROMIUM, HOW_TO_INSTALL } from "./chromium.mjs";

if (!CHROMIUM) {
  console.error(HOW_TO_INSTALL);
  process.exit(process.env.CI ? 1 : 0);
}
const all = readdirSync(import.meta.dirname).filter((name) => name.endsWith(".test.mjs"));
const named = process.argv.slice(2);
const files = named.length > 0 ? named : all.map((name) => join(import.meta.dirname, name));
const done = spawnSync(process.execPath, ["--test", "--test-concurrency=1", ...files], { stdio: "inherit" });
process.exit(done.status ?? 1);
