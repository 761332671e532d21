// The video snippet of the provider's page; only the base URL is ours, and the film is shorter.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import Replicate from "replicate";

const replicate = new Replicate({ auth: process.env.REPLICATE_API_TOKEN, baseUrl: `${process.env.SANDBOX}/v1` });
const input = {
  aspect_ratio: "16:9",
  duration: 4,
  generate_audio: true,
  prompt: "按 Image 1 的故事版生成视频",
  reference_audios: [],
  reference_images: ["https://replicate.delivery/pbxt/storyboard/sheet.jpeg"],
  reference_videos: [],
  resolution: "480p",
  seed: 99,
};
const output = await replicate.run("bytedance/seedance-2.0", { input });
assert.equal(output.url().protocol, "https:");
await writeFile("film.mp4", output);
assert.equal((await readFile("film.mp4")).subarray(4, 8).toString(), "ftyp");

const events = [];
for await (const event of replicate.stream("bytedance/seedance-2.0", { input })) events.push(event);
assert.deepEqual(events.map((event) => event.event), ["output", "done"]);
