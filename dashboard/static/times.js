// Times in the viewer's zone, and ages that go on without the server: a page is drawn anew only where
// its facts have changed, so that what a person selects stays selected.
"use strict";
const timesSource = document.currentScript.src;
let ahead = 0; // of the server's clock, in ms, where it differs from the viewer's by much
function age(seconds) {
  if (seconds < 10) return "just now";
  if (seconds < 60) return "< 1 min";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 86400 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
}
// Sweden writes dates as ISO 8601 does. Formats are made once: to make one costs more than to use it.
const date = { year: "numeric", month: "2-digit", day: "2-digit" };
const clock = { hour: "2-digit", minute: "2-digit" };
const whole = new Intl.DateTimeFormat("sv-SE", {
  ...date,
  ...clock,
  second: "2-digit",
  timeZoneName: "short",
});
const hour = new Intl.DateTimeFormat("sv-SE", clock);
const written = new WeakSet(); // times that stay as they are
function show(element) {
  if (written.has(element)) return;
  const at = new Date(element.dateTime);
  if (Number.isNaN(at.getTime())) return;
  const kind = element.dataset.time;
  let text;
  if (kind === "age") {
    if (!element.title) element.title = whole.format(at);
    text = age((Date.now() + ahead - at) / 1000);
  } else {
    text = (kind === "hour" ? hour : whole).format(at);
    written.add(element);
  }
  const node = element.firstChild;
  if (node === null) element.textContent = text;
  else if (node.data !== text) node.data = text; // the node stays, and a selection with it
}
function showAll(root) {
  root.querySelectorAll("time[data-time]").forEach(show);
}
function start() {
  showAll(document);
  const added = (change) => change.addedNodes.forEach((node) => node.querySelectorAll && showAll(node));
  new MutationObserver((changes) => changes.forEach(added)).observe(document.body, {
    childList: true,
    subtree: true,
  });
  window.setInterval(() => showAll(document), 5000);
}
async function compare() {
  try {
    const answer = await fetch(timesSource, { method: "HEAD", cache: "no-store" });
    const there = Date.parse(answer.headers.get("date"));
    if (Math.abs(there - Date.now()) > 5000) ahead = there - Date.now();
  } catch {
    // The server is away: the viewer's clock serves.
  }
}
void compare();
start();
