// Uploads a file with tus-js-client. Each run ends the process after so many bytes, as a computer that is switched off,
// and the next run resumes from the stored address.
//
// Usage: node tus_client.mjs ENDPOINT FILE STORE STOP_AFTER_BYTES
import { createRequire } from "node:module";
import fs from "node:fs";

const require = createRequire(`${process.env.NODE_MODULES}/`);
const tus = require("tus-js-client");
const [endpoint, path, store, stopAfter] = process.argv.slice(2);

const upload = new tus.Upload(fs.createReadStream(path), {
  endpoint,
  chunkSize: 16 * 1024 * 1024,
  uploadSize: fs.statSync(path).size,
  retryDelays: [0, 500, 1000, 2000, 4000],
  metadata: { filename: "large.tif", filetype: "image/tiff" },
  urlStorage: new tus.FileUrlStorage(store),
  fingerprint: () => Promise.resolve(path),
  onProgress(sent) {
    if (Number(stopAfter) && sent >= Number(stopAfter)) process.kill(process.pid, "SIGKILL");
  },
  onError(error) {
    console.error(String(error));
    process.exit(1);
  },
  onSuccess() {
    console.log(JSON.stringify({ url: upload.url, resumed: previous.length > 0, from }));
  },
});
let from = null;
const previous = await upload.findPreviousUploads();
if (previous.length) {
  upload.resumeFromPreviousUpload(previous[0]);
  const state = await fetch(previous[0].uploadUrl, { method: "HEAD", headers: { "Tus-Resumable": "1.0.0" } });
  from = Number(state.headers.get("Upload-Offset"));
}
upload.start();
