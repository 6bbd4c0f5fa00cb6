// Shows calls arriving. Without this script the page works as well: reload it to see more.
//
// One request at a time waits at /_zasync/calls/ID?wait=SECONDS. The server answers it when the
// call changes, or when the seconds are over; the browser asks for nothing in between.
"use strict";

(() => {
  // Seconds that a request waits. What changes is answered at once; but of several calls each has
  // its turn, so that a turn is short while another one may come, or there is progress to be seen.
  const SHORT = 2;
  const LONG = 15;
  const YOUNG = 5; // looks at a page's calls after which one that waits is likely to go on so
  const etags = new Map();
  // Not location: a form that was not taken leaves the page at the form's own address.
  const HOME = document.body.dataset.home;

  const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
  const openCalls = () => [...document.querySelectorAll("[data-call]")];

  async function look(item, mayTakeLong) {
    const link = item.dataset.call;
    const wait = mayTakeLong && item.dataset.state !== "running" ? LONG : SHORT;
    const headers = { Accept: "application/json" };
    if (etags.has(link)) headers["If-None-Match"] = etags.get(link);
    const answer = await fetch(`${link}?wait=${wait}`, { headers, cache: "no-store" });
    if (answer.status === 404) return { is_final: true };
    if (answer.status === 304) return { unchanged: true, after: retryAfter(answer) };
    if (!answer.ok) throw new Error(`${answer.status}`);
    etags.set(link, answer.headers.get("ETag"));
    const call = await answer.json();
    show(item, call);
    return { is_final: call.finished !== null, after: retryAfter(answer) };
  }

  const retryAfter = (answer) => Number(answer.headers.get("Retry-After")) || 1;

  function show(item, call) {
    item.dataset.state = call.state;
    item.querySelector(".state").textContent = call.state;
    const { fraction, message } = call.progress;
    const note = call.cancel_requested ? "stopping" : message || call.waiting_reason || "";
    item.querySelector(".note bdi").textContent = note;
    const bar = item.querySelector("progress");
    if (fraction === null) {
      bar.removeAttribute("value");
    } else {
      bar.max = 100;
      bar.value = Math.round(fraction * 100);
    }
  }

  // What has ended has changed the shelf: take the page's parts as the server renders them.
  async function refresh() {
    const times = () => [...document.querySelectorAll("#shelf time")];
    const known = new Set(times().map((time) => time.dateTime));
    const answer = await fetch(HOME, { cache: "no-store" });
    if (!answer.ok) throw new Error(`${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["calls", "shelf", "reports", "ended"]) {
      const [old, fresh] = [document.getElementById(id), page.getElementById(id)];
      if (!fresh) return location.assign(HOME); // logged out meanwhile
      // Within the old section, which is what screen readers listen to.
      const focused = old.contains(document.activeElement) ? nameOf(document.activeElement) : null;
      old.replaceChildren(...fresh.childNodes);
      if (focused !== null) focusOn(old, focused);
    }
    for (const time of times()) {
      if (!known.has(time.dateTime)) time.closest("li").classList.add("new");
    }
  }

  // Who is somewhere on the page with the keyboard stays there, if that is still there.
  // Two links may have one title: what a button or a link does tells them apart.
  const nameOf = ({ form, href }) =>
    form ? `${form.action} ${form.elements.url?.value ?? ""}` : href;

  function focusOn(section, name) {
    const all = [...section.querySelectorAll("a, button")];
    all.find((element) => nameOf(element) === name)?.focus({ preventScroll: true });
  }

  async function follow() {
    let failures = 0;
    for (let turn = 0; openCalls().length > 0; turn += 1) {
      const items = openCalls();
      try {
        const began = performance.now();
        const seen = await look(items[turn % items.length], items.length === 1 && turn > YOUNG);
        failures = 0;
        if (seen.is_final) await refresh();
        // Answered at once: others are waiting already, so come again when we are told to.
        else if (performance.now() - began < 500) await pause(Math.min(seen.after, SHORT));
      } catch {
        failures += 1;
        await pause(Math.min(30, 2 ** failures));
      }
    }
  }

  follow();
})();
