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

if (window.Mirador) {
  window.Mirador.viewer({
    id: "mirador",
    selectedTheme: dark ? "dark" : "light",
    windows: [{ manifestId: manifest, thumbnailNavigationPosition: "far-bottom" }],
    window: { allowClose: false, allowMaximize: false, allowFullscreen: true, sideBarOpen: false },
    workspace: { type: "single" },
    workspaceControlPanel: { enabled: false },
  });
} else {
  const problem = document.getElementById("problem");
  problem.textContent = "Mirador is not installed on the server; make setup installs it.";
  problem.hidden = false;
}
