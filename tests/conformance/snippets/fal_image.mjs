// The snippets of fal's page: subscribe, the queue by hand, and a file of one's own. fal's hosts lead to the sandbox.
import assert from "node:assert/strict";
import { fal } from "@fal-ai/client";

fal.config({
  credentials: process.env.FAL_KEY,
  requestMiddleware: async (request) => ({
    ...request,
    url: request.url.replace(/^https:\/\/(queue\.fal\.run|rest\.(alpha\.)?fal\.ai)/, process.env.SANDBOX),
  }),
});
const endpoint = "fal-ai/sa2va/8b/image";
const input = {
  prompt:
    "Could you please give me a brief description of the image? Please respond with interleaved segmentation masks " +
    "for the corresponding parts of the answer.",
  image_url: "https://raw.githubusercontent.com/facebookresearch/segment-anything-2/main/notebooks/images/truck.jpg",
};
const seen = [];
const result = await fal.subscribe(endpoint, {
  input,
  logs: true,
  onQueueUpdate: (update) => {
    seen.push(update.status);
    if (update.status === "IN_PROGRESS") update.logs.map((log) => log.message);
  },
});
assert.ok(result.requestId);
assert.match(result.data.output, /\[SEG\]/);
assert.equal(result.data.masks[0].content_type, "image/png");
assert.ok((await fetch(result.data.masks[0].url)).ok);
assert.equal(seen.at(-1), "COMPLETED");

const { request_id: requestId } = await fal.queue.submit(endpoint, { input });
let status = await fal.queue.status(endpoint, { requestId, logs: true });
while (status.status !== "COMPLETED") status = await fal.queue.status(endpoint, { requestId, logs: true });
assert.ok((await fal.queue.result(endpoint, { requestId })).data.masks.length);

const url = await fal.storage.upload(new File([Buffer.from(process.env.PICTURE, "base64")], "p.png", { type: "image/png" }));
assert.ok((await fal.subscribe(endpoint, { input: { ...input, image_url: url } })).data.output);
