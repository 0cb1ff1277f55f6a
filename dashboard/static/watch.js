// Leaves a page whose session is over: what it shows must not stay on the screen.
"use strict";
const source = document.currentScript.src;
async function look() {
  try {
    const answer = await fetch(new URL("alive", source), { cache: "no-store" });
    if (answer.status === 401) {
      const to = encodeURIComponent(window.location.pathname + window.location.search);
      window.top.location.replace(new URL(`in?to=${to}`, source));
    }
  } catch {
    // The server is away; the page says so itself.
  }
}
window.setInterval(look, 3000);
