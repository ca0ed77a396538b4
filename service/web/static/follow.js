/* Follows a round (or the relay) without reload.

   The page's [data-follow] says where to ask, and [data-state] and [data-note] what it shows now. The answer is HTML
   with the same [data-part]s as the page: what differs is put in place. When the state differs, the whole page is asked
   for, because then the buttons change too; that is also when a screen reader hears of it. */
"use strict";

(() => {
  const head = document.querySelector("[data-follow]");
  if (!head) return;

  const EVERY = 2000, LONGEST = 60000; // milliseconds
  let failures = 0, countAt = Date.now() + rest(document), timer = 0, asking = false;

  const voice = document.createElement("p");
  voice.className = "visually-hidden";
  voice.setAttribute("aria-live", "polite");
  head.after(voice);

  async function ask(address) {
    const answer = await fetch(address, { redirect: "manual", headers: { Accept: "text/html" } });
    if (answer.status >= 500 || answer.status === 429) throw new Error(answer.status);
    return answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null; // null: not for us any more
  }

  async function look() {
    if (asking || document.hidden) return;
    asking = true;
    try {
      const address = new URL(head.dataset.follow, location);
      if (Date.now() < countAt) address.searchParams.set("books", "no");
      const fresh = await ask(address);
      if (fresh === null) delete head.dataset.follow;
      else await take(fresh);
      failures = 0;
    } catch {
      failures += 1;
    }
    asking = false;
    show();
    if (head.dataset.follow) timer = setTimeout(look, Math.min(EVERY * 2 ** failures, LONGEST));
  }

  async function take(fresh) {
    const now = fresh.querySelector("[data-state]").dataset;
    if (now.state === head.dataset.state && now.note === head.dataset.note) return put(fresh);
    const page = await ask(head.dataset.page);
    if (page === null) return;
    put(page);
    const there = page.querySelector("[data-state]").dataset;
    head.dataset.state = there.state;
    head.dataset.note = there.note;
    if (!there.follow) delete head.dataset.follow;
    voice.textContent = there.says;
  }

  function put(fresh) {
    for (const part of fresh.querySelectorAll("[data-part]")) {
      const old = document.querySelector(`[data-part="${part.dataset.part}"]`);
      if (!old || (bare(old) === bare(part) && old.hidden === part.hidden)) continue;
      const held = old.contains(document.activeElement);
      old.innerHTML = part.innerHTML;
      old.hidden = part.hidden;
      if (held) hold(old);
    }
    if (fresh.querySelector("[data-rest]")) countAt = Date.now() + rest(fresh);
  }

  /* Each page has another token, which is no difference to anybody. */
  function bare(part) {
    return part.innerHTML.replace(/name="csrf_token" value="[^"]*"/g, "").replace(/ data-rest="[^"]*"/g, "");
  }

  /* The focused element has gone: who works by keyboard goes on at the same place. */
  function hold(part) {
    const place = part.querySelector("h2") || part;
    place.tabIndex = -1;
    place.focus({ preventScroll: true });
  }

  function rest(page) {
    const books = page.querySelector("[data-rest]");
    return books ? 1000 * books.dataset.rest : 0;
  }

  function show() {
    const mode = !head.dataset.follow ? "plain" : failures > 1 ? "lost" : "followed";
    head.dataset.mode = mode;
    for (const words of document.querySelectorAll("[data-when]")) {
      words.hidden = !words.dataset.when.split(" ").includes(mode);
    }
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (head.dataset.follow) look();
  });
  timer = setTimeout(look, EVERY);
  show();
})();
