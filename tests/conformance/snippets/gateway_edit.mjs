// The request of the gateway's page, by plain HTTP as it shows it, with its own input; only the base URL is ours.
import assert from "node:assert/strict";

const headers = { Authorization: `Bearer ${process.env.REPLICATE_API_TOKEN}`, "Content-Type": "application/json" };
const post = (input) =>
  fetch(`${process.env.SANDBOX}/replicate/v1/models/prunaai/vace-14b/predictions`, {
    method: "POST",
    headers,
    body: JSON.stringify({ version: "51299232dc3d0946d5f5ed74935d85243e172698f747d291460db1e6ef3669fb", input }),
  });
const files = "https://replicate.delivery/pbxt/horse";
const inputs = [
  {
    seed: -1,
    size: "832*480",
    prompt: "A man rides a horse over a vast grassland.",
    src_mask: `${files}/src_mask.mp4`,
    frame_num: 17,
    src_video: `${files}/src_video.mp4`,
    speed_mode: "Extra Juiced 🚀 (even more speed)",
    sample_shift: 16,
    sample_steps: 50,
    sample_solver: "unipc",
    src_ref_images: [`${files}/src_ref_image_1.png`],
    sample_guide_scale: 5,
  },
  { prompt: "A man rides a horse.", frame_num: 24, size: "480*832" },
];
for (const input of inputs) {
  const reply = await post(input);
  assert.equal(reply.status, 200);
  let told = await reply.json();
  assert.deepEqual(Object.keys(told.urls).sort(), ["cancel", "get", "stream", "web"]);
  while (["starting", "processing"].includes(told.status)) {
    told = await (await fetch(`${process.env.SANDBOX}/replicate/v1/predictions/${told.id}`, { headers })).json();
  }
  assert.equal(told.status, "succeeded", told.error);
  assert.equal((await fetch(told.output)).headers.get("content-type"), "video/mp4");
}
const refused = await post({ prompt: "x", size: "1*1" });
assert.equal(refused.status, 422);
const [field] = (await refused.json()).invalid_fields;
assert.deepEqual([field.type, field.field], ["enum", "input.size"]);
