// Before Streamlit's own scripts: where its server is, so that it asks no other place first; and what the case's
// deep zoom needs, asked for while they start.
window.__streamlit = {
  BACKEND_BASE_URL: `${location.origin}/`,
  MAIN_PAGE_BASE_URL: `${location.origin}/`,
  // As its server says by /_stcore/host-config: nobody frames the pages but this server.
  HOST_CONFIG: { allowedOrigins: [location.origin], useExternalAuthToken: false },
};

const wantedCase = new URLSearchParams(location.search).get("case");
if (location.pathname === "/case" && /^\d{1,15}$/.test(wantedCase)) {
  // `zoom.js` takes them from here: the facts, and for each slide the answer on the tile of all of it.
  window.tandemAhead = (async () => {
    const answer = await fetch(`/zoom/${wantedCase}/case.json`);
    if (!answer.ok) return null;
    const facts = await answer.json();
    const first = {};
    for (const [what, { tiles, highest, version }] of Object.entries(facts.slides)) {
      if (!tiles) continue;
      const address = new URL(`${tiles}${Math.min(highest, 8)}/0_0.jpg?v=${version}`, `${location.origin}/zoom/`);
      first[what] = fetch(address, { cache: "no-store" });
      first[what].catch(() => {}); // the deep zoom says so
    }
    return { facts, first };
  })().catch(() => null); // the deep zoom asks itself, and says so
}
