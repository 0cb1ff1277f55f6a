// Both slides of a case side by side: pan, zoom and rotation of one lead the other by the mapping.
// Overlays are images of their own, so that switching and fading them needs no server.

import { SlideMapping } from "./mapping.js";

const OTHER = { he: "ihc", ihc: "he" };
const MOST_UM_PER_PX = 0.06; // as far as one may zoom in, in µm per px of the screen
const NICE = [1, 2, 5];
const $ = (id) => document.getElementById(id);

class Slide {
  constructor(what, facts, version, first) {
    this.what = what;
    this.first = first;
    this.facts = facts;
    this.version = version;
    this.wideUm = facts.width_px * facts.mpp;
    this.layers = {};
    this.viewer = OpenSeadragon({
      element: $(what), drawer: "canvas", showNavigationControl: false, crossOriginPolicy: false,
      visibilityRatio: 0, minZoomImageRatio: 0.2, constrainDuringPan: false, animationTime: 0.3,
      maxZoomPixelRatio: Math.max(2, facts.mpp / MOST_UM_PER_PX), imageLoaderLimit: 6, timeout: 60000,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    });
    const canvas = this.viewer.canvas;
    canvas.setAttribute("role", "group");
    canvas.setAttribute("aria-label",
      `${facts.label} slide. Arrows move it, + and - zoom, 0 shows all of it, r rotates, f flips.`);
    $(`${what}-label`).textContent = facts.label;
    this.viewer.addHandler("tile-load-failed", (event) => this.failed(event));
  }
  source(width, height, highest, address) {
    return {
      width, height, tileSize: this.facts.tile_px, tileOverlap: 0,
      minLevel: Math.min(highest, 8), maxLevel: highest, getTileUrl: address,
    };
  }
  async open() {
    const { facts } = this;
    const tiles = facts.tiles && await this.firstTile();
    const address = (level, column, row) =>
      `${facts.tiles}${level}/${column}_${row}.jpg?v=${facts.version}`;
    const source = tiles
      ? this.source(facts.width_px, facts.height_px, facts.highest, address)
      : { type: "image", url: facts.overview };
    await new Promise((resolve) => {
      this.viewer.addOnceHandler("open", resolve);
      this.viewer.open(source);
    });
    this.whole();
  }
  // The tile of the whole slide: whether the file is there, before the browser asks for many.
  async firstTile() {
    const { facts } = this;
    const address = `${facts.tiles}${Math.min(facts.highest, 8)}/0_0.jpg?v=${facts.version}`;
    const answer = await (this.first || fetch(address, { cache: "no-store" }));
    if (answer.ok) return true;
    this.note(`Overview only. ${await answer.text()}`);
    return false;
  }
  async failed(event) {
    if (this.told || !event.tile || !event.tile.getUrl) return;
    this.told = true;
    const answer = await fetch(event.tile.getUrl(), { cache: "no-store" });
    if (!answer.ok) this.note(this.standing = await answer.text());
  }
  note(text) {
    $(`${this.what}-note`).textContent = text;
  }
  addLayer(layer, caseId, opacity) {
    const { overlay } = this.facts;
    const address = (level, column, row) =>
      `../overlays/${caseId}/${this.what}/${layer.name}/${level}/${column}_${row}.png?v=${this.version}`;
    this.viewer.addTiledImage({
      tileSource: this.source(overlay.width_px, overlay.height_px, overlay.highest, address),
      x: 0, y: 0, width: overlay.width_share, opacity,
      success: ({ item }) => {
        this.layers[layer.name].item = item;
        item.setOpacity(this.layers[layer.name].opacity);
      },
    });
    this.layers[layer.name] = { item: null, opacity };
  }
  setLayer(name, opacity) {
    const layer = this.layers[name];
    layer.opacity = opacity;
    if (layer.item) layer.item.setOpacity(opacity);
  }
  whole() {
    this.viewer.viewport.setRotation(0, true);
    this.viewer.viewport.setFlip(false);
    this.viewer.viewport.goHome(true);
  }
  get centerUm() {
    const center = this.viewer.viewport.getCenter(true);
    return [center.x * this.wideUm, center.y * this.wideUm];
  }
  get pxPerUm() {
    const { viewport } = this.viewer;
    return viewport.getContainerSize().x * viewport.getZoom(true) / this.wideUm;
  }
  // A place in px of the viewer, from its top left corner, in µm of the slide.
  umAt([x, y]) {
    const { viewport } = this.viewer;
    const across = viewport.getFlip() ? viewport.getContainerSize().x - x : x;
    const at = viewport.pointFromPixel(new OpenSeadragon.Point(across, y), true);
    return [at.x * this.wideUm, at.y * this.wideUm];
  }
  show([x, y], pxPerUm, immediately) {
    const { viewport } = this.viewer;
    viewport.zoomTo(pxPerUm * this.wideUm / viewport.getContainerSize().x, null, immediately);
    viewport.panTo(new OpenSeadragon.Point(x / this.wideUm, y / this.wideUm), immediately);
  }
  drawScale() {
    const wanted = 110 / this.pxPerUm; // µm on about 110 px
    const ten = 10 ** Math.floor(Math.log10(wanted));
    const um = ten * Math.max(...NICE.filter((n) => n * ten <= wanted), 1);
    const bar = $(`${this.what}-scale`);
    bar.style.width = `${Math.round(um * this.pxPerUm)}px`;
    bar.firstElementChild.textContent = um >= 1000 ? `${um / 1000} mm` : `${um} µm`;
  }
}

