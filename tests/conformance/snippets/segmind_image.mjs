// The snippet of Segmind's page. It reads its picture from an address, which Node cannot do; here it is at hand.
import assert from "node:assert/strict";
import axios from "axios";

const url = `${process.env.SANDBOX}/v1/sam-v2-image`;
const headers = { "x-api-key": process.env.SEGMIND_API_KEY };
const data = { base64: false, image: process.env.PICTURE, overlay_mask: true, prompt: "boy" };
const response = await axios.post(url, data, { headers, responseType: "arraybuffer" });
assert.match(response.headers["content-type"], /^image\//);
const first = Number(response.headers["x-remaining-credits"]);
assert.ok(response.data.byteLength > 100);

const encoded = await axios.post(url, { ...data, base64: 1 }, { headers });
assert.ok(encoded.data.image.length > 100);
assert.ok(Number(encoded.headers["x-remaining-credits"]) < first);

for (const [method, key, status] of [["post", "", 401], ["get", "SG_x", 405]]) {
  const refused = await axios({ method, url, data, headers: { "x-api-key": key }, validateStatus: null });
  assert.equal(refused.status, status);
}
