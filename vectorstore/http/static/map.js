// The map: every record as a point, coloured by what it is; a selection becomes a list and a filter.

import * as api from "./api.js";
import { go } from "./app.js";
import { count, failed, gist, h, title } from "./dom.js";
import { record } from "./record.js";
import { Scatter } from "./scatter.js";

// Colours that are told apart by most eyes, in light and in dark; the rest repeat, lighter.
const PALETTE = ["#3b7dd8", "#e07b2c", "#3a9d5d", "#c94f6d", "#8464c4", "#b39b1f", "#2ca3b5", "#d069b1", "#7f8c3a", "#a8623e"];
const SHOWN = 100;
const MOST = 10000;

function bytes(text) {
  return Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer;
}

function rgb(place) {
  const text = PALETTE[place % PALETTE.length];
  const lift = Math.min(0.55, Math.floor(place / PALETTE.length) * 0.22);
  return [1, 3, 5].map((at) => {
    const value = parseInt(text.slice(at, at + 2), 16);
    return Math.round(value + (255 - value) * lift);
  });
}

const css = (place) => `rgb(${rgb(place).join(" ")})`;

async function fields(state, signal) {
  const schema = await api.get(api.at("kinds", state.kind), signal);
  const plain = Object.entries(schema.properties)
    .filter(([, field]) => /string|integer|boolean/.test(JSON.stringify(field)) && !/array|object|date-time/.test(JSON.stringify(field)))
    .map(([name]) => name).filter((name) => !["id", "version"].includes(name));
  return ["cluster", ...plain];
}