class Pair {
  constructor(slides, mapping) {
    this.slides = slides;
    this.mapping = mapping;
    this.leader = "he";
    for (const what of ["he", "ihc"]) {
      const lead = () => { this.leader = what; };
      for (const name of ["pointerdown", "wheel", "keydown", "touchstart"]) {
        $(what).addEventListener(name, lead, { capture: true, passive: true });
      }
      for (const name of ["viewport-change", "rotate", "flip", "resize", "animation-finish"]) {
        slides[what].viewer.addHandler(name, () => this.moved(what));
      }
    }
  }
  moved(what) {
    this.slides[what].drawScale();
    if (what === this.leader) this.follow();
  }
  follow() {
    if (!$("linked").checked) return;
    const [lead, follower] = [this.slides[this.leader], this.slides[OTHER[this.leader]]];
    const forth = this.leader === "he";
    const found = forth ? this.mapping.forward(lead.centerUm) : this.mapping.inverse(lead.centerUm);
    follower.show(found.place, lead.pxPerUm, true);
    const { mirrors, degrees } = found.piece;
    const turned = lead.viewer.viewport.getRotation(true);
    const flipped = lead.viewer.viewport.getFlip();
    // Of a map that mirrors, the inverse turns as the map does.
    const turn = forth || mirrors ? degrees : -degrees;
    const wanted = mirrors ? -(turned + turn) : turned - turn;
    follower.viewer.viewport.setRotation(((wanted % 360) + 360) % 360, true);
    if (follower.viewer.viewport.getFlip() !== (flipped !== mirrors)) {
      follower.viewer.viewport.setFlip(flipped !== mirrors);
    }
    lead.note(lead.standing || "");
    follower.note(found.absent ? "This slide has no counterpart of the place." : follower.standing || "");
  }
  goTo(what, placeUm, pxPerUm) {
    this.leader = what;
    this.slides[what].show(placeUm, pxPerUm, true);
    this.follow();
  }
  whole() {
    this.slides[this.leader].whole();
    this.follow();
  }
  rotate(by) {
    const { viewport } = this.slides[this.leader].viewer;
    viewport.setRotation(viewport.getRotation() + by);
  }
}

function addControls(pair, layers, regions) {
  const opacityOf = (box) => (box.checked ? Number($("fade").value) / 100 : 0);
  const boxes = [];
  for (const layer of layers) {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = layer.shown;
    box.addEventListener("change", () =>
      pair.slides[layer.what].setLayer(layer.name, opacityOf(box)));
    const key = document.createElement("span");
    key.className = "key";
    key.style.background = background(layer);
    label.append(box, key, layer.title);
    $(`${layer.what}-layers`).append(label);
    boxes.push([layer, box]);
  }
  $("fade").addEventListener("input", () => {
    for (const [layer, box] of boxes) pair.slides[layer.what].setLayer(layer.name, opacityOf(box));
  });
  $("whole").addEventListener("click", () => pair.whole());
  $("left").addEventListener("click", () => pair.rotate(-90));
  $("right").addEventListener("click", () => pair.rotate(90));
  $("linked").addEventListener("change", () => pair.follow());
  $("jump").hidden = !regions.length;
  for (const [number, region] of regions.entries()) $("regions").add(new Option(region.name, number));
  $("regions").addEventListener("change", (event) => {
    if (event.target.value === "") return;
    const region = regions[event.target.value];
    const screen = pair.slides.ihc.viewer.viewport.getContainerSize();
    pair.goTo("ihc", region.center_um, 0.8 * Math.min(screen.x, screen.y) / region.wide_um);
  });
}

function background({ color, look }) {
  const rgb = `rgb(${color.join(",")})`;
  if (look === "stripes") return `repeating-linear-gradient(45deg, ${rgb} 0 2px, #fff 2px 5px)`;
  if (look === "heat") return "linear-gradient(90deg, rgb(255,250,190), rgb(125,215,160), rgb(0,105,150))";
  if (look === "outline") return `radial-gradient(#fff 45%, ${rgb} 46%)`;
  return rgb;
}

// What the page around has asked for already (`start.js`), once, and of the result that this one is to show.
async function ahead() {
  const asked = window.parent.tandemAhead;
  delete window.parent.tandemAhead;
  const found = await asked;
  return found && found.facts.version === new URLSearchParams(location.search).get("v") ? found : null;
}

async function described(caseId) {
  const answer = await fetch(`${caseId}/case.json`);
  if (!answer.ok) throw new Error(await answer.text());
  return { facts: await answer.json(), first: {} };
}

async function start() {
  const caseId = location.pathname.split("/").pop();
  const { facts: found, first } = await ahead() || await described(caseId);
  const slides = {};
  for (const what of ["he", "ihc"]) {
    const facts = found.slides[what];
    facts.overview = `${caseId}/${facts.overview}`;
    slides[what] = new Slide(what, facts, found.version, first[what]);
    $(`${what}-layers`).firstElementChild.textContent = `Overlays on ${facts.label}`;
  }
  await Promise.all([slides.he.open(), slides.ihc.open()]);
  for (const what of ["he", "ihc"]) slides[what].standing = $(`${what}-note`).textContent;
  const pair = new Pair(slides, new SlideMapping(found.mapping));
  const opacity = Number($("fade").value) / 100;
  for (const layer of found.layers) {
    slides[layer.what].addLayer(layer, caseId, layer.shown ? opacity : 0);
  }
  addControls(pair, found.layers, found.regions);
  pair.whole();
  for (const what of ["he", "ihc"]) slides[what].drawScale();
  window.tandemZoom = pair;
}

start().catch((error) => { $("trouble").textContent = error.message; });
