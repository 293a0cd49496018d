// Work: what is done in the background, with progress as it happens, and what can be begun.

import * as api from "./api.js";
import { failed, h, say } from "./dom.js";

const OVER = new Set(["completed", "failed", "cancelled", "rolled_back"]);

export async function show(main, params, state, signal) {
  const list = h("ul", { class: "works", "aria-label": "Workflows" });
  const begin = (label, path, body) => h("button", { type: "button", onclick: () => {
    api.post(path, body, signal).then((made) => {
      say(made.id ? `${label}: begun` : `${label}: done`);
      if (made.id) list.prepend(card(made, signal));
    }, failed);
  } }, label);
  main.append(
    h("h2", {}, "Begin"),
    h("p", { class: "line" },
      begin(`Fit clusters of ${state.kind}`, api.at(state.kind, "clusters"), {}),
      begin(`Rebuild the index of ${state.kind}`, api.at(state.kind, "index"), {}),
      begin(`Make the map of ${state.kind}`, api.at(state.kind, "map"), {})),
    h("h2", {}, "Workflows"), list);
  const found = await api.get("/workflows?limit=30", signal);
  if (!found.workflows.length) list.append(h("li", { class: "about" }, "Nothing yet."));
  list.append(...found.workflows.map((one) => card(one, signal)));
}

function card(first, signal) {
  const bar = h("progress", { max: "1", "aria-label": `progress of ${first.id}` });
  const status = h("span", { class: "status" });
  const about = h("p", { class: "about" });
  const acts = h("p", { class: "line" });
  const errors = h("ul", { class: "errors" });
  const made = h("li", { "data-id": first.id }, h("p", { class: "line" }, h("strong", {}, `${first.operation} ${first.kind}`), status), bar, about, acts, errors);

  function act(label, name, body) {
    return h("button", { type: "button", onclick: () => {
      api.post(api.at("workflows", first.id, name), body, signal).then((now) => {
        tell(now);
        if (!OVER.has(now.status)) follow().catch(failed);
      }, failed);
    } }, label);
  }

  function tell(now) {
    bar.value = now.progress;
    bar.textContent = `${Math.round(100 * now.progress)} %`;
    status.textContent = now.stopping ? "stopping" : now.status.replace("_", " ");
    status.dataset.status = now.status;
    const wrong = now.errors ? `, ${now.errors} failed` : "";
    about.textContent = `${now.processed.toLocaleString("en")} of ${now.total.toLocaleString("en")}${wrong} · ${now.id} · `
      + `${new Date(now.created_at).toLocaleString()}${now.error ? ` · ${now.error}` : ""}`;
    acts.replaceChildren(...[
      !OVER.has(now.status) && act("Cancel", "cancel"),
      (now.status === "completed" || now.status === "failed") && act("Roll back", "rollback"),
      (now.status === "failed" || (now.status === "completed" && now.errors)) && act("Try again", "retry", {}),
    ].filter(Boolean));
    if (now.errors && OVER.has(now.status) && !errors.children.length) {
      api.get(`${api.at("workflows", now.id, "errors")}?limit=10`, signal).then((found) => {
        errors.replaceChildren(...found.errors.map((item) => h("li", {}, `${item.index}: ${item.reason}`)));
      }, failed);
    }
  }

  async function follow() {
    for await (const now of api.events(api.at("workflows", first.id, "events"), signal)) tell(now);
  }

  tell(first);
  if (!OVER.has(first.status) || first.stopping) follow().catch(failed);
  return made;
}
