/* Answers the challenge of the sign-up form (GET /proof, ALTCHA's protocol) while the reader fills it in. The work is
   done by this same file as a worker, so that the page stays quick. Whatever goes wrong: the form is sent all the same,
   and the server is only stricter then. */
"use strict";

(() => {
  if (typeof document === "undefined") {
    onmessage = async ({ data }) => {
      try { postMessage(await search(data)); } catch { postMessage(null); }
    };
    return;
  }

  const form = document.querySelector("[data-proof]");
  if (!form) return;

  const PATIENCE = 10000, FRESH = 8 * 60000; // milliseconds
  const field = form.elements.altcha, voice = form.querySelector("[data-says]"), source = document.currentScript.src;
  let answered = null, at = 0, sending = false;

  /* The same answer for whoever asks, until it's too old. */
  function solve() {
    if (!answered || Date.now() - at > FRESH) {
      at = Date.now();
      field.value = "";
      answered = work().then((value) => { field.value = value; }, () => {});
    }
    return answered;
  }

  async function work() {
    const answer = await fetch(form.dataset.proof), asked = await answer.json();
    const worker = new Worker(source);
    const number = await new Promise((found, failed) => {
      worker.onmessage = ({ data }) => found(data);
      worker.onerror = failed;
      worker.postMessage(asked);
      setTimeout(failed, PATIENCE);
    }).finally(() => worker.terminate());
    if (number === null) throw new Error();
    const { algorithm, challenge, salt, signature } = asked;
    return btoa(JSON.stringify({ algorithm, challenge, number, salt, signature }));
  }

  async function send(event) {
    event.preventDefault();
    if (sending) return;
    sending = true;
    const say = setTimeout(() => { voice.textContent = voice.dataset.says; }, 150);
    await Promise.race([solve(), new Promise((done) => setTimeout(done, PATIENCE))]);
    clearTimeout(say);
    form.submit();
    setTimeout(again, 3000); // who stopped the page can press once more
  }

  function again() {
    answered = null;
    sending = false;
    voice.textContent = field.value = "";
  }

  for (const touch of ["focusin", "pointerdown", "input"]) form.addEventListener(touch, solve, { once: true });
  form.addEventListener("submit", send);
  addEventListener("pageshow", (event) => { if (event.persisted) again(); });
})();

async function search({ algorithm, challenge, salt, maxnumber }) {
  const BATCH = 500, letters = new TextEncoder(), wanted = parseInt(challenge.slice(0, 8), 16);
  for (let first = 0; first <= maxnumber; first += BATCH) {
    const hashes = await Promise.all(
      Array.from({ length: BATCH }, (_, i) => crypto.subtle.digest(algorithm, letters.encode(salt + (first + i))))
    );
    const found = hashes.findIndex((hash) => new DataView(hash).getUint32(0) === wanted);
    if (found >= 0) return first + found;
  }
  return null;
}
