// A page that slept, on a phone that was locked or without a network, has lost its connections and does not know it.
// What still says that it is running is asked for anew, as after a reload.
"use strict";

(() => {
  const NEWS_MS = 4000; // a page that was only out of sight goes on hearing news, and is left alone

  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const running = () => [...document.querySelectorAll('.bar[data-state="running"]')].map((bar) => bar.closest(".workspace"));

  async function reachable() {
    try {
      return (await fetch("gradio_api/app_id", { cache: "no-store" })).ok;
    } catch {
      return false;
    }
  }

  // Whether a part of the page changes within a while.
  function hears(part) {
    return new Promise((resolve) => {
      const watch = new MutationObserver(() => end(true));
      const end = (heard) => (watch.disconnect(), resolve(heard));
      watch.observe(part, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-left", "style"] });
      wait(NEWS_MS).then(() => end(false));
    });
  }

  let waking = false;

  async function wake() {
    if (waking || document.hidden || !running().length) return;
    waking = true;
    while (!document.hidden && !(await reachable())) await wait(1000);
    for (const part of document.hidden ? [] : running()) {
      if (!(await hears(part.querySelector(".report")))) part.querySelector('[id$="-follow"]')?.click();
    }
    waking = false;
  }

  document.addEventListener("visibilitychange", wake);
  for (const kind of ["online", "pageshow"]) window.addEventListener(kind, wake);
})();
