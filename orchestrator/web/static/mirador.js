// Opens the manifest of the page in Mirador.

const element = document.getElementById("mirador");
const { manifest, nonce } = element.dataset;
const dark = matchMedia("(prefers-color-scheme: dark)").matches;

// Mirador adds style elements without a nonce, which the Content-Security-Policy forbids.
const create = Document.prototype.createElement;
Document.prototype.createElement = function createElement(name, options) {
  const made = create.call(this, name, options);
  if (made instanceof HTMLStyleElement) made.nonce = nonce;
  return made;
};

// After a person signed in, Mirador keeps the manifest and the tiles of before. The window is opened again, so that it
// shows what that person may see.
function reopenAfterSignIn({ store }, options) {
  let known = "";
  store.subscribe(() => {
    const { accessTokens, windows } = store.getState();
    const valid = Object.values(accessTokens ?? {}).filter((each) => each.json?.accessToken).map((each) => each.id).join(" ");
    if (valid === known) return;
    known = valid;
    setTimeout(() => {
      for (const id of Object.keys(windows)) store.dispatch(window.Mirador.removeWindow(id));
      store.dispatch(window.Mirador.removeManifest(manifest));
      store.dispatch(window.Mirador.addWindow(options));
    });
  });
}

if (window.Mirador) {
  // Without the strip of thumbnails, which the keyboard cannot scroll.
  const options = { manifestId: manifest };
  const viewer = window.Mirador.viewer({
    id: "mirador",
    selectedTheme: dark ? "dark" : "light",
    windows: [options],
    window: { allowClose: false, allowMaximize: false, allowFullscreen: true, sideBarOpen: false },
    workspace: { type: "single" },
    workspaceControlPanel: { enabled: false },
  });
  reopenAfterSignIn(viewer, options);
} else {
  const problem = document.getElementById("problem");
  problem.textContent = "Mirador is not installed on the server; make setup installs it.";
  problem.hidden = false;
}
