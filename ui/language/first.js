// Before all other scripts: Gradio asks the browser for its language, and the address for light or dark, once, before
// it runs the page's own script.
(() => {
  let look = "";
  try {
    look = localStorage.getItem("atelier-look");
  } catch { /* storage is forbidden */ }
  const address = new URL(location.href);
  if (look && !address.searchParams.has("__theme")) {
    address.searchParams.set("__theme", look);
    history.replaceState(history.state, "", address);
  }
  const code = document.cookie.match(/(?:^|; )atelier-language=(\w+)/)?.[1];
  if (!code) return;
  Object.defineProperty(navigator, "language", { get: () => code });
  Object.defineProperty(navigator, "languages", { get: () => [code] });
})();
