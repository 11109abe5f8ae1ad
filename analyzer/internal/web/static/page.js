// Keeps the page up to date: fetches its live part every few seconds and
// replaces the sections that changed. What the reader opened, selected or
// focused stays as it is. Nothing from the data is ever run as code.
"use strict";
(() => {
  const every = 4000, limit = 15000;
  const live = document.getElementById("live"), text = document.getElementById("live-text");
  const main = document.getElementById("now");
  const shown = new Map(); // section id to the HTML that the server last sent for it

  // units are the parts of the page that are replaced one by one.
  const units = (root) => [...root.querySelectorAll("section[id], footer[id]")];

  const remember = (root) => { shown.clear(); for (const u of units(root)) shown.set(u.id, u.outerHTML); };

  const selectionIn = (node) => {
    const s = document.getSelection();
    return s && !s.isCollapsed && node.contains(s.anchorNode);
  };

  function carryOver(old, fresh) {
    for (const d of old.querySelectorAll("details[open][id]")) {
      const same = fresh.querySelector("#" + CSS.escape(d.id));
      if (same) same.open = true;
    }
    const scrolled = [...old.querySelectorAll("pre")].filter((p) => p.scrollTop);
    for (const p of scrolled) {
      const home = p.closest("details[id]");
      const same = home && fresh.querySelector("#" + CSS.escape(home.id) + " pre");
      if (same) requestAnimationFrame(() => { same.scrollTop = p.scrollTop; });
    }
  }

  // focusPath tells where the focus is in terms that survive a replacement.
  function focusPath(old) {
    const a = document.activeElement;
    if (!a || !old.contains(a)) return null;
    if (a.id) return "#" + CSS.escape(a.id);
    const home = a.closest("details[id]");
    if (home) return "#" + CSS.escape(home.id) + " > " + (a.tagName === "SUMMARY" ? "summary" : "* " + a.tagName.toLowerCase());
    return a.href ? 'a[href="' + CSS.escape(a.getAttribute("href")) + '"]' : null;
  }

  function apply(html) {
    const doc = new DOMParser().parseFromString("<main>" + html + "</main>", "text/html");
    const fresh = units(doc), now = units(main);
    if (fresh.map((u) => u.id).join() !== now.map((u) => u.id).join()) { // another layout: an error came or went
      const next = doc.querySelector("main");
      carryOver(main, next);
      remember(next);
      main.replaceChildren(...next.childNodes);
      return;
    }
    for (const unit of fresh) {
      const sent = unit.outerHTML, old = document.getElementById(unit.id);
      if (shown.get(unit.id) === sent || selectionIn(old)) continue;
      carryOver(old, unit);
      const focus = focusPath(old);
      shown.set(unit.id, sent);
      old.replaceWith(unit);
      if (focus) unit.parentNode.querySelector(focus)?.focus({ preventScroll: true });
    }
  }

  function say(state, words) {
    live.className = "live " + state;
    if (text.textContent !== words) text.textContent = words;
  }

  async function update() {
    try {
      const answer = await fetch("/now", { signal: AbortSignal.timeout(limit), cache: "no-store" });
      if (!answer.ok) throw new Error("status " + answer.status);
      apply(await answer.text());
      say("on", "live");
    } catch {
      say("lost", "the analyzer does not answer: what you see is old");
    }
  }

  async function loop() {
    for (;;) {
      await new Promise((done) => setTimeout(done, every));
      if (!document.hidden) await update();
    }
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const code = button.parentNode.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch { // not a secure origin: select it, so that Ctrl-C copies
      const s = document.getSelection();
      s.selectAllChildren(code);
      button.textContent = "selected";
    }
    setTimeout(() => { button.textContent = "copy"; }, 2000);
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) update(); });

  // openHash opens the incident or finding that the address names.
  function openHash() {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (let d = target.closest("details"); d; d = d.parentElement.closest("details")) d.open = true;
    target.scrollIntoView({ block: "nearest" });
  }
  addEventListener("hashchange", openHash);

  remember(main);
  openHash();
  say("on", "live");
  loop();
})();
