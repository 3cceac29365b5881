// Says what the playground needs and downloads, and loads it on the reader's click. A plain script, since one that is a
// module does not run on a page opened from disk.

(() => {
  const root = document.querySelector(".playground");
  const [message, button, providers, progress] = ["message", "load", "provider", "progress"].map((name) =>
    root.querySelector(`.playground-${name}`),
  );
  const folder = new URL("./", document.currentScript.src).href;
  const bytes = JSON.parse(root.dataset.bytes);
  const below = "The pictures below need none of this.";

  function problem() {
    if (location.protocol === "file:") {
      return "This page was opened from disk, and browsers let no such page load a network. Serve the folder, for "
        + "example with “python -m http.server”, and open it by its http address.";
    }
    if (typeof WebAssembly === "undefined") return "This browser has WebAssembly switched off, which runs the network.";
    if (typeof DecompressionStream === "undefined") return "This browser is too old: it lacks DecompressionStream.";
    return "";
  }

  const chosen = () => (providers.hidden ? "wasm" : providers.querySelector(":checked").value);
  const megabytes = (count) => `${(count / 1e6).toFixed(1)} MB`;

  function describe() {
    message.textContent =
      `The playground runs the book’s MNIST network on your machine. It downloads ${megabytes(bytes[chosen()])} from `
      + "this site; once loaded, it works without an internet connection.";
    button.textContent = `Load the network (${megabytes(bytes[chosen()])})`;
  }

  async function load() {
    const provider = chosen();
    button.disabled = providers.disabled = true;
    progress.hidden = false;
    let loaded = 0;
    const tell = (count) => (progress.value = (loaded += count) / bytes[provider]);
    try {
      const { start } = await import(`${folder}playground.js`);
      await start(root, provider, tell);
      root.querySelector(".playground-gate").hidden = true;
    } catch (error) {
      progress.hidden = true;
      button.disabled = providers.disabled = false;
      message.textContent = `The network could not be loaded: ${error.message}. ${below}`;
      button.focus();
    }
  }

  const missing = problem();
  if (missing) {
    message.textContent = `${missing} ${below}`;
    return;
  }
  button.addEventListener("click", load);
  providers.addEventListener("change", describe);
  import(`${folder}network.js`)
    .then(({ hasWebGPU }) => hasWebGPU())
    .catch(() => false)
    .then((found) => {
      providers.hidden = !found;
      describe();
      button.hidden = false;
    });
})();
