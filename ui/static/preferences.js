// Language, panels, presets, the guide, and telling that a long run has ended. Everything stays in this browser.
"use strict";

(() => {
  const LANGUAGE = "atelier-language", LOOK = "atelier-look", PRESETS = "atelier-presets", GUIDE = "atelier-guide";
  const LONG_S = 10; // a run that took longer is worth a notice

  // Language: Gradio asks the browser (see language/first.js), the server reads the cookie

  const chosenLanguage = () => document.cookie.match(/(?:^|; )atelier-language=(\w+)/)?.[1] ?? "";

  document.documentElement.lang = navigator.language;

  // The few words that scripts write themselves, and those of Gradio's parts; {} stands for a name or a number.
  function word(english) {
    const words = window.atelierWords?.[navigator.language.slice(0, 2)] ?? {};
    if (english in words) return words[english];
    for (const pattern of Object.keys(words).filter((each) => each.includes("{}"))) {
      const [, ...blanks] = english.match(`^${pattern.replaceAll("{}", "(.+)")}$`) ?? [];
      if (blanks.length) return words[pattern].replaceAll("{}", () => blanks.shift());
    }
    return english;
  }

  function speak(code) {
    document.cookie = `${LANGUAGE}=${code ?? ""}; path=/; samesite=lax; max-age=${code ? 31536000 : 0}`;
    location.reload();
    return [];
  }

  // Light or dark: Gradio reads it from the address

  function chosenLook() {
    try {
      return localStorage.getItem(LOOK) ?? "";
    } catch {
      return "";
    }
  }

  function appear(look) {
    try {
      localStorage.setItem(LOOK, look ?? "");
    } catch { /* storage is forbidden: for this visit only */ }
    const address = new URL(location.href);
    if (look) address.searchParams.set("__theme", look);
    else address.searchParams.delete("__theme");
    location.replace(address);
    return [];
  }

  // Panels

  function open(id) {
    const panel = document.getElementById(id);
    if (!panel) return [];
    panel.popover = "auto"; // the browser itself sees to Escape, to a click beside it and to the layer on top
    panel.showPopover?.();
    panel.querySelector(".sheet-close")?.focus();
    return [];
  }

  function shut(id) {
    document.getElementById(id)?.hidePopover?.();
    return [];
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, [contenteditable]");
    if (event.key !== "?" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    open("help-panel");
  });

  // Storage may be forbidden, full, or hold what somebody else wrote

  function load(key) {
    try {
      const found = JSON.parse(localStorage.getItem(key));
      return found && typeof found === "object" ? found : {};
    } catch {
      return {};
    }
  }

  function store(key, value) {
    try {
      localStorage.setItem(key, JSON.stringify(value));
    } catch { /* this visit only */ }
  }

  // The guide

  function guide(seen) {
    store(GUIDE, { seen });
    document.documentElement.classList.toggle("first-visit", !seen);
    return [];
  }

  if (!load(GUIDE).seen) document.documentElement.classList.add("first-visit");

  // Presets: {task: {name: {model, values, default}}}

  let switched = false; // somebody picked a model; else it is a reload, which brings back what was typed

  const names = (task, model) =>
    Object.entries(load(PRESETS)[task] ?? {}).filter(([, each]) => each?.model === model).map(([name]) => name).sort();

  function list(task, model, value) {
    const isDefault = (name) => load(PRESETS)[task][name].default;
    const choices = names(task, model).map((name) => [isDefault(name) ? `${name} ★` : name, name]);
    return { __type__: "update", choices, value };
  }

  function change(task, edit) {
    const all = load(PRESETS);
    edit((all[task] = all[task] ?? {}));
    store(PRESETS, all);
  }

  function values(task, rules, name, model, now) {
    const saved = load(PRESETS)[task]?.[name];
    if (saved?.model !== model) return now;
    return rules.map((rule, i) => (atelier.fits(rule, saved.values?.[rule.name]) ? saved.values[rule.name] : now[i]));
  }

  function keep(task, rules, name, model, now, extra) {
    name = name?.trim();
    if (!name) return list(task, model, name);
    const kept = Object.fromEntries(rules.map((rule, i) => [rule.name, now[i]]));
    change(task, (mine) => {
      if (extra.default) for (const each of Object.values(mine)) if (each.model === model) delete each.default;
      mine[name] = { default: mine[name]?.default, ...extra, model, values: kept };
    });
    return list(task, model, name);
  }

  const defaultOf = (task, model) => names(task, model).find((each) => load(PRESETS)[task][each].default);

  // The name box of a form: its default preset, where it has one.
  function taken(task, model) {
    const name = defaultOf(task, model);
    return name ? list(task, model, name) : { __type__: "update" };
  }

  // What the default presets of a model say, by the names under which the page remembers its controls.
  function defaults(model) {
    const found = {};
    for (const [task, mine] of Object.entries(load(PRESETS))) {
      const chosen = mine?.[defaultOf(task, model)];
      for (const [name, value] of Object.entries(chosen?.values ?? {})) found[`${task}.${name}`] = value;
    }
    return found;
  }

  const preset = {
    defaults, taken,
    list: (task, rules, name, model) => list(task, model, name),
    load: (task, rules, name, model, ...now) => values(task, rules, name, model, now),
    save: (task, rules, name, model, ...now) => keep(task, rules, name, model, now, {}),
    default: (task, rules, name, model, ...now) => keep(task, rules, name, model, now, { default: true }),
    delete(task, rules, name, model) {
      change(task, (mine) => delete mine[name]);
      return list(task, model, name);
    },
    begin(task, rules, name, model, ...now) {
      const wanted = switched ? defaultOf(task, model) : undefined;
      return [list(task, model, switched ? wanted ?? null : name), ...(wanted ? values(task, rules, wanted, model, now) : now)];
    },
  };

  // The end of a long run

  const wants = (id) => document.querySelector(`#${id} input`)?.checked;

  function allow(on) {
    if (on && wants("page-notify")) window.Notification?.requestPermission?.();
    return on;
  }

  function tones() {
    const audio = new AudioContext();
    [660, 880].forEach((pitch, i) => {
      const tone = new OscillatorNode(audio, { frequency: pitch });
      const volume = new GainNode(audio, { gain: 0 });
      const begin = audio.currentTime + i * 0.18;
      volume.gain.setTargetAtTime(0.15, begin, 0.01);
      volume.gain.setTargetAtTime(0, begin + 0.12, 0.04);
      tone.connect(volume).connect(audio.destination);
      tone.start(begin);
      tone.stop(begin + 0.4);
    });
  }

  function ended(seconds, words) {
    if (seconds < LONG_S) return;
    if (wants("page-sound")) tones();
    if (wants("page-notify") && document.hidden && window.Notification?.permission === "granted") {
      new Notification(document.title, { body: words });
    }
  }

  let began = 0; // when the run that is going on was first seen

  function watch() {
    const bars = [...document.querySelectorAll(".bar")];
    const running = bars.some((bar) => bar.dataset.state === "running");
    if (running && !began) began = performance.now();
    if (running || !began) return;
    const seconds = (performance.now() - began) / 1000;
    began = 0;
    const status = [...document.querySelectorAll(".status textarea, .status input")].find((box) => box.offsetParent);
    ended(seconds, status?.value ?? "");
  }

  const start = () => new MutationObserver(watch).observe(document.body, { childList: true, subtree: true });
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();

  Object.assign(window.atelier, {
    allow, appear, chosenLanguage, chosenLook, ended, open, preset, shut, speak, word,
    guideSeen: () => guide(true), guideAgain: () => guide(false), switching: () => ((switched = true), []),
  });
})();
