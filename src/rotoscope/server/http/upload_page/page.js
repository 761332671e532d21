"use strict";
// Sends a file in parts, each after the other; what the server has of it decides where it goes on.
(() => {
  const TRIES = 8, LOOK = 2000;
  const byId = (id) => document.getElementById(id);
  const main = byId("upload"), file = byId("file"), drop = byId("drop"), progress = byId("progress");
  const address = main.dataset.address, most = Number(main.dataset.max);
  let stopped = null;

  const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  const say = (text) => { byId("status").textContent = text; };
  const complain = (text) => { byId("problem").textContent = text; byId("problem").hidden = !text; };
  const show = (state) => {
    for (const id of ["open", "checking", "ready", "closed"]) byId(id).hidden = id !== state;
  };
  const sending = (on) => { byId("form").hidden = on; byId("sending").hidden = !on; };

  // One request; an answer of any status, or null where none came.
  const ask = (method, range, body, onSent) => new Promise((done) => {
    const request = new XMLHttpRequest();
    request.open(method, address);
    request.setRequestHeader("Accept", "application/json");
    if (range) request.setRequestHeader("Content-Range", range);
    if (onSent) request.upload.onprogress = (event) => onSent(event.loaded);
    request.onload = () => {
      let content = {};
      try { content = JSON.parse(request.responseText); } catch { /* an answer without content */ }
      done({ status: request.status, offset: Number(request.getResponseHeader("Upload-Offset") || 0), content });
    };
    request.onerror = request.onabort = request.ontimeout = () => done(null);
    stopped = () => request.abort();
    request.send(body);
  });

  const finish = (content) => {
    byId("link").value = content.artifact;
    say("");
    complain("");
    show("ready");
    byId("done").focus();
  };

  const refuse = (content) => {
    const problem = content.error || { message: "The server cannot take the file now.", hint: "Try again later." };
    sending(false);
    say("");
    complain(`${problem.message} ${problem.hint}`.trim());
    if (problem.code === "upload_expired" || problem.code === "unknown_upload") show("closed"); else show("open");
    file.focus();
  };

  const waitForCheck = async (total) => {
    say("The file is being checked.");
    show("checking");
    for (;;) {
      const answer = await ask("PUT", `bytes */${total}`, null);
      if (answer && (answer.status === 200 || answer.status === 201)) return finish(answer.content);
      if (answer && answer.status === 308) return refuse({ error: { message: "The file did not arrive whole.", hint: "Send it again." } });
      if (answer && answer.status >= 400 && answer.status < 500 && answer.status !== 409) return refuse(answer.content);
      await pause(LOOK);
    }
  };

  const move = (done, total) => {
    const share = total ? Math.floor(100 * done / total) : 0;
    progress.value = share;
    if (share % 10 === 0) say(`${share} % sent`);
  };

  const send = async (chosen) => {
    if (!chosen) return complain("Choose a file first.");
    if (!chosen.size) return complain("The file is empty. Choose another one.");
    if (chosen.size > most) return complain(`The file has ${Math.ceil(chosen.size / 1e6)} MB; at most ${Math.floor(most / 1e6)} MB are taken.`);
    let stop = false, offset = 0, failures = 0;
    complain("");
    byId("progress-name").textContent = `Sending ${chosen.name}`;
    sending(true);
    byId("stop").onclick = () => { stop = true; stopped(); };
    byId("stop").focus();
    await ask("DELETE", null, null); // what came of another file
    while (!stop) {
      const end = Math.min(offset + Number(main.dataset.part), chosen.size), last = end === chosen.size;
      move(offset, chosen.size);
      const answer = await ask("PUT", `bytes ${offset}-${end - 1}/${chosen.size}`, chosen.slice(offset, end),
        (sent) => { move(offset + sent, chosen.size); if (last && sent >= end - offset) say("The file is being checked."); });
      if (stop) break;
      if (answer && answer.status === 200 || answer && answer.status === 201) return finish(answer.content);
      if (answer && answer.status === 202) return waitForCheck(chosen.size);
      if (answer && answer.status === 308) { offset = answer.offset; failures = 0; continue; }
      if (answer && answer.status === 409 && answer.content.error?.code === "out_of_order") { offset = answer.offset; continue; }
      if (answer && answer.status === 409 && answer.content.error?.code === "upload_busy") return waitForCheck(chosen.size);
      if (answer && answer.status < 500 && answer.status !== 408 && answer.status !== 429) return refuse(answer.content);
      failures += 1;
      if (failures > TRIES) return refuse(answer ? answer.content : { error: { message: "The server cannot be reached.", hint: "Try again later." } });
      say("The connection was lost; trying again.");
      await pause(Math.min(1000 * 2 ** (failures - 1), 15000));
      const state = await ask("PUT", `bytes */${chosen.size}`, null);
      if (state && (state.status === 200 || state.status === 201)) return finish(state.content);
      if (state && state.status === 202) return waitForCheck(chosen.size);
      if (state && state.status === 308) offset = state.offset;
    }
    sending(false);
    say("Stopped. Nothing was taken.");
    file.focus();
  };

  const look = (chosen) => {
    const picture = byId("preview");
    if (picture.src) URL.revokeObjectURL(picture.src);
    picture.hidden = !(chosen && chosen.type.startsWith("image/"));
    if (!picture.hidden) picture.src = URL.createObjectURL(chosen);
  };
  const take = (list) => {
    if (!list || !list.length || byId("open").hidden || byId("form").hidden) return;
    if (list.length > 1) return complain("One file is taken. Drop one.");
    file.files = list;
    look(list[0]);
    send(list[0]);
  };

  byId("preview").onerror = () => { byId("preview").hidden = true; };
  for (const one of document.querySelectorAll(".with-script")) one.hidden = false;
  byId("form").addEventListener("submit", (event) => { event.preventDefault(); send(file.files[0]); });
  file.addEventListener("change", () => { complain(""); look(file.files[0]); });
  document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); take(event.dataTransfer.files); });
  document.addEventListener("paste", (event) => take(event.clipboardData.files));
  byId("copy").addEventListener("click", async () => {
    byId("link").select();
    try { await navigator.clipboard.writeText(byId("link").value); say("Copied."); }
    catch { say("Press Ctrl+C or Command+C to copy."); }
  });
  if (main.dataset.state === "checking") waitForCheck(main.dataset.total);
})();
