// The list of pictures needs no script. This one hides thumbnails that fail to load, and follows old addresses.

const grid = document.querySelector(".grid");
const hide = (image) => image.classList.add("broken");

grid?.addEventListener("error", (event) => hide(event.target), true);
for (const image of grid?.querySelectorAll("img") ?? []) {
  if (image.complete && !image.naturalWidth) hide(image);
}

// Pictures had addresses of the form /#customer/space/name.
function followOldAddress() {
  const old = location.hash.match(/^#(\d+\/\d+\/.+)$/);
  if (old) {
    const [customer, space, ...name] = old[1].split("/");
    location.replace(`view/${customer}/${space}/${name.join("/").replace(/%252F/gi, "%2F").replace(/%2525/g, "%25")}`);
  }
}

addEventListener("hashchange", followOldAddress);
followOldAddress();
