// The page: one view at a time, by the address after #/. Views are modules with show(main, params).

import * as api from "./api.js";
import { failed, h } from "./dom.js";
import * as analogies from "./analogies.js";
import * as health from "./health.js";
import * as map from "./map.js";
import * as search from "./search.js";
import * as work from "./work.js";

const VIEWS = { search, map, analogies, work, health };
const main = document.getElementById("main");
const kinds = document.getElementById("kind");
const asking = document.getElementById("asking");
let leaving = null;

export const state = { kind: "concepts", kinds: [] };

function route() {
  const [path, query] = (location.hash.replace(/^#\//, "") || "search").split("?");
  return { name: path in VIEWS ? path : "search", params: new URLSearchParams(query || "") };
}

export function go(name, params = {}) {
  const text = new URLSearchParams(Object.entries(params).filter(([, value]) => value !== "" && value != null)).toString();
  const wanted = `#/${name}${text ? `?${text}` : ""}`;
  if (location.hash === wanted) draw();
  else location.hash = wanted;
}

function draw() {
  const { name, params } = route();
  if (leaving) leaving.abort();
  leaving = new AbortController();
  const wanted = params.get("kind");
  if (wanted && state.kinds.includes(wanted)) kinds.value = state.kind = wanted;
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.getAttribute("href") === `#/${name}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · vectorstore`;
  main.replaceChildren();
  main.className = name;
  Promise.resolve(VIEWS[name].show(main, params, state, leaving.signal)).catch(failed);
}

async function start() {
  const found = await api.get("/kinds");
  state.kinds = found.kinds.map((kind) => kind.name);
  kinds.replaceChildren(
    ...found.kinds.map((kind) => h("option", { value: kind.name }, `${kind.name} (${kind.count.toLocaleString("en")})`)),
  );
  const most = found.kinds.find((kind) => kind.name === "concepts" && kind.count) || found.kinds.find((kind) => kind.count > 1);
  kinds.value = state.kind = most ? most.name : "concepts";
  draw();
  document.body.dataset.ready = "yes";
}

function ask() {
  if (asking.open) return;
  asking.showModal();
  document.getElementById("asking-token").focus();
}

document.getElementById("asking-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = document.getElementById("asking-token");
  const wrong = document.getElementById("asking-wrong");
  api.keepToken(field.value.trim());
  api.get("/kinds").then(() => {
    wrong.textContent = "";
    asking.close();
    start().catch(failed);
  }, (error) => {
    wrong.textContent = error.status === 401 ? "This is not the service's token." : error.message;
    field.select();
  });
});
asking.addEventListener("cancel", (event) => event.preventDefault());

function theme() {
  const set = document.documentElement.dataset.theme;
  const dark = set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.getElementById("theme").textContent = dark ? "Light" : "Dark";
  return dark;
}

document.getElementById("theme").addEventListener("click", () => {
  const next = theme() ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("vectorstore-theme", next);
  theme();
  document.dispatchEvent(new CustomEvent("theme"));
});

kinds.addEventListener("change", () => {
  state.kind = kinds.value;
  go(route().name, { kind: kinds.value });
});

// "/" goes to the search box from wherever one is, as on many pages.
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    const box = document.getElementById("query");
    if (box) box.focus();
    else go("search", { kind: state.kind });
  }
});

async function pulse() {
  const dot = document.getElementById("pulse");
  let well = "cannot be reached";
  try {
    well = (await (await fetch("/health")).json()).status;
  } catch { /* told by the dot */ }
  dot.dataset.well = well === "ok" ? "yes" : "no";
  dot.setAttribute("aria-label", `Health: ${well}`);
  dot.title = `Health: ${well}`;
}

window.addEventListener("hashchange", () => {
  api.takeToken();
  if (document.body.dataset.ready) draw();
});
api.onRefused(ask);
api.takeToken();
theme();
pulse();
setInterval(pulse, 15000);
start().catch(failed);