export async function show(main, params, state, signal) {
  const canvas = h("canvas", { tabindex: "0", role: "img", "aria-label": "Map", "aria-describedby": "map-help" });
  const line = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  line.setAttribute("aria-hidden", "true");
  const tip = h("p", { class: "tip", hidden: true });
  const about = h("p", { class: "about" });
  const legend = h("ul", { class: "legend", "aria-label": "Colours" });
  const chosen = h("section", { "aria-label": "Selection" });
  const side = h("aside", { class: "side", "aria-label": "Record" });
  const colour = h("select", { name: "colour", id: "colour" });
  const tools = h("div", { class: "line tools", role: "group", "aria-label": "Map" },
    ...["pan", "box", "lasso"].map((name) => h("label", { class: "choice" },
      h("input", { type: "radio", name: "tool", value: name, checked: name === "pan", onchange: () => (scatter.mode = name) }), name)),
    h("button", { type: "button", "aria-label": "Zoom in", onclick: () => scatter.zoom(1.4) }, "+"),
    h("button", { type: "button", "aria-label": "Zoom out", onclick: () => scatter.zoom(1 / 1.4) }, "−"),
    h("button", { type: "button", onclick: () => scatter.reset() }, "All"),
    h("label", {}, "Colour ", colour));
  const help = h("p", { id: "map-help", class: "about" },
    "Drag to move, wheel or + and − to zoom, arrows to move, 0 for all. Box and lasso select; a click opens a record.");
  main.append(tools, h("div", { class: "plane" }, h("div", { class: "canvas" }, canvas, line, tip), h("div", { class: "beside" }, about, chosen, side, legend)), help);

  let data = null, selected = null, hovered = -1, asking = null;
  const scatter = new Scatter(canvas, {
    onhover(found, at) {
      tip.hidden = found < 0;
      canvas.style.cursor = found < 0 ? "" : "pointer";
      if (found < 0) hovered = -1;
      else {
        tip.style.transform = `translate(${at[0] + 14}px, ${at[1] + 10}px)`;
        if (found !== hovered) name(found).catch(failed);
      }
    },
    onpick: (found) => record(side, state.kind, data.ids[found], signal).catch(failed),
    onselect(found, outline) {
      line.replaceChildren();
      tip.hidden = true;
      if (outline) {
        const shape = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
        shape.setAttribute("points", outline.map((one) => one.join(",")).join(" "));
        line.append(shape);
      } else select(found).catch(failed);
    },
  });
  document.addEventListener("theme", () => data && paint(), { signal });
  main.scatter = scatter; // for tests and the curious: document.querySelector("main").scatter

  async function name(found) {
    hovered = found;
    const place = data.colours[found];
    const value = place >= 0 ? ` · ${data.legend[place]}` : "";
    tip.textContent = `${data.ids[found]}${value}`;
    if (asking) asking.abort();
    asking = new AbortController();
    await new Promise((done) => setTimeout(done, 60));
    if (hovered !== found) return;
    const one = await api.get(api.at(state.kind, data.ids[found]), asking.signal);
    if (hovered === found) tip.replaceChildren(h("strong", {}, title(one)), ` ${gist(one)}`.slice(0, 160), value);
  }

  function paint() {
    const colours = new Uint8Array(4 * data.ids.length);
    const dark = getComputedStyle(document.documentElement).colorScheme.startsWith("dark");
    const plain = dark ? [150, 160, 175] : [120, 130, 145];
    const table = data.legend.map((_, place) => rgb(place));
    const alpha = data.ids.length > 20000 ? 150 : 215;
    for (let i = 0; i < data.ids.length; i++) {
      const tint = data.colours[i] >= 0 ? table[data.colours[i]] : data.legend.length ? plain : rgb(0);
      colours.set(tint, 4 * i);
      colours[4 * i + 3] = selected && !selected.has(i) ? 18 : alpha;
    }
    scatter.paint(colours);
  }

  async function select(found) {
    selected = found.length ? new Set(found) : null;
    paint();
    chosen.replaceChildren();
    if (!selected) return;
    const ids = found.map((i) => data.ids[i]);
    const where = JSON.stringify({ id__in: ids.slice(0, MOST) });
    chosen.append(
      h("h3", {}, `${count(ids.length)} selected`),
      h("p", { class: "line" },
        h("button", { type: "button", disabled: ids.length > MOST, onclick: () => search(ids) }, "Search in these"),
        h("button", { type: "button", onclick: () => navigator.clipboard.writeText(where) }, "Copy as filter"),
        h("button", { type: "button", onclick: () => select([]) }, "Clear")));
    const some = await api.post(api.at(state.kind, "get"), { ids: ids.slice(0, SHOWN) }, signal);
    chosen.append(h("ul", { class: "chosen" }, some.records.filter(Boolean).map((one) => h("li", {},
      h("a", { href: `#/search?id=${encodeURIComponent(one.id)}`, onclick: (event) => {
        event.preventDefault();
        record(side, state.kind, one.id, signal).catch(failed);
      } }, title(one)), h("span", { class: "gist" }, gist(one))))));
    if (ids.length > SHOWN) chosen.append(h("p", { class: "about" }, `the first ${SHOWN} of ${count(ids.length)}`));
  }

  function search(ids) {
    sessionStorage.setItem("vectorstore-within", JSON.stringify({ kind: state.kind, ids }));
    go("search", { kind: state.kind, within: "map" });
  }

  async function load() {
    about.textContent = "Loading…";
    const wanted = colour.value ? `?colour=${encodeURIComponent(colour.value)}` : "";
    const found = await api.get(api.at(state.kind, "map") + wanted, signal);
    const same = data && data.ids.length === found.ids.length;
    data = { ...found, colours: new Int16Array(bytes(found.colours)) };
    if (!same) selected = null;
    scatter.place(new Float32Array(bytes(found.points)));
    paint();
    canvas.setAttribute("aria-label", `Map of ${count(data.ids.length)} ${state.kind}`);
    const { info } = found;
    const shares = info.explained.map((share) => `${(100 * share).toFixed(1)} %`).join(" and ");
    about.textContent = `${count(data.ids.length)} ${state.kind} by ${info.method.toUpperCase()}`
      + (info.method === "pca" ? `, whose axes explain ${shares}` : "") + (info.later ? `; ${count(info.later)} came later` : "");
    legend.replaceChildren(...data.legend.slice(0, 40).map((value, place) => h("li", {},
      h("button", { type: "button", "aria-pressed": "false", onclick: () => {
        const of = [];
        data.colours.forEach((one, i) => one === place && of.push(i));
        select(of).catch(failed);
      } }, h("span", { class: "swatch", style: `background:${css(place)}` }), value))));
    main.dataset.points = data.ids.length;
  }

  const names = await fields(state, signal);
  const asked = params.get("colour");
  colour.append(h("option", { value: "" }, "one"), ...names.map((one) => h("option", { value: one }, one)));
  colour.value = names.includes(asked) ? asked : names.includes("domain") ? "domain" : names.includes("tier") ? "tier" : "";
  colour.addEventListener("change", () => load().catch(failed));
  try {
    await load();
  } catch (error) {
    if (error.status !== 404 || !/no map/.test(error.message)) throw error;
    about.replaceChildren("There is no map yet. ", h("button", { type: "button", class: "main", onclick: (event) => {
      event.target.disabled = true;
      about.append(" Projecting…");
      api.post(api.at(state.kind, "map"), {}, signal).then(load).catch((wrong) => {
        event.target.disabled = false;
        failed(wrong);
      });
    } }, "Make it"));
  }
}
