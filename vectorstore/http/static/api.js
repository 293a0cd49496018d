// Calls of the service. The token lives in this tab alone; an address may bring it as #token=..., which no server sees.

const KEPT = "vectorstore-token";

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || `the service answered ${status}`);
    this.status = status;
    this.body = body;
  }
}

export function takeToken() {
  const found = /(?:^#|&)token=([^&]+)/.exec(location.hash);
  if (found) {
    sessionStorage.setItem(KEPT, decodeURIComponent(found[1]));
    history.replaceState(null, "", location.pathname);
  }
}

export function keepToken(text) {
  sessionStorage.setItem(KEPT, text);
}

let refused = () => {};
export function onRefused(call) {
  refused = call;
}

async function send(method, path, body, signal) {
  const token = sessionStorage.getItem(KEPT);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const text = body === undefined ? undefined : JSON.stringify(body);
  const answer = await fetch(path, { method, headers, body: text, signal });
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    if (answer.status === 401) refused();
    throw new Problem(answer.status, told);
  }
  return answer;
}

export async function ask(method, path, body, signal) {
  return (await send(method, path, body, signal)).json();
}

export const get = (path, signal) => ask("GET", path, undefined, signal);
export const post = (path, body, signal) => ask("POST", path, body, signal);

export function at(...parts) {
  return "/" + parts.map(encodeURIComponent).join("/");
}

// Server-sent events by fetch: the browser's own EventSource cannot send a token.
export async function* events(path, signal) {
  const answer = await send("GET", path, undefined, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let left = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    left += value.replaceAll("\r", "");
    let end;
    while ((end = left.indexOf("\n\n")) >= 0) {
      const data = left.slice(0, end).split("\n").filter((line) => line.startsWith("data: "));
      left = left.slice(end + 2);
      if (data.length) yield JSON.parse(data.map((line) => line.slice(6)).join("\n"));
    }
  }
}
