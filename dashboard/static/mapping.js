// The mapping between the two sections, as appliance/registration/mapping.py has it. Places are
// [x, y] in µm of a slide.

const ROUNDS = 24; // of the inverse; each removes more than half of the remaining error

class Piece {
  constructor(raw, latticeUm) {
    [this.a, this.b, this.c, this.d] = raw.matrix;
    [this.x, this.y] = raw.shift_um;
    [this.rows, this.columns] = raw.lattice_shape || [0, 0];
    this.lattice = raw.lattice || [];
    this.bent = this.lattice.some((value) => value !== 0);
    this.step = latticeUm;
  }
  linear([x, y]) {
    return [this.a * x + this.b * y + this.x, this.c * x + this.d * y + this.y];
  }
  linearBack([x, y]) {
    const det = this.a * this.d - this.b * this.c;
    const [u, v] = [x - this.x, y - this.y];
    return [(this.d * u - this.b * v) / det, (this.a * v - this.c * u) / det];
  }
  displacement([x, y]) {
    if (!this.bent) return [0, 0];
    const clip = (value, most) => Math.min(Math.max(value, 0), most);
    const across = clip(x / this.step, this.columns - 1);
    const down = clip(y / this.step, this.rows - 1);
    const left = Math.min(Math.floor(across), this.columns - 2);
    const top = Math.min(Math.floor(down), this.rows - 2);
    const [fx, fy] = [across - left, down - top];
    const at = (row, column, k) => this.lattice[2 * (row * this.columns + column) + k];
    return [0, 1].map((k) =>
      at(top, left, k) * (1 - fx) * (1 - fy) + at(top, left + 1, k) * fx * (1 - fy) +
      at(top + 1, left, k) * (1 - fx) * fy + at(top + 1, left + 1, k) * fx * fy);
  }
  forward(place) {
    const [x, y] = this.linear(place);
    const [dx, dy] = this.displacement(place);
    return [x + dx, y + dy];
  }
  inverse(place) {
    let found = this.linearBack(place);
    for (let round = 0; this.bent && round < ROUNDS; round++) {
      const [dx, dy] = this.displacement(found);
      found = this.linearBack([place[0] - dx, place[1] - dy]);
    }
    return found;
  }
  get mirrors() {
    return this.a * this.d - this.b * this.c < 0;
  }
  // Degrees, x towards y; of a map that mirrors, after x → -x.
  get degrees() {
    const sign = this.mirrors ? -1 : 1;
    return Math.atan2(sign * this.c, sign * this.a) * 180 / Math.PI;
  }
}

export class SlideMapping {
  constructor(raw) {
    this.pieces = raw.pieces.map((piece) => new Piece(piece, raw.lattice_um));
    this.main = new Piece(raw.main, raw.lattice_um);
    this.labels = Uint8Array.from(atob(raw.labels), (char) => char.charCodeAt(0));
    [this.rows, this.columns] = raw.labels_shape;
    this.mpp = raw.labels_mpp;
  }
  label([x, y]) {
    const clip = (value, most) => Math.min(Math.max(Math.floor(value / this.mpp), 0), most);
    return this.labels[clip(y, this.rows - 1) * this.columns + clip(x, this.columns - 1)];
  }
  // Place on the target slide, and the piece; without a counterpart the main piece's, absent: true.
  forward(place) {
    const piece = this.pieces[this.label(place) - 1];
    if (piece) return { place: piece.forward(place), piece, absent: false };
    return { place: this.main.linear(place), piece: this.main, absent: true };
  }
  inverse(place) {
    for (let k = 0; k < this.pieces.length; k++) {
      const back = this.pieces[k].inverse(place);
      if (this.label(back) === k + 1) return { place: back, piece: this.pieces[k], absent: false };
    }
    return { place: this.main.linearBack(place), piece: this.main, absent: true };
  }
}
