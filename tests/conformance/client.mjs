// An official client for JavaScript: it signs in, and follows a job from an uploaded picture to the file of its mask.
//
//     node client.mjs       its orders, as JSON, are the first line of its standard input
//
// It prints a line of JSON for each thing that it wants or has found: {"open": URL} for a browser, which is answered by
// a line with the address at which the browser arrived, and {"found": ...} at its end.
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const read = async () => (await lines.next()).value;
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const orders = JSON.parse(await read());
const url = new URL(orders.url);
const FINAL = new Set(["succeeded", "failed", "cancelled", "needs_review"]);

class SignIn {
  // What a client must keep of a sign-in; both generations of the SDK take the same form.
  clientMetadataUrl = orders.document;
  clientMetadata = {
    client_name: "The SDK for JavaScript",
    redirect_uris: [orders.callback],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
  };

  get redirectUrl() {
    return orders.callback;
  }
  state() {
    return "a-state-of-the-test";
  }
  clientInformation() {
    return this.client;
  }
  saveClientInformation(client) {
    this.client = client;
  }
  tokens() {
    return this.kept;
  }
  saveTokens(tokens) {
    this.kept = tokens;
  }
  codeVerifier() {
    return this.verifier;
  }
  saveCodeVerifier(verifier) {
    this.verifier = verifier;
  }
  redirectToAuthorization(address) {
    this.address = address;
  }
  discoveryState() {
    return this.discovery;
  }
  saveDiscoveryState(state) {
    this.discovery = state;
  }
}

async function load() {
  if (orders.generation === 1) {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const { UnauthorizedError } = await import("@modelcontextprotocol/sdk/client/auth.js");
    return { Client, StreamableHTTPClientTransport, UnauthorizedError, answerOf: (found) => found.get("code") };
  }
  return { ...(await import("@modelcontextprotocol/client")), answerOf: (found) => found };
}

const { Client, StreamableHTTPClientTransport, UnauthorizedError, answerOf } = await load();
const signIn = orders.token ? undefined : new SignIn();
const options = orders.token
  ? { requestInit: { headers: { Authorization: `Bearer ${orders.token}` } } }
  : { authProvider: signIn };

async function connect() {
  const client = new Client({ name: "clients", version: "1" }, { versionNegotiation: { mode: orders.mode } });
  const transport = new StreamableHTTPClientTransport(url, options);
  try {
    await client.connect(transport);
    return client;
  } catch (error) {
    if (!(error instanceof UnauthorizedError) || signIn?.address === undefined) throw error;
  }
  say({ open: String(signIn.address) });
  const found = new URL(await read()).searchParams;
  if (found.get("state") !== signIn.state()) throw new Error("another state came back");
  await transport.finishAuth(answerOf(found));
  const signedIn = new Client({ name: "clients", version: "1" }, { versionNegotiation: { mode: orders.mode } });
  await signedIn.connect(new StreamableHTTPClientTransport(url, options));
  return signedIn;
}

const client = await connect();
const call = async (name, args) => {
  const answer = await client.callTool({ name, arguments: args });
  if (answer.isError) throw new Error(`${name}: ${JSON.stringify(answer.content)}`);
  return answer.structuredContent;
};

if (orders.renews) signIn.kept = { ...signIn.kept, access_token: "one-that-has-ended" };
const tools = (await client.listTools()).tools.map((tool) => tool.name);
const ticket = await call("upload_media", { name: "a picture" });
const sent = await fetch(ticket.upload_url, { method: "PUT", body: await readFile(orders.picture) });
const segment = { image: (await sent.json()).artifact, box: orders.box };
let answer = await call("segment_image", segment);
// A call whose time is over before its request is checked has no job yet, and says to make it again.
while (!answer.job_id) answer = await call("segment_image", segment);
const first = answer.status;
while (!FINAL.has(answer.status)) answer = await call("get_job", { job_id: answer.job_id, wait_seconds: 45 });
const file = await fetch(answer.masks[0].media.url);
say({
  found: {
    tools,
    upload: sent.status,
    first,
    last: answer.status,
    url: answer.masks[0].media.url,
    file: { status: file.status, bytes: (await file.arrayBuffer()).byteLength, wanted: answer.masks[0].media.file_size },
    renewed: orders.renews && signIn.kept.access_token !== "one-that-has-ended",
    revision: client.getNegotiatedProtocolVersion?.() ?? client.transport.protocolVersion,
    client_id: signIn?.client?.client_id ?? null,
  },
});
await client.close();
process.exit(0);
