// A record: its fields, what is near to it, what it is related to, the analogies and clusters that it is in.

import * as api from "./api.js";
import { gist, h, number, title } from "./dom.js";

const HIDDEN = new Set(["id", "version", "created_at", "updated_at", "deleted_at", "expires_at", "context"]);

function shown(value) {
  if (Array.isArray(value)) return value.map((one) => (typeof one === "object" ? JSON.stringify(one) : one)).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

const empty = (value) => value === null || value === "" || (typeof value === "object" && !Object.keys(value).length);

export function link(kind, one, note) {
  const address = `#/search?kind=${encodeURIComponent(kind)}&id=${encodeURIComponent(one.id)}`;
  return h("li", {}, h("a", { href: address }, title(one)), note && h("span", { class: "note" }, note),
    h("span", { class: "gist" }, gist(one)));
}

export async function record(side, kind, id, signal) {
  const one = await api.get(api.at(kind, id), signal);
  const fields = Object.entries(one).filter(([name, value]) => !HIDDEN.has(name) && !empty(value));
  const parts = h("div", { class: "parts" });
  side.replaceChildren(
    h("h2", {}, title(one)),
    h("p", { class: "about" }, `${kind} · ${one.id} · version ${one.version} · ${new Date(one.updated_at).toLocaleString()}`),
    h("dl", {}, fields.flatMap(([name, value]) => [h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, shown(value))])),
    parts);
  // Each part may have nothing to say of this kind; that is no error.
  const maybe = (call) => call.catch((error) => {
    if (error.name === "AbortError") throw error;
    return null;
  });
  const [near, related, analogies, clusters] = await Promise.all([
    maybe(api.get(`${api.at(kind, id, "neighbours")}?k=8`, signal)),
    edges(kind, id, signal, maybe),
    kind === "concepts" ? maybe(api.get(`/analogies/mapping?term=${encodeURIComponent(one.name)}`, signal)) : null,
    maybe(api.get(api.at(kind, id, "clusters"), signal)),
  ]);
  parts.replaceChildren();
  if (near && near.hits.length) {
    parts.append(h("h3", {}, "Neighbours"),
      h("ul", { class: "near" }, near.hits.map((hit) => link(kind, hit.record, number(hit.score, 3)))));
  }
  if (related.length) parts.append(h("h3", {}, "Edges"), h("ul", { class: "edges" }, related));
  if (analogies && analogies.mappings.length) {
    parts.append(h("h3", {}, "Analogies"),
      h("ul", {}, analogies.mappings.map((each) => h("li", {},
        h("a", { href: `#/search?kind=analogies&id=${encodeURIComponent(each.analogies[0])}` },
          `→ ${each.term}`), h("span", { class: "note" }, `${each.domain || "proportion"} · ${number(each.confidence, 2)}`)))));
  }
  const best = clusters ? Object.entries(clusters.memberships).slice(0, 3) : [];
  if (best.length) {
    parts.append(h("h3", {}, "Clusters"), h("ul", {}, best.map(([name, weight]) => h("li", {},
      h("a", { href: `#/search?kind=clusters&id=${encodeURIComponent(name)}` }, name),
      h("span", { class: "note" }, number(weight, 3))))));
  }
}

async function edges(kind, id, signal, maybe) {
  if (kind === "concepts") {
    const found = await maybe(api.get(`${api.at(kind, id, "related")}?direction=both&limit=30`, signal));
    return (found ? found.related : []).map((one) => {
      const edge = one.path[0];
      return link(kind, one.record, edge.source === id ? `${edge.type} →` : `← ${edge.type}`);
    });
  }
  if (kind === "memories") {
    const both = await Promise.all(["effects", "causes"].map((name) => maybe(api.get(`${api.at(kind, id, name)}?limit=20`, signal))));
    return both.flatMap((found, place) => (found ? found[["effects", "causes"][place]] : [])
      .map((one) => link(kind, one.record, place ? "← led to this" : "this led to →")));
  }
  return [];
}
