// The filter of the list, its further pages, and the zooming viewer of #customer/space/name.
// No framework and no inline scripts; OpenSeadragon is loaded only when a picture is opened.

const grid = document.getElementById("grid");
const more = document.getElementById("more");
const filter = document.getElementById("filter");
const emptyCard = document.getElementById("card");
const problem = document.getElementById("problem");

document.querySelector(".origin").textContent = location.origin;

// --- the list -------------------------------------------------------------------------------------------------

const cards = () => [...grid.querySelectorAll(".card")];
const shownCards = () => cards().filter((card) => !card.hidden);
const cardOf = (id) => cards().find((card) => card.dataset.id === id);

function nameOf(id) {
  const name = id.split("/").slice(2).join("/");
  return name.replace(/%2F/gi, "/").replace(/%25/g, "%");
}

function addCard(image) {
  if (cardOf(image.id)) {
    return;
  }
  const card = emptyCard.content.cloneNode(true).querySelector(".card");
  Object.assign(card.dataset, {
    id: image.id, service: image.info.replace(/\/info\.json$/, ""), width: image.width, height: image.height,
  });
  card.querySelector("a").href = `#${image.id.split("/").map(encodeURIComponent).join("/")}`;
  card.querySelector(".name").textContent = nameOf(image.id);
  card.querySelector(".size").textContent = image.width ? `${image.width} × ${image.height}` : "";
  card.querySelector(".state").textContent = image.error ? image.error :
    image.state === "failed" ? "failed" : image.state === "ready" ? "" : "preparing";
  if (image.thumbnail) card.querySelector("img").src = image.thumbnail;
  grid.append(card);
}

function applyFilter() {
  const text = filter.value.trim().toLocaleLowerCase();
  const all = cards();
  for (const card of all) {
    card.hidden = !nameOf(card.dataset.id).toLocaleLowerCase().includes(text);
  }
  const shown = shownCards().length;
  const total = `${all.length}${more.hidden ? "" : "+"}`;
  document.getElementById("count").textContent = text ? `${shown} of ${total}` : total;
  document.getElementById("nothing").hidden = shown > 0 || all.length === 0;
}

async function loadMore() {
  more.disabled = true;
  try {
    const response = await fetch(more.dataset.next, { headers: { Accept: "application/json" } });
    if (!response.ok) {
      throw new Error(`the server answered ${response.status}`);
    }
    const listing = await response.json();
    [...listing.images, ...(listing.refused ?? [])].forEach(addCard);
    more.dataset.next = listing.next ?? "";
    more.hidden = !listing.next;
    problem.hidden = true;
    applyFilter();
  } catch (error) {
    problem.textContent = `More pictures could not be loaded: ${error.message}. Try again.`;
    problem.hidden = false;
  } finally {
    more.disabled = false;
  }
}

filter.addEventListener("input", applyFilter);
filter.form.addEventListener("submit", (event) => event.preventDefault());
more.addEventListener("click", loadMore);
// A thumbnail that fails to load (no right to it, or a broken picture) leaves its frame empty.
grid.addEventListener("error", (event) => event.target.classList?.add("broken"), true);
applyFilter();

// --- the viewer ---------------------------------------------------------------------------------------------------

const dialog = document.getElementById("viewer");
const stage = document.getElementById("stage");
const viewerProblem = document.getElementById("viewer-problem");
const tiers = document.getElementById("tiers");
const field = (name) => document.getElementById(`address-${name}`);
let open = null; // {id, service, width, height, osd, counts}
let library = null;

