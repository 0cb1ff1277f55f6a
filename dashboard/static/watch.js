// Leaves a page whose session is over: what it shows must not stay on the screen. A page of a former
// session is drawn anew: else its forms would name the former person.
"use strict";
const source = document.currentScript.src;
let session = "";
async function look() {
  try {
    const answer = await fetch(new URL("alive", source), { cache: "no-store" });
    if (answer.status === 401) {
      const to = encodeURIComponent(window.location.pathname + window.location.search);
      window.top.location.replace(new URL(`in?to=${to}`, source));
    } else if (answer.ok) {
      const now = await answer.text();
      if (session && now !== session) {
        window.top.location.reload();
      }
      session = now;
    }
  } catch {
    // The server is away; the page says so itself.
  }
}
look();
window.setInterval(look, 3000);
