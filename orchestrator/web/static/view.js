// The viewer of one picture: OpenSeadragon with our own buttons, and the tiers that answered its tiles.
// No framework and no inline scripts. Without this script the page shows the picture at one size.

const stage = document.getElementById("stage");
const toolbar = document.getElementById("toolbar");
const still = document.getElementById("still");
const problem = document.getElementById("problem");
const tiers = document.getElementById("tiers");
const service = stage.dataset.service;
const counts = new Map();
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;

function showProblem(text) {
  problem.textContent = text;
  problem.hidden = !text;
}

function loadLibrary() {
  return new Promise((resolve, reject) => {
    // OpenSeadragon adds an inline style, which the Content-Security-Policy forbids, unless the page has an element
    // with this attribute; page.css has the rule. Without a namespace the browser does not take it for a style.
    const marker = document.createElementNS(null, "style");
    marker.setAttribute("data-openseadragon-mobile-css", "");
    document.head.append(marker);
    const script = document.createElement("script");
    script.src = document.body.dataset.viewer;
    script.onload = () => resolve(window.OpenSeadragon);
    script.onerror = () => reject(new Error("the script of the viewer could not be loaded"));
    if (document.body.dataset.viewer) {
      document.head.append(script);
    } else {
      reject(new Error("OpenSeadragon is not installed on the server; make setup installs it"));
    }
  });
}

function startViewer(OpenSeadragon) {
  // Tiles are loaded by Ajax, so that X-Served-From can be read. The buttons are ours, so that the keyboard works.
  const viewer = OpenSeadragon({
    element: stage, tileSources: `${service}/info.json`, loadTilesWithAjax: true, crossOriginPolicy: "Anonymous",
    showNavigationControl: false, showNavigator: true, navigatorPosition: "BOTTOM_LEFT", maxZoomPixelRatio: 2,
    visibilityRatio: 0.5, gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    animationTime: calm ? 0 : 0.6,
  });
  viewer.canvas.setAttribute("role", "application");
  viewer.canvas.setAttribute("aria-label", `${still.alt}: arrow keys move, plus and minus zoom`);
  viewer.addHandler("open", () => {
    still.remove();
    toolbar.hidden = false;
    document.body.classList.add("is-open");
    showView(viewer);
  });
  viewer.addHandler("open-failed", () => showProblem("The picture cannot be zoomed: its info document could not be loaded."));
  viewer.addHandler("animation-finish", () => showView(viewer));
  viewer.addHandler("tile-load-failed", (event) => {
    countTile("failed");
    showProblem(`A tile could not be loaded (${event.message || "no response"}).`);
  });
  viewer.addHandler("tile-loaded", (event) => countTile(tierOf(event.tileRequest)));
  for (const [id, action] of Object.entries({
    "zoom-in": () => viewer.viewport.zoomBy(2).applyConstraints(),
    "zoom-out": () => viewer.viewport.zoomBy(0.5).applyConstraints(),
    "zoom-all": () => viewer.viewport.goHome(),
    "zoom-full": () => viewer.viewport.zoomTo(viewer.world.getItemAt(0).imageToViewportZoom(1)).applyConstraints(),
  })) {
    document.getElementById(id).addEventListener("click", action);
  }
}

function tierOf(request) {
  const timing = request && performance.getEntriesByName(request.responseURL).at(-1);
  if (timing && timing.transferSize === 0 && timing.decodedBodySize > 0) {
    return "browser cache";
  }
  return request?.getResponseHeader("X-Served-From") || "unknown";
}

function countTile(tier) {
  counts.set(tier, (counts.get(tier) ?? 0) + 1);
  const total = [...counts.values()].reduce((sum, each) => sum + each, 0);
  tiers.replaceChildren();
  for (const [name, number] of [...counts].sort((a, b) => b[1] - a[1])) {
    for (const [tag, text] of [["dt", name], ["dd", `${number} (${Math.round((100 * number) / total)} %)`]]) {
      tiers.append(Object.assign(document.createElement(tag), { textContent: text }));
    }
  }
  document.getElementById("tier-panel").hidden = false;
}

function showView(viewer) {
  // The address of the part that is seen, at the size at which it is seen.
  const item = viewer.world.getItemAt(0);
  const { x: width, y: height } = item.getContentSize();
  const seen = item.viewportToImageRectangle(viewer.viewport.getBounds(true));
  const left = Math.max(0, Math.floor(seen.x));
  const top = Math.max(0, Math.floor(seen.y));
  const right = Math.min(width, Math.ceil(seen.x + seen.width));
  const bottom = Math.min(height, Math.ceil(seen.y + seen.height));
  if (right <= left || bottom <= top) {
    return;
  }
  const wide = Math.max(1, Math.min(right - left, Math.round(stage.clientWidth * (right - left) / seen.width)));
  const link = document.getElementById("view-link");
  link.href = `${service}/${left},${top},${right - left},${bottom - top}/${wide},/0/default.jpg`;
  link.textContent = link.href;
  document.getElementById("view-label").hidden = document.getElementById("view-address").hidden = false;
}

performance.setResourceTimingBufferSize(2000);
try {
  startViewer(await loadLibrary());
} catch (error) {
  showProblem(`The picture cannot be zoomed: ${error.message}.`);
}
