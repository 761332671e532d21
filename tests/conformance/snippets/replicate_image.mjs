// The image snippet of the provider's page; only the base URL is ours.
import assert from "node:assert/strict";
import { writeFile, readFile } from "node:fs/promises";
import Replicate from "replicate";

const replicate = new Replicate({ auth: process.env.REPLICATE_API_TOKEN, baseUrl: `${process.env.SANDBOX}/v1` });
const output = await replicate.run(
  "bytedance/sa2va-4b-image:ccf8e58352ce5b2a6cbf5cb68b947ca3bc62009ce66e82071eeae14555414411",
  {
    input: {
      image: "https://replicate.delivery/pbxt/snowboarder/replicate-prediction.webp",
      instruction: "segment the snowboarder",
    },
  },
);
assert.match(output.response, /\[SEG\]/);
assert.match(output.sandbox.notice, /stand in for: https:\/\/replicate\.delivery/);
assert.equal(output.img.url().protocol, "https:");
await writeFile("mask.png", output.img);
const bytes = await readFile("mask.png");
assert.equal(bytes.subarray(1, 4).toString(), "PNG");

await assert.rejects(
  replicate.run("bytedance/sa2va-4b-image:ccf8e58352ce5b2a6cbf5cb68b947ca3bc62009ce66e82071eeae14555414411", {
    input: { instruction: "a dog" },
  }),
  (problem) => problem.response.status === 422 && /- input: image is required/.test(problem.message),
);
const model = await replicate.models.get("bytedance", "sa2va-4b-image");
assert.ok(model.latest_version.openapi_schema.components.schemas.Input.properties.image);
assert.equal((await replicate.models.versions.list("bytedance", "sa2va-4b-image")).results.length, 1);
assert.equal((await replicate.accounts.current()).type, "user");
assert.ok((await replicate.hardware.list()).length);
await assert.rejects(replicate.models.get("nobody", "nothing"), (problem) => problem.response.status === 404);