function loadLibrary() {
  library ??= new Promise((resolve, reject) => {
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
  library.catch(() => { library = null; });
  return library;
}

function showProblem(text) {
  viewerProblem.textContent = text;
  viewerProblem.hidden = !text;
}

function pictureOf(id) {
  const known = cardOf(id)?.dataset;
  const service = known?.service ?? `${location.origin}/iiif/3/${encodeURIComponent(id)}`;
  return { id, service, width: Number(known?.width ?? 0), height: Number(known?.height ?? 0) };
}

async function openPicture(id) {
  closePicture();
  const picture = { ...pictureOf(id), counts: new Map(), osd: null };
  open = picture;
  showProblem("");
  document.getElementById("viewer-name").textContent = nameOf(id);
  document.title = `${nameOf(id)} · Pictures`;
  field("info").value = `${picture.service}/info.json`;
  field("link").value = location.href;
  updateFacts(picture);
  drawTiers(picture);
  if (!dialog.open) {
    dialog.showModal();
  }
  try {
    const OpenSeadragon = await loadLibrary();
    if (open === picture) {
      startViewer(picture, OpenSeadragon);
    }
  } catch (error) {
    showProblem(`The picture cannot be shown: ${error.message}.`);
  }
}

function startViewer(picture, OpenSeadragon) {
  // Tiles are loaded by Ajax, so that X-Served-From can be read. The buttons are ours, so that the keyboard works.
  const osd = OpenSeadragon({
    element: stage, tileSources: `${picture.service}/info.json`, loadTilesWithAjax: true, crossOriginPolicy: "Anonymous",
    showNavigationControl: false, showNavigator: true, navigatorPosition: "BOTTOM_LEFT", maxZoomPixelRatio: 2,
    visibilityRatio: 0.5, gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    animationTime: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.6,
  });
  picture.osd = osd;
  osd.addHandler("open", () => {
    const { x, y } = osd.world.getItemAt(0).getContentSize();
    Object.assign(picture, { width: x, height: y });
    updateFacts(picture);
    updateViewAddress(picture);
    osd.canvas.focus();
  });
  osd.addHandler("open-failed", () => showProblem("The picture cannot be shown: its info document could not be loaded."));
  osd.addHandler("animation-finish", () => updateViewAddress(picture));
  osd.addHandler("tile-load-failed", (event) => {
    countTile(picture, "failed");
    showProblem(`A tile could not be loaded (${event.message || "no response"}).`);
  });
  osd.addHandler("tile-loaded", (event) => countTile(picture, tierOf(event.tileRequest)));
}

function tierOf(request) {
  const timing = request && performance.getEntriesByName(request.responseURL).at(-1);
  if (timing && timing.transferSize === 0 && timing.decodedBodySize > 0) {
    return "browser cache";
  }
  return request?.getResponseHeader("X-Served-From") || "unknown";
}

function countTile(picture, tier) {
  picture.counts.set(tier, (picture.counts.get(tier) ?? 0) + 1);
  if (open === picture) {
    drawTiers(picture);
  }
}

function drawTiers(picture) {
  const total = [...picture.counts.values()].reduce((sum, each) => sum + each, 0);
  tiers.replaceChildren();
  for (const [tier, number] of [...picture.counts].sort((a, b) => b[1] - a[1])) {
    for (const [tag, text] of [["dt", tier], ["dd", number], ["dd", `${Math.round((100 * number) / total)} %`]]) {
      tiers.append(Object.assign(document.createElement(tag), { textContent: text }));
    }
  }
}

function updateFacts(picture) {
  const { width, height, service } = picture;
  const million = (width * height) / 1e6;
  document.getElementById("viewer-facts").textContent =
    width ? `${width} × ${height}, ${million < 10 ? million.toFixed(1) : Math.round(million)} megapixels` : "";
  field("whole").value = `${service}/full/${width && Math.max(width, height) <= 1200 ? "max" : "!1200,1200"}/0/default.jpg`;
  field("view").value = field("whole").value;
}

function updateViewAddress(picture) {
  const item = picture.osd?.world.getItemAt(0);
  if (!item || open !== picture) {
    return;
  }
  const seen = item.viewportToImageRectangle(picture.osd.viewport.getBounds(true));
  const left = Math.max(0, Math.floor(seen.x));
  const top = Math.max(0, Math.floor(seen.y));
  const right = Math.min(picture.width, Math.ceil(seen.x + seen.width));
  const bottom = Math.min(picture.height, Math.ceil(seen.y + seen.height));
  if (right <= left || bottom <= top) {
    return;
  }
  const wide = Math.min(right - left, Math.round(stage.clientWidth * (right - left) / seen.width));
  field("view").value = `${picture.service}/${left},${top},${right - left},${bottom - top}/${Math.max(1, wide)},/0/default.jpg`;
}

function closePicture() {
  open?.osd?.destroy();
  open = null;
  stage.replaceChildren();
  performance.clearResourceTimings();
}

function openNeighbour(by) {
  const shown = shownCards();
  const at = shown.findIndex((card) => card.dataset.id === open?.id);
  const next = shown[at + by];
  if (next) {
    location.hash = next.querySelector("a").hash;
  }
}

function openFragment() {
  let id = "";
  try {
    id = decodeURIComponent(location.hash.slice(1));
  } catch {
    // a malformed fragment names no picture
  }
  if (/^\d+\/\d+\/./.test(id)) {
    openPicture(id);
  } else if (dialog.open) {
    dialog.close();
  }
}

dialog.addEventListener("close", () => {
  const card = open && cardOf(open.id);
  closePicture();
  document.title = "Pictures";
  if (location.hash) {
    history.pushState(null, "", location.pathname + location.search);
  }
  card?.querySelector("a").focus();
});

const onClick = (id, action) => document.getElementById(id).addEventListener("click", action);
onClick("close", () => dialog.close());
onClick("previous", () => openNeighbour(-1));
onClick("next", () => openNeighbour(1));
onClick("zoom-in", () => open?.osd?.viewport.zoomBy(2).applyConstraints());
onClick("zoom-out", () => open?.osd?.viewport.zoomBy(0.5).applyConstraints());
onClick("zoom-all", () => open?.osd?.viewport.goHome());
onClick("zoom-full", () => {
  const item = open?.osd?.world.getItemAt(0);
  if (item) {
    open.osd.viewport.zoomTo(item.imageToViewportZoom(1)).applyConstraints();
  }
});
onClick("panel-toggle", (event) => {
  const panel = document.getElementById("panel");
  panel.hidden = !panel.hidden;
  event.currentTarget.setAttribute("aria-expanded", String(!panel.hidden));
});

dialog.addEventListener("click", async (event) => {
  const source = event.target.dataset?.copy && document.getElementById(event.target.dataset.copy);
  if (!source) {
    return;
  }
  source.select();
  try {
    await navigator.clipboard.writeText(source.value);
  } catch {
    document.execCommand("copy"); // the clipboard API works only in secure contexts, not over plain HTTP
  }
  const copied = document.getElementById("copied");
  copied.textContent = "Copied.";
  setTimeout(() => { copied.textContent = ""; }, 2000);
});

performance.setResourceTimingBufferSize(2000);
addEventListener("hashchange", openFragment);
openFragment();
