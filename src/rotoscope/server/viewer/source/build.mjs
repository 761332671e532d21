// Makes one file of the page: node build.mjs FILE FOLDER, where FOLDER has the bundler in its node_modules.
// Script and style are inside the file; nothing is loaded from elsewhere.
import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [file, folder] = process.argv.slice(2).map((path) => resolve(path));
const { build } = createRequire(`${folder}/`)("esbuild");
const here = new URL("./", import.meta.url);
const bundle = (file, more) =>
  build({
    entryPoints: [new URL(file, here).pathname],
    bundle: true,
    minify: true,
    write: false,
    charset: "utf8",
    legalComments: "none",
    target: "es2022",
    ...more,
  }).then((made) => made.outputFiles[0].text.trim());

const script = (await bundle("main.ts", { format: "iife" })).replaceAll("</script", "<\\/script");
const style = await bundle("style.css", { target: ["chrome123", "safari17.5", "firefox120"] });
const page = await readFile(new URL("page.html", here), "utf8");
const whole = page.replace("/*style*/", () => style).replace("/*script*/", () => script);
await writeFile(file, whole);
