// Health: whether all is well, and what the store holds.

import * as api from "./api.js";
import { count, h } from "./dom.js";

function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  for (; bytes >= 1000 && place < units.length - 1; place++) bytes /= 1000;
  return `${bytes.toFixed(place ? 1 : 0)} ${units[place]}`;
}

export async function show(main, params, state, signal) {
  const told = await api.get("/health", signal).catch((problem) => {
    if (!problem.body?.checks) throw problem;
    return problem.body;  // a 503 that says what is wrong
  });
  const found = await api.get("/status", signal);
  const checks = Object.entries(told.checks).map(([name, wrong]) => h("li", { class: wrong ? "bad" : "good" },
    h("strong", {}, name), " ", wrong || "well"));
  const kinds = Object.entries(found.store.kinds).filter(([, kind]) => kind.records || kind.deleted);
  const rows = kinds.map(([name, kind]) => h("tr", {},
    h("th", { scope: "row" }, h("a", { href: `#/search?kind=${name}` }, name)),
    h("td", {}, count(kind.records)), h("td", {}, count(kind.deleted)), h("td", {}, count(kind.vectors)),
    h("td", {}, kind.dim ? `${kind.dim}, ${kind.metric}` : ""),
    h("td", {}, kind.index ? `${kind.index.recipe}, ${count(kind.index.rows)} rows` : kind.vectors ? "exact" : "")));
  main.append(
    h("h2", {}, told.status === "ok" ? "All is well" : "Something is wrong"),
    h("ul", { class: "checks" }, checks),
    h("p", { class: "about" }, `${found.store.path} · ${size(found.store.bytes)} · format ${found.store.format} · `
      + `commit ${count(found.store.seq)} · vectorstore ${found.service.version} · process ${found.service.pid}`),
    h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Kind", "Records", "Deleted", "Vectors", "Space", "Index"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows))));
}
