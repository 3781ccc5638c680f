// Replaces the live part of the page every few seconds. Without this script the page shows the figures of its loading.

const live = document.getElementById("live");
const updated = document.getElementById("updated");
const EVERY_MS = 3000;

async function refresh() {
  if (!document.hidden && !live.contains(document.activeElement)) {
    try {
      const answer = await fetch("/admin/live", { headers: { Accept: "text/html" } });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      live.innerHTML = await answer.text();
      updated.textContent = `${new Date().toISOString().slice(0, 19).replace("T", " ")} UTC`;
    } catch (error) {
      updated.textContent = `Not current: ${error.message}.`;
    }
  }
  setTimeout(refresh, EVERY_MS);
}

setTimeout(refresh, 1200);
