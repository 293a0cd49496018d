// Elements without a framework. Text is always text: nothing of a record is ever read as HTML.

export function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (name in made && typeof value !== "string") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const said = document.getElementById("said");
let quiet = 0;
export function say(text, wrong = false) {
  clearTimeout(quiet);
  said.textContent = text;
  said.classList.toggle("wrong", wrong);
  said.classList.add("shown");
  quiet = setTimeout(() => said.classList.remove("shown"), wrong ? 8000 : 3500);
}

export function failed(error) {
  if (error.name === "AbortError" || error.status === 401) return;
  say(error.message, true);
}

const TELLING = ["name", "content", "source_domain", "anchor", "title", "trigger"];
export function title(record) {
  for (const name of TELLING) if (record[name]) return String(record[name]);
  return record.id;
}

const GIST = ["domain", "definition", "description", "target_domain", "reasoning", "tier", "status"];
export function gist(record) {
  return GIST.filter((name) => record[name] !== null && record[name] !== undefined && record[name] !== "")
    .map((name) => record[name]).join(" · ");
}

export function number(value, digits = 4) {
  return value === null || value === undefined ? "" : Number(value).toFixed(digits);
}

export function count(value) {
  return Number(value).toLocaleString("en");
}

// JSON, or name=value pairs with commas between: domain=physics, quality__gte=0.7
export function filter(text) {
  const trimmed = text.trim();
  if (!trimmed) return null;
  if (trimmed.startsWith("{")) {
    try {
      return JSON.parse(trimmed);
    } catch (error) {
      throw new Error(`filter: is not JSON: ${error.message}`);
    }
  }
  const found = {};
  for (const part of trimmed.split(",")) {
    const place = part.indexOf("=");
    if (place < 1) throw new Error(`filter: expected name=value or JSON, got ${part.trim()}`);
    const value = part.slice(place + 1).trim();
    found[part.slice(0, place).trim()] = /^(-?\d+(\.\d+)?|true|false|null)$/.test(value) ? JSON.parse(value) : value;
  }
  return found;
}
