// Keys of the work list: j and k go to the next and the former case, Enter opens it.
"use strict";
let chosen = "";
function links() {
  return Array.from(document.querySelectorAll(".td-list td a[href^='case?case=']"));
}
function isTyped(target) {
  return target instanceof HTMLElement && target.closest("input, textarea, select, [role=dialog]");
}
window.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyped(event.target)) return;
  const all = links();
  if (!all.length) return;
  // The list is drawn anew now and then, and its focus is lost: the address says which it was.
  const at = all.findIndex((link) => link.getAttribute("href") === chosen);
  if (event.key === "Enter" && at >= 0 && document.activeElement === document.body) {
    all[at].click();
    return;
  }
  const step = { j: 1, k: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const next = at < 0 ? 0 : Math.min(Math.max(at + step, 0), all.length - 1);
  chosen = all[next].getAttribute("href");
  all[next].focus();
  all[next].scrollIntoView({ block: "nearest" });
});
