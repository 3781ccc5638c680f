// The page for uploading pictures: dropping, progress, cropping, publishing.
// tus-js-client sends the files in parts, so that an interrupted upload continues. Cropper.js shows the crop.

const { root, prefix, space, maxBytes } = document.body.dataset;
const drop = document.getElementById("drop");
const files = document.getElementById("files");
const list = document.getElementById("list");
const empty = document.getElementById("upload");
const secret = document.getElementById("secret");
const token = document.getElementById("token");
const status = document.getElementById("status");
const PART_BYTES = 8 * 1024 * 1024;
const RETRIES_MS = [0, 1000, 3000, 5000, 10000];

const say = (text) => { status.textContent = text; };

async function answerOf(response) {
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error ?? `The server answered ${response.status}.`);
  return body;
}

// --- one upload -----------------------------------------------------------------------------------------------

class Upload {
  constructor(file) {
    this.file = file;
    this.crop = null;
    this.item = empty.content.cloneNode(true).querySelector(".upload");
    this.picture = URL.createObjectURL(file);
    this.part(".name").textContent = file.name;
    this.part(".preview").src = this.picture;
    this.part(".progress").setAttribute("aria-label", `Progress of ${file.name}`);
    for (const [name, action] of Object.entries({
      crop: () => crop(this), publish: () => this.publish(), retry: () => this.start(), cancel: () => this.remove(),
    })) {
      const button = this.part(`.${name}`);
      button.addEventListener("click", action);
      button.setAttribute("aria-label", `${button.textContent}: ${file.name}`);
    }
    list.append(this.item);
  }

  part(selector) {
    return this.item.querySelector(selector);
  }

  show(text, { failed = false, buttons = [] } = {}) {
    this.part(".state").textContent = text;
    this.item.classList.toggle("failed", failed);
    for (const name of ["crop", "publish", "retry"]) this.part(`.${name}`).hidden = !buttons.includes(name);
  }

  start() {
    if (this.file.size > Number(maxBytes)) {
      this.show("The file is too large.", { failed: true });
      return;
    }
    this.show("Waiting");
    this.transfer = new tus.Upload(this.file, {
      endpoint: `${prefix}tus`,
      chunkSize: PART_BYTES,
      retryDelays: RETRIES_MS,
      removeFingerprintOnSuccess: true,
      metadata: { filename: this.file.name, filetype: this.file.type },
      headers: token.value ? { Authorization: `Bearer ${token.value}` } : {},
      onProgress: (sent, total) => this.progress(sent, total),
      onError: (error) => this.fail(error),
      onSuccess: () => this.received(),
    });
    // What an earlier visit to this page began is continued.
    this.transfer.findPreviousUploads().then((previous) => {
      if (previous.length) this.transfer.resumeFromPreviousUpload(previous[0]);
      this.transfer.start();
    });
  }

  progress(sent, total) {
    const percent = Math.floor((100 * sent) / total);
    this.part(".progress").value = percent;
    this.show(percent < 100 ? `${percent} %` : "Checking the picture");
  }

  fail(error) {
    let text = error.originalResponse ? "" : "The connection was lost.";
    try {
      text ||= JSON.parse(error.originalResponse.getBody()).error;
    } catch {
      text ||= "The upload failed.";
    }
    this.show(text, { failed: true, buttons: ["retry"] });
    say(`${this.file.name}: ${text}`);
  }

  async received() {
    try {
      const answer = await answerOf(await fetch(this.transfer.url));
      this.key = answer.filename;
      this.size = `${answer.width} × ${answer.height}`;
      this.part(".progress").hidden = true;
      this.ready();
      say(`${this.file.name} is uploaded`);
    } catch (error) {
      this.show(error.message, { failed: true, buttons: ["retry"] });
    }
  }

  ready() {
    const part = this.crop ? `, crop ${this.crop}` : "";
    this.show(`${this.size}${part}, not published`, { buttons: ["crop", "publish"] });
  }

  async publish() {
    if (!secret.value) {
      this.show("Enter the secret for publishing above.", { failed: true, buttons: ["crop", "publish"] });
      secret.focus();
      return;
    }
    this.show("Publishing");
    try {
      await answerOf(await fetch(`${prefix}publish`, {
        method: "POST",
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${secret.value}` },
        body: JSON.stringify({ filename: this.key, ...(this.crop ? { crop: this.crop } : {}) }),
      }));
      this.published();
    } catch (error) {
      this.show(error.message, { failed: true, buttons: ["crop", "publish"] });
      say(`${this.file.name}: ${error.message}`);
    }
  }

  published() {
    this.show(`Published as ${this.key}`, { buttons: ["crop"] });
    this.part(".cancel").textContent = "Remove from the list";
    const id = `${space}/${this.key.split(".")[0]}`;
    const links = this.part(".links");
    links.replaceChildren();
    for (const [text, address] of [
      ["Picture", `${prefix}active/${this.key}`],
      ["Zoom", `${root}/view/${id}`],
      ["IIIF information", `${root}/iiif/3/${encodeURIComponent(id)}/info.json`],
    ]) {
      const link = document.createElement("a");
      Object.assign(link, { href: address, textContent: text, target: "_blank", rel: "noopener" });
      links.append(link);
    }
    links.hidden = false;
    say(`${this.file.name} is published`);
  }

  remove() {
    if (this.transfer && !this.key) this.transfer.abort(true).catch(() => {});
    URL.revokeObjectURL(this.picture);
    this.item.remove();
    files.focus();
  }
}

// --- choosing -------------------------------------------------------------------------------------------------

const add = (chosen) => [...chosen].forEach((file) => new Upload(file).start());

files.addEventListener("change", () => {
  add(files.files);
  files.value = "";
});
for (const name of ["dragover", "dragenter"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  add(event.dataTransfer.files);
});
document.getElementById("keys").addEventListener("submit", (event) => event.preventDefault());

// --- cropping -------------------------------------------------------------------------------------------------

const dialog = document.getElementById("cropper");
const picture = document.getElementById("crop-picture");
const fields = ["x", "y", "width", "height"].map((name) => document.getElementById(`crop-${name}`));
let cropper = null;
let cropped = null;
let edited = null; // the field that a person is typing into: moving the frame must not change it

function crop(upload) {
  cropped = upload;
  picture.src = upload.picture;
  dialog.showModal();
  const numbers = upload.crop?.match(/\d+/g).map(Number);
  cropper = new Cropper(picture, {
    viewMode: 1,
    autoCropArea: 0.8,
    checkOrientation: false,
    ready() {
      if (numbers) cropper.setData({ x: numbers[2], y: numbers[3], width: numbers[0], height: numbers[1] });
    },
    crop({ detail }) {
      const values = [detail.x, detail.y, detail.width, detail.height];
      fields.forEach((field, index) => {
        if (field !== edited) field.value = Math.max(index < 2 ? 0 : 1, Math.round(values[index]));
      });
    },
  });
}

const entered = () => Object.fromEntries(
  ["x", "y", "width", "height"].map((name, index) => [name, Number(fields[index].value)]),
);
fields.forEach((field) => {
  field.addEventListener("input", () => { edited = field; });
  field.addEventListener("change", () => {
    cropper.setData(entered());
    edited = null;
  });
});
document.getElementById("crop-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const { x, y, width, height } = entered();
  use(`${width}x${height}+${x}+${y}`);
});
document.getElementById("crop-whole").addEventListener("click", () => use(null));
document.getElementById("crop-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => {
  cropper?.destroy();
  cropper = edited = null;
  picture.removeAttribute("src");
});

function use(part) {
  cropped.crop = part;
  cropped.ready();
  dialog.close();
}
