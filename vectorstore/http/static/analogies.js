// The analogy desk: a is to b as c is to what; and what corresponds between two domains.

import * as api from "./api.js";
import { go } from "./app.js";
import { failed, gist, h, number, title } from "./dom.js";

const METHODS = {
  "3cosadd": "what is near king − man + woman",
  "3cosmul": "the same as a product: near to both, far from the first",
  "pair": "what lies from the third as the second does from the first",
};

export async function show(main, params, state, signal) {
  const inputs = ["a", "b", "c"].map((name) => h("input", {
    name, "aria-label": name, required: true, autocomplete: "off", value: params.get(name) || "",
    placeholder: { a: "man", b: "king", c: "woman" }[name],
  }));
  const method = h("select", { name: "method" },
    Object.entries(METHODS).map(([name, meaning]) =>
      h("option", { value: name, title: meaning, selected: params.get("method") === name }, `${name}: ${meaning}`)));
  const form = h("form", { class: "desk", "aria-label": "Complete an analogy" },
    inputs[0], h("span", {}, "is to"), inputs[1], h("span", {}, "as"), inputs[2], h("span", {}, "is to what?"),
    h("label", {}, "by ", method), h("button", { class: "main", type: "submit" }, "Complete"));
  const answers = h("ol", { class: "answers", "aria-label": "Answers" });
  main.append(h("h2", {}, "Complete"), form, answers);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go("analogies", { ...Object.fromEntries(inputs.map((one) => [one.name, one.value])), method: method.value });
  });
  discovery(main, signal);
  if (!inputs.every((one) => one.value)) {
    inputs[0].focus();
    return;
  }
  const body = Object.fromEntries(inputs.map((one) => [one.name, one.value]));
  let found;
  try {
    found = await api.post("/analogies/complete", { ...body, k: 10, method: method.value }, signal);
  } catch (error) {
    if (!error.body || !error.body.candidates) throw error;
    await senses(answers, inputs, error.body, form, signal);
    return;
  }
  answers.replaceChildren(...found.hits.map((hit) => h("li", {},
    h("a", { href: `#/search?kind=concepts&id=${encodeURIComponent(hit.record.id)}` }, title(hit.record)),
    h("meter", { min: "0", max: "1", value: String(hit.confidence), "aria-label": `confidence ${number(hit.confidence, 2)}` }),
    h("span", { class: "note" }, `confidence ${number(hit.confidence, 2)} · score ${number(hit.score, 3)} · ahead by ${number(hit.margin, 3)}`),
    h("span", { class: "gist" }, hit.record.definition || hit.record.domain || ""))));
}

// Several concepts have the name: which one is meant is asked, not guessed.
async function senses(answers, inputs, problem, form, signal) {
  const name = /: ([abc]): /.exec(problem.detail);
  const input = inputs["abc".indexOf(name ? name[1] : "a")];
  const some = await api.post("/concepts/get", { ids: problem.candidates }, signal);
  const choose = (one) => {
    input.value = one.id;
    form.requestSubmit();
  };
  answers.before(h("section", { class: "senses", "aria-label": `Which ${input.value}` },
    h("p", {}, `Which “${input.value}” is meant?`),
    some.records.filter(Boolean).map((one) => h("button", { type: "button", onclick: () => choose(one) },
      h("strong", {}, title(one)), h("span", { class: "gist" }, gist(one))))));
  document.querySelector(".senses button").focus();
}

function discovery(main, signal) {
  const from = h("input", { name: "source", required: true, list: "domains", "aria-label": "From domain", autocomplete: "off", placeholder: "one domain" });
  const to = h("input", { name: "target", required: true, list: "domains", "aria-label": "To domain", autocomplete: "off", placeholder: "another domain" });
  const list = h("datalist", { id: "domains" });
  const form = h("form", { class: "desk", "aria-label": "Discover an analogy" },
    h("span", {}, "What in"), to, h("span", {}, "corresponds to what in"), from,
    h("button", { class: "main", type: "submit" }, "Discover"), list);
  const out = h("div", { class: "pairs" });
  main.append(h("h2", {}, "Discover"), form, out);
  api.post("/concepts/facets", { field: "domain", limit: 500 }, signal).then((found) => {
    list.replaceChildren(...found.facets.filter(([name]) => name).map(([name, number]) => h("option", { value: name }, String(number))));
  }, failed);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    out.textContent = "Comparing…";
    api.post("/analogies/discover", { source: from.value, target: to.value, min_quality: 0, pairs: 30 }, signal).then((found) => {
      const one = found.analogy;
      if (!one) {
        out.textContent = "Nothing corresponds.";
        return;
      }
      out.replaceChildren(
        h("p", { class: "about" }, `quality ${number(one.quality, 3)}: structure ${number(one.structural_coherence, 3)}, `
          + `meaning ${number(one.semantic_coherence, 3)}, reach ${number(one.productivity, 3)}`),
        h("ul", {}, one.concept_mappings.map((pair) => h("li", {}, `${pair.source} → ${pair.target}`,
          h("span", { class: "note" }, number(pair.confidence, 2))))));
    }, (error) => {
      out.textContent = "";
      failed(error);
    });
  });
}

