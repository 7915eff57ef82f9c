// What prompt boxes can do that plain text boxes cannot: weights by key, earlier prompts by arrow, marks under mistakes.
"use strict";

(() => {
  const STORE = "atelier-prompts";
  const KEPT = 50; // prompts of each kind
  const STEP = 0.1, TAG_STEP = 0.05, MOST = 10;
  const WORD_ENDS = /[\s.,;:!?"(){}[\]<>|\\/]/;
  const BOXES = '[id$="-prompt"] textarea, [id$="-negative_prompt"] textarea';

  const isBox = (element) => element.matches?.(BOXES);
  const kindOf = (area) => (area.closest(".block").id.endsWith("-negative_prompt") ? "negative" : "prompt");

  // The browser's own undo stays whole this way, and Gradio hears of the change as if it had been typed.
  function write(area, start, end, text) {
    area.setSelectionRange(start, end);
    const done = text ? document.execCommand("insertText", false, text) : start === end || document.execCommand("delete");
    if (done) return;
    area.setRangeText(text, start, end, "end");
    area.dispatchEvent(new Event("input", { bubbles: true }));
  }

  // Weights

  // The innermost pair of marks around a place, as [index of the opening one, index behind the closing one].
  function around(text, from, to, opening, closing) {
    const find = (at, step, wanted, other) => {
      for (let depth = 0; at >= 0 && at < text.length; at += step) {
        if (text[at - 1] === "\\") continue;
        if (text[at] === other) depth++;
        else if (text[at] === wanted && depth-- === 0) return at;
      }
      return -1;
    };
    const start = find(from - 1, -1, opening, closing);
    const end = start < 0 ? -1 : find(to, 1, closing, opening);
    return end < 0 ? null : [start, end + 1];
  }

  const moved = (weight, change) => Number(Math.max(-MOST, Math.min(MOST, weight + change)).toFixed(2));

  function weighTag(area, [start, end], up) {
    const caret = area.selectionStart;
    const parts = area.value.slice(start + 1, end - 1).split(":");
    parts[2] = String(moved(Number(parts[2] ?? 1) || 0, up * TAG_STEP));
    write(area, start, end, `<${parts.join(":")}>`);
    area.setSelectionRange(caret, caret);
  }

  // What is selected, or else the brackets around the cursor, or else the word at it.
  function target(text, from, to) {
    const group = around(text, from, to, "(", ")");
    if (from < to) {
      while (to > from && /\s/.test(text[to - 1])) to--;
      while (from < to && /\s/.test(text[from])) from++;
      if (text[from] === "(" && around(text, from + 1, from + 1, "(", ")")?.[1] === to) return [from, to, true];
      const inside = group && text.slice(group[0] + 1, group[1] - 1).replace(/:[^:]*$/, "").trim();
      return inside === text.slice(from, to) ? [...group, true] : [from, to, false];
    }
    if (group) return [...group, true];
    while (from > 0 && !WORD_ENDS.test(text[from - 1])) from--;
    while (to < text.length && !WORD_ENDS.test(text[to])) to++;
    return [from, to, false];
  }

  function weigh(area, up) {
    const { value: text, selectionStart, selectionEnd } = area;
    const tag = around(text, selectionStart, selectionEnd, "<", ">");
    if (tag && /^<\w+:/.test(text.slice(...tag))) return weighTag(area, tag, up);
    const [start, end, grouped] = target(text, selectionStart, selectionEnd);
    if (start === end) return;
    const [, words, number] = grouped
      ? text.slice(start + 1, end - 1).match(/^([\s\S]*?)(?::\s*([+-]?[\d.]+)\s*)?$/)
      : [null, text.slice(start, end), "1"];
    const weight = moved(number === undefined ? 1.1 : Number(number) || 0, up * STEP);
    write(area, start, end, weight === 1 ? words : `(${words}:${weight})`);
    const at = start + (weight === 1 ? 0 : 1);
    area.setSelectionRange(at, at + words.length); // so that the next press changes the same words
  }

  // Earlier prompts

  function earlier(kind) {
    try {
      const found = JSON.parse(localStorage.getItem(STORE))?.[kind];
      return Array.isArray(found) ? found.filter((text) => typeof text === "string") : [];
    } catch {
      return [];
    }
  }

  function keep(area) {
    const text = area.value.trim();
    if (!text) return;
    const kind = kindOf(area);
    const other = kind === "prompt" ? "negative" : "prompt";
    const list = [text, ...earlier(kind).filter((each) => each !== text)].slice(0, KEPT);
    try {
      localStorage.setItem(STORE, JSON.stringify({ [kind]: list, [other]: earlier(other) }));
    } catch { /* storage is forbidden or full */ }
  }

  const walks = new WeakMap(); // text box -> {at: place in the list, -1 being what was typed, draft}; any other key ends it

  function walk(area, step) {
    const list = earlier(kindOf(area));
    const before = walks.get(area) ?? { at: -1, draft: area.value };
    let at = before.at + step;
    while (step > 0 && at < list.length && list[at] === area.value) at++; // the newest is often still in the box
    if (at < -1 || at >= list.length) return;
    write(area, 0, area.value.length, at < 0 ? before.draft : list[at]);
    walks.set(area, { at, draft: before.draft });
  }

  let pressed = null; // where the cursor stood when an arrow was pressed

  document.addEventListener("keydown", (event) => {
    const area = event.target;
    const up = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!isBox(area) || event.isComposing) return;
    if (!up || event.altKey || event.shiftKey) return void walks.delete(area);
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      weigh(area, up);
    } else if (walks.has(area)) {
      event.preventDefault();
      walk(area, up);
    } else if (area.selectionStart === area.selectionEnd) {
      pressed = { area, up, at: area.selectionStart, text: area.value };
    }
  });

  // An arrow that moves the cursor is the text box's own. One that finds nowhere to go leaves the text.
  document.addEventListener("keyup", (event) => {
    const { area, up, at, text } = pressed ?? {};
    pressed = null;
    if (area !== event.target || !/^Arrow(Up|Down)$/.test(event.key)) return;
    if (area.selectionStart === at && area.selectionEnd === at && area.value === text) walk(area, up);
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".generate");
    button?.closest(".workspace")?.querySelectorAll(BOXES).forEach(keep);
  }, true);

  // Marks

  const marked = new Map(); // id of a box -> {text, marks: [[start, end]]} as the server last said

  function draw(area) {
    const found = marked.get(area.closest(".block").id);
    let layer = area.parentElement.querySelector(".marks");
    const letters = Array.from(area.value); // the server counts characters, not UTF-16 units
    const holds = found?.marks.filter(([, end]) => found.text.slice(0, end).join("") === letters.slice(0, end).join(""));
    if (!holds?.length) return layer?.remove();
    if (!layer) {
      layer = document.createElement("div");
      layer.className = "marks";
      layer.ariaHidden = "true";
      area.before(layer);
      area.addEventListener("scroll", () => (layer.scrollTop = area.scrollTop));
    }
    const style = getComputedStyle(area);
    for (const name of ["font", "letterSpacing", "padding", "tabSize", "textAlign"]) layer.style[name] = style[name];
    layer.style.left = `${area.offsetLeft + area.clientLeft}px`;
    layer.style.top = `${area.offsetTop + area.clientTop}px`;
    layer.style.width = `${area.clientWidth}px`;
    layer.style.height = `${area.clientHeight}px`;
    let at = 0;
    const parts = holds.flatMap(([start, end]) => {
      const mark = document.createElement("mark");
      mark.textContent = letters.slice(start, end).join("");
      const before = letters.slice(at, start).join("");
      at = end;
      return [before, mark];
    });
    layer.replaceChildren(...parts, letters.slice(at).join(""), "\n");
    layer.scrollTop = area.scrollTop;
  }

  function mark(id, said) {
    const area = document.querySelector(`#${id} textarea`);
    const { text = "", marks = [] } = said ? JSON.parse(said) : {};
    marked.set(id, { text: Array.from(text), marks });
    if (area) draw(area);
    return [];
  }

  document.addEventListener("input", (event) => isBox(event.target) && draw(event.target));

  Object.assign(window.atelier, { mark });
})();
