// Search: a text, how it is read, what must hold; hits with why they are there; a record beside them.

import * as api from "./api.js";
import { go } from "./app.js";
import { failed, filter, gist, h, number, title } from "./dom.js";
import { record } from "./record.js";

const RECALLS = [0.9, 0.95, 0.99, 0.999, 1];

const WITHIN = "vectorstore-within";

// A selection of the map is too long for an address; it waits in the tab.
function within(params, state, where) {
  if (params.get("within") !== "map") return where;
  const kept = JSON.parse(sessionStorage.getItem(WITHIN) || "null");
  if (!kept || kept.kind !== state.kind) return where;
  const inside = { id__in: kept.ids };
  return where ? { and: [where, inside] } : inside;
}

function spelled(text) {
  // A snippet marks what matched with <mark>; all else of it is escaped text.
  const parts = new DOMParser().parseFromString(text, "text/html").body.childNodes;
  return [...parts].map((part) => (part.nodeName === "MARK" ? h("mark", {}, part.textContent) : part.textContent));
}

export async function show(main, params, state, signal) {
  const query = h("input", {
    id: "query", type: "search", name: "q", placeholder: "What are you looking for?", autocomplete: "off",
    "aria-label": "Search", value: params.get("q") || "",
  });
  const mode = h("select", { name: "mode", "aria-label": "Mode" },
    ["hybrid", "vector", "text"].map((name) => h("option", { value: name, selected: params.get("mode") === name }, name)));
  const where = h("input", {
    name: "where", placeholder: "domain=noun.animal, quality__gte=0.7", value: params.get("where") || "", spellcheck: "false",
  });
  const k = h("input", { name: "k", type: "number", min: "1", max: "200", value: params.get("k") || "10" });
  const asked = RECALLS.indexOf(Number(params.get("recall") || 0.99));
  const recall = h("input", { name: "recall", type: "range", min: "0", max: String(RECALLS.length - 1), step: "1",
    value: String(asked < 0 ? 2 : asked), "aria-label": "Recall" });
  const told = h("output", {}, String(RECALLS[recall.value]));
  recall.addEventListener("input", () => (told.textContent = RECALLS[recall.value] === 1 ? "exact" : String(RECALLS[recall.value])));
  const form = h("form", { class: "asking", role: "search" },
    h("div", { class: "line" }, query, h("button", { class: "main", type: "submit" }, "Search")),
    h("div", { class: "line options" },
      h("label", {}, "Mode ", mode),
      h("label", { class: "wide" }, "Filter ", where),
      h("label", {}, "Hits ", k),
      h("label", {}, "Recall ", recall, told)));
  const list = h("ol", { class: "hits", "aria-label": "Hits" });
  const about = h("p", { class: "about" });
  const side = h("aside", { class: "side", "aria-label": "Record" });
  const inside = params.get("within") === "map" && h("p", { class: "about" }, "Only within the selection of the map. ",
    h("a", { href: `#/search?kind=${state.kind}&q=${encodeURIComponent(params.get("q") || "")}` }, "Search everywhere"));
  main.append(form, inside || "", h("div", { class: "columns" }, h("section", {}, about, list), side));

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go("search", { kind: state.kind, q: query.value, mode: mode.value, where: where.value, k: k.value,
      recall: RECALLS[recall.value], within: params.get("within") });
  });
  keys(list, query);

  async function open(id) {
    for (const one of list.querySelectorAll("[aria-current]")) one.removeAttribute("aria-current");
    const here = [...list.querySelectorAll("a")].find((link) => link.dataset.id === id);
    if (here) here.setAttribute("aria-current", "true");
    await record(side, state.kind, id, signal);
  }

  list.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-id]");
    if (!link) return;
    event.preventDefault();
    const now = new URLSearchParams(location.hash.split("?")[1] || "");
    now.set("kind", state.kind);
    now.set("id", link.dataset.id);
    history.replaceState(null, "", `#/search?${now}`);
    open(link.dataset.id).catch(failed);
  });

  if (params.get("id")) record(side, state.kind, params.get("id"), signal).catch(failed);
  if (!params.get("q")) {
    if (!params.get("id")) query.focus();
    const page = await api.post(api.at(state.kind, "find"), { where: within(params, state, filter(where.value)), limit: 20 }, signal);
    about.textContent = page.total ? `${page.total.toLocaleString("en")} ${state.kind}, the first ${page.records.length} as they came`
      : `There are no ${state.kind} that match.`;
    list.append(...page.records.map((one) => row(one)));
    return;
  }
  await found(list, about, params, state, where.value, signal);
  if (params.get("id")) open(params.get("id")).catch(failed);
}

async function found(list, about, params, state, where, signal) {
  const asked = Number(params.get("recall") || 0.99);
  const body = { query: params.get("q"), k: Number(params.get("k") || 10), where: within(params, state, filter(where)),
    mode: params.get("mode") || "hybrid", explain: true };
  if (asked === 1) body.exact = true;
  else body.recall = asked;
  if (body.mode !== "vector") body.snippets = true;
  about.textContent = "Searching…";
  const began = performance.now();
  let answer;
  try {
    answer = await api.post(api.at(state.kind, "search"), body, signal);
  } catch (error) {
    about.textContent = "";
    throw error;
  }
  const promise = answer.exact ? "exact" : `recall at least ${number(answer.recall_promised, 3)}`;
  about.replaceChildren(
    `${answer.hits.length} hits · ${promise} · ${answer.plan.name} · ${number(answer.elapsed * 1000, 2)} ms in the store, `
    + `${number(performance.now() - began, 0)} ms in all`,
    h("span", { class: "plan" }, answer.plan.reason));
  list.replaceChildren(...answer.hits.map((hit, place) => row(hit.record, hit, answer.explain.hits[place])));
}

function row(one, hit, why) {
  const parts = why ? Object.entries(why.parts).map(([name, value]) => `${name} ${number(value, 3)}`).join(" + ") : "";
  return h("li", {},
    h("a", { href: `#/search?id=${encodeURIComponent(one.id)}`, "data-id": one.id },
      h("span", { class: "name" }, title(one)),
      hit && h("span", { class: "score", title: parts && `= ${parts}` }, number(hit.score)),
      h("span", { class: "gist" }, hit && hit.snippet ? spelled(hit.snippet) : gist(one)),
      why && Object.keys(why.parts).length > 1 && h("span", { class: "why" }, parts)));
}

// Arrows go through the hits, up from the first one back to the box, Escape too.
function keys(list, query) {
  const links = () => [...list.querySelectorAll("a[data-id]")];
  query.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && links().length) {
      event.preventDefault();
      links()[0].focus();
    }
  });
  list.addEventListener("keydown", (event) => {
    const all = links();
    const place = all.indexOf(document.activeElement);
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const next = place + (event.key === "ArrowDown" ? 1 : -1);
      if (next < 0) query.focus();
      else all[Math.min(next, all.length - 1)].focus();
    } else if (event.key === "Escape") query.focus();
  });
}
