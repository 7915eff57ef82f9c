// Before all other scripts: Gradio asks the browser for its language, once, before it runs the page's own script.
(() => {
  const code = document.cookie.match(/(?:^|; )atelier-language=(\w+)/)?.[1];
  if (!code) return;
  Object.defineProperty(navigator, "language", { get: () => code });
  Object.defineProperty(navigator, "languages", { get: () => [code] });
})();
