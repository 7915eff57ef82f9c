// A result can be dragged onto the picture that another tab starts from. Over a tab's name, that tab opens.
"use strict";

(() => {
  let dragged = ""; // address of the picture that is on its way

  const large = (results) => results?.querySelector(".stage .picture img")?.src ?? "";

  window.addEventListener("dragstart", (event) => {
    const results = event.target.closest?.(".results");
    const thumbnail = event.target.closest?.(".strip .thumbnail-item");
    const isOther = thumbnail && !thumbnail.classList.contains("selected");
    dragged = !isOther && (thumbnail || event.target.closest?.(".stage .picture")) ? large(results) : "";
    if (isOther) thumbnail.click(); // a thumbnail is a small copy; what is dragged is the large picture
    if (isOther) event.preventDefault();
  });

  window.addEventListener("dragend", () => (dragged = ""));

  window.addEventListener("dragenter", (event) => {
    const tab = dragged && event.target.closest?.('#tabs [role="tab"]');
    if (tab && tab.getAttribute("aria-selected") !== "true") tab.click();
  });

  // Before all others: a browser may give its own copy of the picture along.
  window.addEventListener("drop", async (event) => {
    const source = event.target.closest?.(".source");
    if (!dragged || !source) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const address = dragged;
    const answer = await fetch(address);
    const file = new File([await answer.blob()], address.split("/").pop(), { type: answer.headers.get("content-type") });
    atelier.hand(source, file);
  }, true);
})();
