// The page's own script: who this page is, what it remembers, and the few things Gradio's components cannot do.
// Everything waits for facts, never for a time. Gradio calls the functions of `atelier` from its events.
"use strict";

window.atelier = (() => {
  const TITLE = "Atelier";
  const TYPED = "atelier-typed"; // {name of a control: its value}
  const PLACE = "atelier-place"; // which tab is selected and what is unfolded
  let restored = false; // until then the form holds defaults, which must not overwrite what was saved
  let awaited = 0; // answers of the server that bring back the rest: source pictures, the model's line

  // Who

  function random() {
    return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  function kept(storage, key) {
    try {
      const found = storage.getItem(key);
      if (/^[0-9a-f]{32}$/.test(found ?? "")) return found;
      const made = random();
      storage.setItem(key, made);
      return made;
    } catch {
      return random(); // storage is forbidden: this visit only
    }
  }

  // "owner.page": the browser, which keeps its pictures of today, and this tab of it, which keeps its job on a reload.
  const visitor = () => `${kept(localStorage, "atelier-owner")}.${kept(sessionStorage, "atelier-page")}`;

  // A closed page leaves the queue to others; one that sleeps, on a phone that is locked, says nothing and comes back.
  window.addEventListener("pagehide", () => {
    const told = new Blob([JSON.stringify({ data: [visitor()] })], { type: "application/json" });
    navigator.sendBeacon("gradio_api/run/leaving", told);
  });

  // What was typed

  function fits(rule, value) {
    if (rule.kind === "list") return Array.isArray(value) && value.every((each) => typeof each === "string");
    if (rule.choices) return rule.choices.includes(value);
    if (rule.kind === "number") return Number.isFinite(value) && value >= rule.low && value <= rule.high;
    if (rule.kind === "string") return typeof value === "string" && value.length <= 20000;
    return typeof value === rule.kind;
  }

  // Two windows of one browser do not mix what is typed: each has a memory of its own, and a new one begins with the
  // newest of all.
  function recalled(key) {
    for (const storage of ["sessionStorage", "localStorage"]) {
      try {
        const found = JSON.parse(window[storage].getItem(key));
        if (found && typeof found === "object") return found;
      } catch { /* damaged, or storage is forbidden */ }
    }
    return {};
  }

  function keep(key, change) {
    const all = JSON.stringify({ ...recalled(key), ...change });
    for (const storage of ["sessionStorage", "localStorage"]) {
      try {
        window[storage].setItem(key, all);
      } catch { /* storage is forbidden or full */ }
    }
  }

  const typed = () => recalled(TYPED);

  function save(names, values) {
    if (restored) keep(TYPED, Object.fromEntries(names.map((name, i) => [name, values[i]])));
    return [];
  }

  function isNewVisit() {
    try {
      return !sessionStorage.getItem("atelier-page");
    } catch {
      return false;
    }
  }

  // A reload brings back what was typed; a new visit does too, but for what the default presets say.
  // tasks: the forms that have presets; the box of each names the one that was taken.
  async function restore(rules, answers, model, tasks) {
    const wanted = isNewVisit() ? typed().model ?? model : null;
    const saved = { ...typed(), ...(wanted ? atelier.preset.defaults(wanted) : {}) };
    const names = tasks.map((task) => atelier.preset.taken(task, wanted));
    // Nothing is said about the others: to set a value, even the one that is there, is slow on a page of hundreds.
    // But a number that may be left out is told to stay empty, or it would become 0.
    const untold = (rule) => (rule.empty ? null : { __type__: "update" });
    const back = rules.map((rule) => (fits(rule, saved[rule.name]) ? saved[rule.name] : untold(rule)));
    await returnToPlace();
    explain();
    awaited = answers;
    restored = true;
    return [visitor(), ...back, ...names];
  }

  const answered = () => (awaited--, []);
  const settled = () => restored && awaited <= 0;

  // Another model likes other values. moves: JSON, {field: [what the old model likes, what the new one likes]}. A box
  // that holds anything but the old model's value was set by a person, and stays.
  function move(names, moves, values) {
    const wanted = JSON.parse(moves);
    return values.map((value, i) => {
      const [old, now] = wanted[names[i]] ?? [];
      return now !== undefined && value === old ? now : { __type__: "update" };
    });
  }

  // Where one was

  const place = () => recalled(PLACE);
  const note = (change) => keep(PLACE, change);

  const chosen = () => document.querySelector('#tabs [role="tab"][aria-selected="true"]');
  // Tabs for which a narrow page has no room are in a menu, where they have no id, only their label.
  const folded = () => [...document.querySelectorAll("#tabs .overflow-dropdown button")];
  const unfolded = (block) => block.querySelector(":scope > button")?.classList.contains("open");

  const tabButton = (tab, label) => document.querySelector(`#tabs [role="tab"][data-tab-id="${CSS.escape(String(tab))}"]`)
    ?? folded().find((each) => each.textContent.trim() === label);

  function turnTo(tab, label) {
    tabButton(tab, atelier.word(label))?.click();
    return [];
  }

  async function returnToPlace() {
    const { tab, label, open, lab } = place();
    const button = tabButton(tab, label);
    if (button && button !== chosen()) button.click();
    await until(() => (!button || chosen()?.dataset.tabId === tab) && ready());
    labButton(lab)?.click();
    for (const id of Array.isArray(open) ? open : []) {
      const block = document.getElementById(id);
      if (block?.classList.contains("more") && !unfolded(block)) block.querySelector(":scope > button")?.click();
    }
  }

  // The pages of the lab; those for which there is no room are in a menu, by their label.
  const labPages = '#lab-pages [role="tab"]';
  const labButton = (label) => label && [...document.querySelectorAll(`${labPages}, #lab-pages .overflow-dropdown button`)]
    .find((each) => each.textContent.trim() === label && each.getAttribute("aria-selected") !== "true");

  function noteLabPage() {
    if (restored) note({ lab: document.querySelector(`${labPages}[aria-selected="true"]`)?.textContent.trim() });
    until(ready).then(explain);
    return [];
  }

  function noteTab([tab, label]) {
    if (restored) note({ tab, label: atelier.word(label) });
    until(ready).then(explain);
    return [];
  }

  // What Gradio calls its own parts, it says in English only; and some are made when they are needed.
  const NAMED = "[aria-label], button[title]";

  function rename(part) {
    for (const name of ["aria-label", "title"]) {
      const said = part.getAttribute(name);
      if (said && atelier.word(said) !== said) part.setAttribute(name, atelier.word(said));
    }
  }

  for (const kind of ["focusin", "pointerover"]) {
    document.addEventListener(kind, (event) => {
      const part = event.target.closest?.(NAMED);
      if (part) rename(part);
      const line = event.target.closest?.(".line input"); // what is cut at its end is told whole
      if (line) line.title = line.scrollWidth > line.clientWidth ? line.value : "";
    });
  }

  // Tooltips are hidden from screen readers until they show, and some of Gradio's boxes have no label of their own.
  function explain() {
    for (const field of document.querySelectorAll(".block :is(textarea, input, select)")) {
      const block = field.closest(".block");
      const name = block.querySelector('[data-testid="block-info"]')?.textContent.trim();
      const help = block.querySelector(".info-text")?.textContent.trim();
      if (name && !field.ariaLabel && !field.labels?.length) field.ariaLabel = name;
      if (help) field.setAttribute("aria-description", help);
    }
    document.querySelectorAll(NAMED).forEach(rename);
    for (const [id, words] of Object.entries(window.atelierTips ?? {})) {
      for (const part of document.querySelectorAll(id.startsWith("-") ? `[id$="${id}"]` : `#${id}`)) {
        part.title = atelier.word(words);
        for (const field of part.querySelectorAll("input, textarea")) field.setAttribute("aria-description", part.title);
      }
    }
  }

  document.addEventListener("click", (event) => {
    if (!event.target.closest?.(".more > button")) return;
    requestAnimationFrame(() => {
      const seen = [...document.querySelectorAll(".more")];
      const before = (place().open ?? []).filter((id) => !seen.some((block) => block.id === id));
      note({ open: [...before, ...seen.filter(unfolded).map((block) => block.id)] });
    });
  });

  const brushIn = (editor) => [...(editor?.querySelectorAll("button[aria-label]") ?? [])]
    .find((each) => ["Brush", atelier.word("Brush")].includes(each.ariaLabel));

  // A tab is built when it is first opened. A value that reaches one of its components earlier is lost, and a picture
  // that reaches the mask editor before its tools are there as well.
  function ready() {
    const panel = document.getElementById(chosen()?.getAttribute("aria-controls"));
    if (!panel?.querySelector(".workspace .results")) return false;
    const editor = panel.querySelector(".mask-editor");
    return panel.id === "tab-inpaint" ? Boolean(brushIn(editor)) : true;
  }

  function until(fact) {
    return new Promise((resolve) => {
      const look = () => fact() && (watch.disconnect(), resolve());
      const watch = new MutationObserver(look);
      watch.observe(document.body, { childList: true, subtree: true, attributes: true });
      look();
    });
  }

  // On a phone what was chosen lies below the list.
  function reach(id) {
    const place = document.getElementById(id);
    if (place && window.innerWidth <= 900) place.scrollIntoView({ block: "start", behavior: "smooth" });
    return [];
  }

  // Running

  const visible = (selector) => [...document.querySelectorAll(selector)].find((each) => each.offsetParent);

  function generate() {
    visible("button.generate, .generate button")?.click();
  }

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
    event.preventDefault();
    event.stopPropagation(); // a text box would take it as its own submit
    generate();
  }, true);

  const barOf = (element) => element?.closest(".workspace")?.querySelector(".bar");
  const isRunning = (element) => barOf(element)?.dataset.state === "running";

  // Said at once: what is painted may take seconds to get to the server. said: what the line says in mid-run. On a phone
  // the place of the result may be out of sight.
  function starting(id, said) {
    const button = document.getElementById(id);
    if (isRunning(button)) return said;
    if (window.innerWidth <= 900) {
      const place = button.closest(".workspace");
      const stage = place.querySelector(".stage"); // a page of the lab has none
      (stage ?? place.querySelector(".results")).scrollIntoView({ block: stage ? "nearest" : "start", behavior: "smooth" });
    }
    return atelier.word("Starting ...");
  }

  // A Stop that comes before the run has begun would stop nothing, so it is pressed again then.
  let early = null;

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.('.generate, .while-running, [id*="-again-"]');
    if (barOf(button)) early = button.id.endsWith("-stop") && !isRunning(button) ? button : null;
  }, true);

  function stopEarly() {
    if (!early || !isRunning(early)) return;
    const button = early;
    early = null;
    button.click();
  }

  function duration(seconds) {
    return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  }

  // The title says how long it takes, so one may look at another window meanwhile.
  function tellTitle() {
    const bar = [...document.querySelectorAll(".bar")].find((each) => each.dataset.state === "running");
    const left = Number(bar?.dataset.left);
    const title = bar ? `${left > 0 ? duration(left) : "..."} · ${TITLE}` : TITLE;
    if (document.title !== title) document.title = title;
  }

  // News for screen readers, and the title

  function start() {
    const live = document.createElement("div");
    live.setAttribute("role", "status");
    live.className = "spoken";
    document.body.append(live);
    let said = "";
    new MutationObserver(() => {
      tellTitle();
      stopEarly();
      const box = visible(".status textarea, .status input");
      const words = box?.value ?? "";
      if (words !== said && !/^\w+ \d+ /.test(words)) live.textContent = said = words;
    }).observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-state", "data-left"] });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();

  return { fits, save, restore, move, answered, settled, visible, generate, starting, reach, turnTo, noteTab, noteLabPage };
})();
