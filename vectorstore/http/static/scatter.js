// Points on a plane by WebGL: one draw call however many there are; pan, zoom, hover, box and lasso.

const VERTEX = `
attribute vec2 place; attribute vec4 colour;
uniform vec2 scale, shift; uniform float size; varying vec4 tint;
void main() { gl_Position = vec4(place * scale + shift, 0.0, 1.0); gl_PointSize = size; tint = colour; }`;
const FRAGMENT = `
precision mediump float; varying vec4 tint;
void main() {
  float far = length(gl_PointCoord - 0.5);
  float edge = 1.0 - smoothstep(0.36, 0.5, far);
  if (edge <= 0.0) discard;
  gl_FragColor = vec4(tint.rgb, tint.a * edge);
}`;
const CELLS = 256;

export class Scatter {
  constructor(canvas, { onhover = () => {}, onpick = () => {}, onselect = () => {} } = {}) {
    this.canvas = canvas;
    this.calls = { onhover, onpick, onselect };
    this.mode = "pan";
    this.view = { x: 0, y: 0, zoom: 1 };
    this.points = new Float32Array();
    this.gl = canvas.getContext("webgl", { antialias: false, premultipliedAlpha: false, preserveDrawingBuffer: true });
    if (!this.gl) throw new Error("The map needs WebGL, which this browser does not offer.");
    this.#program();
    this.#listen();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  #program() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    this.uniforms = Object.fromEntries(["scale", "shift", "size"].map((name) => [name, gl.getUniformLocation(program, name)]));
    this.buffers = { place: gl.createBuffer(), colour: gl.createBuffer() };
    const place = gl.getAttribLocation(program, "place");
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.place);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, 2, gl.FLOAT, false, 0, 0);
    const colour = gl.getAttribLocation(program, "colour");
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.colour);
    gl.enableVertexAttribArray(colour);
    gl.vertexAttribPointer(colour, 4, gl.UNSIGNED_BYTE, true, 0, 0);
    gl.enable(gl.BLEND);
    gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  // (2n) x, y, x, y, ...
  place(points) {
    this.points = points;
    this.count = points.length / 2;
    const low = [Infinity, Infinity], high = [-Infinity, -Infinity];
    for (let i = 0; i < points.length; i++) {
      const axis = i & 1;
      if (points[i] < low[axis]) low[axis] = points[i];
      if (points[i] > high[axis]) high[axis] = points[i];
    }
    this.middle = [0, 1].map((axis) => (low[axis] + high[axis]) / 2);
    this.reach = Math.max(high[0] - low[0], high[1] - low[1], 1e-6) / 2;
    // Cells with the points in them, by counting: what is under the pointer is found among a few.
    this.starts = new Uint32Array(CELLS * CELLS + 1);
    const cells = new Uint32Array(this.count);
    for (let i = 0; i < this.count; i++) {
      cells[i] = this.#cell(points[2 * i], points[2 * i + 1]);
      this.starts[cells[i] + 1]++;
    }
    for (let i = 0; i < CELLS * CELLS; i++) this.starts[i + 1] += this.starts[i];
    const next = this.starts.slice();
    this.sorted = new Uint32Array(this.count);
    for (let i = 0; i < this.count; i++) this.sorted[next[cells[i]]++] = i;
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.place);
    gl.bufferData(gl.ARRAY_BUFFER, points, gl.STATIC_DRAW);
    this.reset();
  }

  // (4n) red, green, blue, alpha: 0..255
  paint(colours) {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.colour);
    gl.bufferData(gl.ARRAY_BUFFER, colours, gl.STATIC_DRAW);
    this.draw();
  }

  reset() {
    this.view = { x: this.middle[0], y: this.middle[1], zoom: 0.94 / this.reach };
    this.draw();
  }

  move(x, y) {
    const [w, h] = this.#size();
    this.view.x += (x * 2) / (w * this.#scale()[0]);
    this.view.y += (y * 2) / (h * this.#scale()[1]);
    this.draw();
  }

  zoom(factor, x = null, y = null) {
    const before = x === null ? null : this.#data(x, y);
    this.view.zoom = Math.min(Math.max(this.view.zoom * factor, 0.3 / this.reach), 4000 / this.reach);
    if (before) {
      const after = this.#data(x, y);
      this.view.x += before[0] - after[0];
      this.view.y += before[1] - after[1];
    }
    this.draw();
  }

  draw() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = 0;
      this.#draw();
    });
  }

  #size() {
    return [this.canvas.clientWidth || 1, this.canvas.clientHeight || 1];
  }

  #scale() {
    const [w, h] = this.#size();
    const least = Math.min(w, h);
    return [(this.view.zoom * least) / w, (this.view.zoom * least) / h];
  }

  #draw() {
    const { gl, canvas } = this;
    const ratio = devicePixelRatio || 1;
    const [w, h] = this.#size();
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (!this.count) return;
    const [sx, sy] = this.#scale();
    gl.uniform2f(this.uniforms.scale, sx, sy);
    gl.uniform2f(this.uniforms.shift, -this.view.x * sx, -this.view.y * sy);
    const dense = Math.sqrt((w * h) / this.count) * Math.sqrt(this.view.zoom * this.reach);
    gl.uniform1f(this.uniforms.size, ratio * Math.min(Math.max(dense * 0.55, 2.2), 14));
    gl.drawArrays(gl.POINTS, 0, this.count);
    this.drawn = performance.now();
  }

  #data(x, y) {
    const [w, h] = this.#size();
    const [sx, sy] = this.#scale();
    return [this.view.x + ((2 * x) / w - 1) / sx, this.view.y + (1 - (2 * y) / h) / sy];
  }

  // Where a point is on the canvas, in CSS pixels.
  seen(i) {
    const [w, h] = this.#size();
    const [sx, sy] = this.#scale();
    const x = ((this.points[2 * i] - this.view.x) * sx + 1) / 2, y = (1 - (this.points[2 * i + 1] - this.view.y) * sy) / 2;
    return [x * w, y * h];
  }

  #cell(x, y) {
    const step = (value, axis) => Math.min(CELLS - 1, Math.max(0, Math.floor(((value - this.middle[axis]) / this.reach + 1) * (CELLS / 2))));
    return step(y, 1) * CELLS + step(x, 0);
  }

  nearest(x, y, within = 12) {
    if (!this.count) return -1;
    const low = this.#cell(...this.#data(x - within, y + within)), high = this.#cell(...this.#data(x + within, y - within));
    let best = -1, least = within * within;
    for (let row = Math.floor(low / CELLS); row <= Math.floor(high / CELLS); row++) {
      for (let column = low % CELLS; column <= high % CELLS; column++) {
        const cell = row * CELLS + column;
        for (let place = this.starts[cell]; place < this.starts[cell + 1]; place++) {
          const [px, py] = this.seen(this.sorted[place]);
          const far = (px - x) ** 2 + (py - y) ** 2;
          if (far <= least) [best, least] = [this.sorted[place], far];
        }
      }
    }
    return best;
  }

  // The points inside a closed line on the canvas, in CSS pixels.
  inside(line) {
    const corners = line.map(([x, y]) => this.#data(x, y));
    const xs = corners.map((one) => one[0]), ys = corners.map((one) => one[1]);
    const box = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const found = [];
    for (let i = 0; i < this.count; i++) {
      const x = this.points[2 * i], y = this.points[2 * i + 1];
      if (x < box[0] || x > box[1] || y < box[2] || y > box[3]) continue;
      let odd = false;
      for (let a = 0, b = corners.length - 1; a < corners.length; b = a++) {
        const [ax, ay] = corners[a], [bx, by] = corners[b];
        if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
      }
      if (odd) found.push(i);
    }
    return found;
  }

  #listen() {
    const { canvas } = this;
    let from = null, line = [], moved = 0;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("pointerdown", (event) => {
      from = place(event);
      line = [from];
      moved = 0;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      const now = place(event);
      if (!from) {
        this.calls.onhover(this.nearest(...now), now);
        return;
      }
      const last = line[line.length - 1];
      moved += Math.abs(now[0] - last[0]) + Math.abs(now[1] - last[1]);
      line.push(now);
      if (this.mode === "pan") this.move(last[0] - now[0], now[1] - last[1]);
      else this.calls.onselect(null, this.#outline(from, now, line));
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!from) return;
      const now = place(event);
      if (moved < 4) {
        const found = this.nearest(...now);
        if (found >= 0) this.calls.onpick(found);
      } else if (this.mode !== "pan") this.calls.onselect(this.inside(this.#outline(from, now, line)), null);
      from = null;
    });
    canvas.addEventListener("pointerleave", () => this.calls.onhover(-1, null));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * 0.0016), ...place(event));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = 40;
      const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
      if (event.key in moves) this.move(...moves[event.key]);
      else if (event.key === "+" || event.key === "=") this.zoom(1.3);
      else if (event.key === "-") this.zoom(1 / 1.3);
      else if (event.key === "0") this.reset();
      else return;
      event.preventDefault();
    });
  }

  #outline(from, now, line) {
    return this.mode === "box" ? [from, [now[0], from[1]], now, [from[0], now[1]]] : line;
  }
}
