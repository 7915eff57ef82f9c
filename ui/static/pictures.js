// How results are shown, and how the pictures that a run starts from are taken in.
"use strict";

(() => {
  // Pictures: small ones at whole multiples with crisp edges, large ones fitted into their place.

  function fit(image) {
    const stage = image.closest(".stage");
    if (!stage || !image.naturalWidth) return;
    const bar = stage.closest(".workspace")?.querySelector(".bar");
    const preview = bar?.dataset.state === "running" && Number(bar.dataset.width) > 0 && /\.jpe?g$/.test(image.src);
    const width = preview ? Number(bar.dataset.width) : image.naturalWidth;
    const height = preview ? Number(bar.dataset.height) : image.naturalHeight;
    const scale = Math.min(stage.clientWidth / width, stage.clientHeight / height);
    const factor = scale >= 1 ? Math.floor(scale) : scale;
    image.style.width = `${Math.round(width * factor)}px`;
    image.style.height = `${Math.round(height * factor)}px`;
    image.style.imageRendering = factor > 1 ? "pixelated" : "auto";
  }

  // The arrow keys go through the pictures of the strip, in full screen as well.
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const elsewhere = event.ctrlKey || event.metaKey || event.altKey || event.shiftKey
      || event.target.closest?.("input, textarea, select, .source, .before-after, [role=tablist], [role=listbox]");
    if (!step || elsewhere) return;
    const thumbnails = [...(atelier.visible(".strip")?.querySelectorAll("button.thumbnail-item") ?? [])];
    thumbnails[thumbnails.findIndex((each) => each.classList.contains("selected")) + step]?.click();
  });

  const fitAll = () => document.querySelectorAll(".stage .picture img").forEach(fit);

  document.addEventListener("load", (event) => event.target.matches?.(".stage .picture img") && fit(event.target), true);
  window.addEventListener("resize", fitAll);

  const begin = () => new ResizeObserver(fitAll).observe(document.body);
  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);

  function aspect(width, height) {
    let [a, b] = [width, height];
    while (b) [a, b] = [b, a % b];
    const [w, h] = [width / a, height / a];
    const ratio = Math.max(w, h) <= 32 ? `${w}:${h}` : `${(width / height).toFixed(2)}:1`;
    return `${ratio} · ${((width * height) / 1e6).toFixed(2)} MP`;
  }

  // Source pictures: the file itself goes to the server, never what a canvas makes of it.

  function hand(source, file) {
    const input = document.querySelector(`#${source.id.replace(/-source$/, "-upload")} input[type="file"]`);
    if (!input || !file) return;
    const files = new DataTransfer();
    files.items.add(file);
    input.files = files.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }

  const pictureIn = (list) => [...(list ?? [])].find((file) => file.type.startsWith("image/")) ?? list?.[0];
  const take = (event) => (event.preventDefault(), event.stopImmediatePropagation());

  document.addEventListener("change", (event) => {
    const source = event.target.matches?.('input[type="file"]') && event.target.closest(".source");
    if (!source) return;
    take(event);
    hand(source, pictureIn(event.target.files));
    event.target.value = ""; // so that the same file may be chosen again
  }, true);

  document.addEventListener("dragover", (event) => event.target.closest?.(".source") && event.preventDefault(), true);

  document.addEventListener("drop", (event) => {
    const source = event.target.closest?.(".source");
    if (!source || !event.dataTransfer?.files.length) return;
    take(event);
    hand(source, pictureIn(event.dataTransfer.files));
  }, true);

  document.addEventListener("paste", (event) => {
    // Office programs and spreadsheets give a picture of the text along.
    if (event.target.closest?.("textarea, input") && event.clipboardData?.getData("text/plain")) return;
    const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith("image/"));
    const source = file && atelier.visible(".source");
    if (!source) return;
    take(event);
    hand(source, file);
  }, true);

  Object.assign(atelier, { aspect, hand });
})();
