"use strict";
const byId = (id) => document.getElementById(id);
const LOST_AFTER_MS = 4000, HOLD_MS = 1500, ORDERS_SHOWN = 12, ANSWER_MS = 40000;
const MARKS = { armed: "✓", sweeping: "⟳", confirmed: "■", escalated: "!", unknown: "?" };

// Ids may be longer than a double holds: then the digits are kept as text, where the browser shows them to us.
const parse = (text) => JSON.parse(text, (_key, value, context) =>
  typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source
    ? context.source : value);

let known = null; // the last picture
let knownAt = 0; // when it came, by our own clock that never steps
let lost = true, spoken = "";
let followed = null; // the trip that was pressed here

function put(node, text) { if (node.textContent !== text) node.textContent = text; }
function el(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}
function mark(node, className) { if (node.className !== className) node.className = className; }
function show(node, yes) { if (node.hidden === yes) node.hidden = !yes; }

// Rows are kept and changed in place, so that focus, open details and what somebody types stay.
function keep(list, items, keyOf, make, change) {
  const old = new Map([...list.children].map((node) => [node.dataset.key, node]));
  let place = list.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let node = old.get(key);
    old.delete(key);
    if (!node) { node = make(item); node.dataset.key = key; }
    if (node === place) place = place.nextElementSibling; else list.insertBefore(node, place);
    change(node, item);
  }
  for (const node of old.values()) node.remove();
}
function rows(name, items, keyOf, lines, none) {
  show(byId("no-" + name) ?? el("p"), items.length === 0);
  if (byId("no-" + name) && none) put(byId("no-" + name), none);
  keep(byId(name), items, keyOf, () => el("li"), (node, item) => said(node, lines(item)));
}
// Lines of [class, text] as children, changed in place.
function said(node, lines) {
  const texts = lines.filter((line) => line && line[1]);
  while (node.children.length > texts.length) node.lastElementChild.remove();
  while (node.children.length < texts.length) node.append(el("p"));
  texts.forEach(([className, text], n) => { mark(node.children[n], className); put(node.children[n], text); });
}

const plural = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
function age(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "unknown";
  const s = Math.max(0, seconds);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.floor(s)} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} days`;
}
const sinceMessage = () => (performance.now() - knownAt) / 1000;
const serverNow = () => Date.parse(known.at) + sinceMessage() * 1000;
const sinceWhen = (at) => age((serverNow() - Date.parse(at)) / 1000);
function words(scope) {
  const part = (name) => scope[name] === undefined || scope[name] === "every" ? null : `${name} ${scope[name]}`;
  const names = ["account", "user", "instrument"];
  const named = names.map(part).filter(Boolean), all = names.filter((n) => !part(n)).map((n) => `all ${n}s`);
  return `${scope.oms}: ${[...named, ...all].join(", ")}`;
}
const labels = (held) => Object.entries(held).map(([k, v]) => `${k} ${v}`).join(", ") || "as a whole";
const list = (held, most, of) => held.slice(0, most).map(of).join("; ") + (held.length > most ? ` and ${held.length - most} more` : "");

// --- what is known

function sentence(state) {
  const live = state.trips.filter((t) => !t.shadow), n = live.length;
  const shadows = state.trips.length - n;
  const more = shadows ? ` ${plural(shadows, "shadow trip")}: nothing is cancelled for those.` : "";
  switch (state.state) {
    case "armed": return (state.ready ? "Watching. No trip is latched." : "No trip is latched, but it could NOT cancel right now.") + more;
    case "sweeping": return `${plural(n, "trip")} latched; orders are being cancelled and nothing is proven yet.` + more;
    case "confirmed": return `${plural(n, "trip")} latched and proven empty; guarded until a person resets.` + more;
    case "escalated": return `${plural(n, "trip")} latched, and at least one could not be proven empty. People are needed.` + more;
    default: return "The daemon says a state that this page doesn't know." + more;
  }
}
function outcomeWord(trip) {
  if (trip.shadow) return ["unknown", "shadow: cancels nothing"];
  if (trip.outcome === "VERIFIED") return ["ok", `VERIFIED: no ${trip.covers || "orders"} left`];
  return [trip.outcome === "RESIDUAL" ? "bad" : "warn", trip.outcome ?? "no round is done yet"];
}
function left(trip) {
  if (trip.orders_left === null) return "orders left: unknown";
  return (trip.outcome === "UNKNOWN" && trip.orders_left === 0 ? "at least " : "") + `${plural(trip.orders_left, "order")} left`;
}
function causes(trip) {
  const texts = trip.causes.map((c) => c.text + (c.count > 1 ? ` (${c.count} times)` : ""));
  return list(texts, 5, (t) => t) + (trip.more_causes ? ` and ${trip.more_causes} more` : "");
}
function would(trip) {
  const w = trip.would_cancel;
  if (!trip.shadow) return "";
  return w ? `A live trip would have cancelled ${w.complete && !w.unseen ? "" : "at least "}${plural(w.orders, "order")}.` : "What it would have cancelled isn't listed yet.";
}
function makeTrip(trip) {
  const node = el("li"), top = el("div", "top"), facts = el("div");
  top.append(el("h3"), el("span", "state-word"));
  const reset = el("details"), form = el("div", "reset");
  reset.append(el("summary", "", "Reset…"), form);
  const fields = {};
  for (const [name, label, most] of [["by", "Who resets", 64], ["reason", "Why it is safe again", 200]]) {
    const id = `${name}-${trip.trip}`, title = el("label", "", label), input = el("input");
    title.htmlFor = input.id = id; input.maxLength = most; input.autocomplete = "off";
    form.append(title, input); fields[name] = input;
  }
  const button = el("button", "", "Reset this trip"), answer = el("p"), why = el("p", "small");
  button.type = "button"; answer.setAttribute("role", "status");
  form.append(button, why, answer);
  button.addEventListener("click", () => resetTrip(trip.trip, fields, button, answer));
  node.append(top, facts, reset);
  Object.assign(node, { parts: { top, facts, reset, button, why } });
  return node;
}
function changeTrip(node, trip) {
  const { top, facts, reset, button, why } = node.parts;
  node.dataset.state = trip.state;
  put(top.firstChild, words(trip.scope));
  const badges = [trip.shadow && trip.state !== "shadow" ? "shadow" : "", trip.drill ? "drill" : ""].filter(Boolean);
  put(top.lastChild, [trip.state, ...badges].join(" · "));
  said(facts, [
    ["", `Cause: ${causes(trip) || "unknown"}`],
    outcomeWord(trip),
    ["", `${trip.shadow ? would(trip) : `${left(trip)}, ${plural(trip.calls, "call")}`}`],
    ["bad", trip.why && `Escalated: ${trip.why}`],
    ["warn", trip.remaining && `What remains: ${trip.remaining.text}`],
    ["quiet small", `${sinceWhen(trip.tripped_at)} ago, by ${trip.by}` + (trip.verified_at ? `; proven ${sinceWhen(trip.verified_at)} ago` : "")],
    ["quiet small", `trip ${trip.trip}`],
  ]);
  const may = known.takes_commands && (trip.state === "confirmed" || trip.shadow);
  show(reset, known.takes_commands);
  if (!node.busy) button.disabled = !may;
  put(why, may ? "The daemon may still refuse: while a rule of this trip breaches, for instance." : `Not while it is ${trip.state}: a reset is taken once the scope is proven empty.`);
}
const RULE_WORDS = { ok: "inside its limit", warn: "near its limit", bad: "breaching" };
function level(rule) {
  if (rule.breaching.length) return "bad";
  if (rule.headroom === null) return "unknown";
  return rule.headroom <= 0 ? "bad" : rule.headroom < 0.25 ? "warn" : "ok";
}
function makeRule() {
  const node = el("li"), top = el("div", "top"), bar = el("div", "bar"), facts = el("div");
  top.append(el("h3"), el("span"));
  bar.setAttribute("role", "meter"); bar.setAttribute("aria-valuemin", "0"); bar.setAttribute("aria-valuemax", "100");
  bar.append(el("i"));
  node.append(top, bar, facts);
  node.parts = { top, bar, facts };
  return node;
}
function changeRule(node, rule) {
  const { top, bar, facts } = node.parts, is = level(rule);
  const percent = rule.headroom === null ? null : Math.round(Math.max(0, Math.min(1, rule.headroom)) * 100);
  const text = rule.headroom === null ? "headroom unknown" : `headroom ${Math.round(rule.headroom * 100)} %`;
  put(top.firstChild, rule.rule + (rule.mode === "shadow" ? " · shadow" : ""));
  mark(top.lastChild, is); put(top.lastChild, (RULE_WORDS[is] ? RULE_WORDS[is] + ", " : "") + text);
  bar.dataset.level = is;
  bar.setAttribute("aria-label", `Headroom of ${rule.rule}`);
  bar.setAttribute("aria-valuetext", text);
  if (percent === null) bar.removeAttribute("aria-valuenow"); else bar.setAttribute("aria-valuenow", percent);
  bar.firstChild.style.width = percent === null ? "0" : `${percent}%`;
  said(facts, [
    ["quiet small", [rule.kind, rule.limit, `${rule.series} series`, rule.owner && `owner ${rule.owner}`].filter(Boolean).join(", ")],
    ["quiet small", rule.worst && `nearest: ${labels(rule.worst)}`],
    ["bad", rule.breaching.length && `breaching: ${list(rule.breaching, 6, labels)}`],
    ["warn", rule.unknown.length && `unknown: ${list(rule.unknown, 6, labels)}`],
    ["warn", rule.warming && `warming: ${rule.warming} of its windows aren't whole yet`],
    ["warn", rule.armed === false && "not armed yet: its silence doesn't count"],
  ]);
}
function feedLines(feed) {
  const bad = Object.entries(feed.bad).map(([why, n]) => `${why} ${n}`).join(", ");
  const word = !feed.up ? ["bad", "down"] : feed.stale ? ["bad", "stale"] : feed.heard ? ["ok", "fresh"] : ["warn", "not heard yet"];
  return [["name", feed.feed],
    [word[0], `${word[1]}, ${feed.heard ? `heard ${age(feed.age_s)} ago` : `waited for ${age(feed.age_s)}`}`],
    ["quiet small", plural(feed.readings, "reading")],
    ["warn", bad && `bad readings: ${bad}`],
    ["warn", feed.unheard.length && `never heard: ${feed.unheard.join(", ")}`],
    ["bad", feed.silent.length && `silent: ${feed.silent.join(", ")}`]];
}
function links(state) {
  return state.omses.flatMap((oms) => [{ key: `oms ${oms.oms}`, oms }, ...oms.sessions.map((s) => ({ key: `${oms.oms} ${s.gateway}`, oms, s }))]);
}
function linkLines({ oms, s }) {
  if (!s) return [["name", `${oms.oms}: ${oms.accounts_complete ? "" : "at least "}${plural(oms.accounts, "account")}`],
    [oms.orders_left === 0 ? "quiet" : "warn", oms.orders_left === null ? "orders left in latched scopes: unknown" : `${plural(oms.orders_left, "order")} left in latched scopes`],
    ["quiet small", oms.proof_age_s !== null && `oldest proof ${age(oms.proof_age_s)} ago; looked at every ${age(oms.guard_every_s)} at best`],
    ["bad", oms.uncovered_accounts.length && `not covered: account ${list(oms.uncovered_accounts, 20, String)}`]];
  const http = s.gateway.startsWith("http");
  return [["name", `${oms.oms} at ${s.gateway}`],
    [s.up ? "ok" : "bad", `${s.up ? "up" : "down"} ${s.since_s === null ? "" : "for " + age(s.since_s)}${s.why ? ": " + s.why : ""}`],
    ["quiet small", [s.dialect && `dialect ${s.dialect}`, s.watching && "watching: rules read it", http && "HTTP: last resort for cancels"].filter(Boolean).join(", ")],
    [s.may_cancel === false ? "bad" : "quiet small", s.may_cancel === true ? "its credential may cancel" : s.may_cancel === false ? `its credential may NOT cancel: ${s.credential}` : s.up && `whether its credential may cancel isn't known${s.credential ? ": " + s.credential : ""}`]];
}
function own(state) {
  return [...state.brokers.map((b) => ({ key: b.broker, lines: [["name", `broker ${b.broker}`], [b.up ? "ok" : "bad", b.up ? "up, hears commands" : `away${b.why ? ": " + b.why : ""}`]] })),
    ...(state.brokers.length ? [] : [{ key: "no broker", lines: [["name", "broker"], ["quiet", "none is configured: commands come over HTTP and by signal"]] }]),
    { key: "journal", lines: [["name", "journal"], [state.journal_error ? "bad" : "ok", state.journal_error ?? "writes"],
      ["warn", state.commands_waiting && `${plural(state.commands_waiting, "command")} wait for it`]] }];
}

function draw() {
  const state = known;
  document.title = `${state.state}${state.ready ? "" : " (not ready)"} · ${state.daemon}`;
  byId("banner").dataset.state = MARKS[state.state] ? state.state : "unknown";
  put(byId("state"), state.state); put(byId("mark"), MARKS[state.state] ?? "?"); put(byId("sentence"), sentence(state));
  put(byId("daemon"), `daemon ${state.daemon}, ${state.ready ? "ready" : "NOT READY"}.`);
  show(byId("shadow-mode"), state.mode === "shadow");
  const missing = [...(state.healthy ? [] : ["the decision loop doesn't turn"]), ...state.missing];
  show(byId("missing"), missing.length > 0);
  keep(byId("missing").lastElementChild, missing, String, () => el("li"), put);
  show(byId("no-trips"), state.trips.length === 0); put(byId("no-trips"), "None is latched.");
  keep(byId("trips"), state.trips, (t) => t.trip, makeTrip, changeTrip);
  show(byId("no-rules"), state.rules.length === 0); put(byId("no-rules"), "None: it works for commands alone.");
  keep(byId("rules"), state.rules, (r) => r.rule, makeRule, changeRule);
  rows("feeds", state.feeds, (f) => f.feed, feedLines, "None is configured.");
  rows("links", links(state), (l) => l.key, linkLines);
  rows("own", own(state), (o) => o.key, (o) => o.lines);
  show(byId("notes-section"), state.notes.length > 0);
  rows("notes", state.notes, String, (n) => [["", n]]);
  show(byId("no-events"), state.events.length === 0);
  const seen = new Map();
  const events = state.events.map((e) => {
    const key = `${e.at} ${e.kind} ${e.text}`, n = (seen.get(key) ?? 0) + 1;
    seen.set(key, n);
    return { ...e, key: `${key} ${n}` };
  });
  keep(byId("events"), events.reverse(), (e) => e.key, makeEvent, () => {});
  places(state);
  show(byId("no-commands"), !state.takes_commands); show(byId("form"), state.takes_commands);
  if (followed) follow(state);
}
function makeEvent(event) {
  const node = el("li"), at = new Date(event.at), time = el("time", "", at.toLocaleTimeString([], { hour12: false }));
  time.dateTime = event.at; time.title = event.at;
  node.append(time, el("b", "", `${event.shadow ? "shadow: " : ""}${event.kind.replaceAll("_", " ")}`), ` ${event.text}`);
  return node;
}
function speak() {
  const word = lost ? "The daemon is lost. Its state is unknown." : `State: ${known.state}. ${sentence(known)}`;
  if (word === spoken) return;
  const urgent = lost || known.state === "escalated" || known.state === "sweeping";
  put(byId(urgent ? "alarm" : "said"), word);
  put(byId(urgent ? "said" : "alarm"), "");
  spoken = word;
}
function watch() {
  const silent = known ? sinceMessage() : performance.now() / 1000;
  const now = silent * 1000 > LOST_AFTER_MS;
  if (known) put(byId("as-of"), now ? `Last heard ${age(silent)} ago.` : "Live.");
  if (now) {
    const last = known ? `What stands below is ${age(silent)} old: it was ${known.state} then.` : "It hasn't been heard since this page was opened.";
    put(byId("lost"), `The daemon is lost. ${last} If orders must go now: killswitch trip --direct`);
    if (!lost || byId("lost").hidden) {
      byId("banner").dataset.state = "unknown";
      put(byId("state"), "unknown"); put(byId("mark"), "?");
      put(byId("sentence"), "No word of the daemon: it is lost, or this browser can't reach it.");
      put(byId("daemon"), known ? `daemon ${known.daemon}.` : "");
      document.title = "LOST · killswitch";
    }
  }
  if (now && !lost && followed && !busy) {
    said(byId("receipt"), [...followed.lines, ["bad", "What became of it since isn't known: the daemon is lost."]]);
  }
  lost = now;
  show(byId("lost"), now);
  document.body.classList.toggle("is-lost", now);
  if (now || known) speak();
}

// --- the stream

let source = null;
function listen() {
  source?.close();
  source = new EventSource("/events");
  source.addEventListener("state", (message) => {
    try { known = parse(message.data); } catch { return; }
    knownAt = performance.now();
    draw(); watch();
  });
}
// A browser gives up for good on an answer that is no stream (503, too many boards): then ask again.
setInterval(() => { if (source.readyState === EventSource.CLOSED) listen(); }, 2000);
setInterval(watch, 500);

// --- the panic button

let offered = "";
function places(state) {
  const now = JSON.stringify([state.places, state.omses.map((o) => o.oms)]);
  if (now === offered) return;
  offered = now;
  const select = byId("place"), chosen = select.value, first = select.options.length === 1;
  [...select.options].slice(0, -1).forEach((o) => o.remove());
  state.places.forEach((place) => {
    const option = el("option", "", `${place.words} (${place.name})`);
    option.value = scopeJson(place.scope);
    select.insertBefore(option, select.lastElementChild);
  });
  const still = [...select.options].some((o) => o.value === chosen);
  select.value = still && !first ? chosen : select.options[0].value;
  byId("t-oms").replaceChildren(...state.omses.map((o) => Object.assign(el("option", "", o.oms), { value: o.oms })));
  choose();
}
// By hand, so that an id keeps all of its digits.
function scopeJson(scope) {
  const parts = [`"oms":${JSON.stringify(scope.oms)}`];
  for (const name of ["account", "user", "instrument"]) {
    if (scope[name] !== undefined) parts.push(`"${name}":${scope[name] === "every" ? '"every"' : scope[name]}`);
  }
  return `{${parts.join(",")}}`;
}
// The scope that is chosen, as text; or an error for people.
function scope() {
  if (byId("place").value !== "typed") return parse(byId("place").value);
  const found = { oms: byId("t-oms").value };
  for (const name of ["account", "user", "instrument"]) {
    const text = byId("t-" + name).value.trim();
    if (text && !/^[1-9][0-9]{0,18}$/.test(text)) return fault("t-" + name, `${name}: an id is a whole number above 0; empty means all`);
    if (text) found[name] = text;
  }
  if (!found.account && !found.user) found.account = "every";
  return found;
}
function fault(id, text) {
  followed = null; // else the next picture would write over what is said here
  byId(id).setAttribute("aria-invalid", "true");
  said(byId("receipt"), [["bad", text]]);
  byId(id).focus();
  return null;
}
function choose() {
  show(byId("typed"), byId("place").value === "typed");
  said(byId("previewed"), []);
  show(byId("again"), false);
  for (const id of ["t-account", "t-user", "t-instrument", "by", "reason"]) byId(id).removeAttribute("aria-invalid");
  const typed = ["account", "user", "instrument"].every((n) => /^([1-9][0-9]{0,18})?$/.test(byId("t-" + n).value.trim()));
  const now = byId("place").value === "typed" && !typed ? null : scope();
  put(byId("chosen"), now ? `Would trip ${words(now)}.` : "These ids aren't whole numbers above 0.");
}
for (const id of ["place", "t-oms", "t-account", "t-user", "t-instrument", "by", "reason"]) byId(id).addEventListener("input", choose);
byId("form").addEventListener("submit", (event) => event.preventDefault());

async function ask(path, options) {
  const answer = await fetch(path, { ...options, cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
  return [answer.status, parse(await answer.text())];
}
byId("preview").addEventListener("click", async () => {
  const wanted = scope(), out = byId("previewed"), button = byId("preview");
  if (!wanted) return;
  const text = scopeJson(wanted);
  button.disabled = true;
  said(out, [["quiet", "Looking…"]]);
  try {
    const [status, found] = await ask("/preview?" + new URLSearchParams(Object.entries(wanted)));
    const still = scope();
    if (!still || scopeJson(still) !== text) return;
    if (status !== 200) said(out, [["bad", `No preview: ${found.error ?? status}`]]); else previewed(out, wanted, found);
  } catch { said(out, [["bad", "No preview: the daemon didn't answer."]]); } finally { button.disabled = false; }
});
function previewed(out, wanted, found) {
  const whole = found.complete && !found.accounts_failed.length && !found.unreadable;
  said(out, [
    ["warn", `A trip of ${words(wanted)} would cancel ${whole ? "" : "at least "}${plural(found.orders.length, "order")}.`],
    ["small", found.orders.length && list(found.orders, ORDERS_SHOWN, (o) => `order ${o.order_id ?? "?"} (account ${o.account ?? "?"}, instrument ${o.instrument ?? "?"})`)],
    ["bad", found.accounts_failed.length && `No list was had of account ${list(found.accounts_failed, 20, String)}: there may be more.`],
    ["bad", found.unreadable && `${plural(found.unreadable, "row")} can't be read: there may be more.`],
    ["bad", !found.complete && `The list isn't complete: there may be more. ${found.why ?? ""}`],
    ["quiet small", "Nothing was cancelled."],
  ]);
}

const randomId = () => "board-" + [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
let pressed = null; // a command whose answer didn't come: the same id again counts once
let busy = false;
function wanted() {
  const now = scope();
  if (!now) return null;
  for (const [id, what] of [["by", "Say who presses."], ["reason", "Say why."]]) if (!byId(id).value.trim()) return fault(id, what);
  return { text: scopeJson(now), words: words(now), by: byId("by").value.trim(), reason: byId("reason").value.trim() };
}
async function trip() {
  const want = wanted();
  if (!want || busy) return;
  const body = (id) => `{"id":"${id}","scope":${want.text},"by":${JSON.stringify(want.by)},"reason":${JSON.stringify(want.reason)}}`;
  const id = pressed && pressed.body === body(pressed.id) ? pressed.id : randomId();
  pressed = { id, body: body(id) };
  followed = null; busy = true;
  hold.setAttribute("aria-disabled", "true"); // disabled would lose the focus
  said(byId("receipt"), [["", `Sending: trip ${want.words}…`]]);
  try {
    const [status, receipt] = await ask("/command/trip", { method: "POST", headers: { "Content-Type": "application/json" }, body: pressed.body });
    if (receipt.accepted === true || receipt.accepted === false) pressed = null;
    followed = { lines: [receiptLine(status, receipt)], trip: receipt.trip ?? (receipt.accepted === null ? receipt.id : null), seen: false };
    said(byId("receipt"), followed.lines);
    if (known) follow(known);
  } catch {
    said(byId("receipt"), [["bad", "No answer: nobody knows whether it was taken. Hold again: the same press counts once. If the daemon is gone: killswitch trip --direct"]]);
  } finally { busy = false; hold.removeAttribute("aria-disabled"); }
}
function receiptLine(status, receipt) {
  if (receipt.error) return ["bad", `Refused (${status}): ${receipt.error}`];
  const more = [receipt.outcome, receipt.remaining, receipt.durable === false && "not yet in the journal", receipt.shadow && "shadow: nothing is cancelled"].filter(Boolean).map((t) => `; ${t}`).join("");
  const word = receipt.accepted === true ? "Accepted" : receipt.accepted === false ? "Refused" : "No receipt yet";
  return [receipt.accepted === true ? "ok" : receipt.accepted === false ? "bad" : "warn", `${word} by ${receipt.daemon}: ${receipt.reason}${receipt.trip ? `, trip ${receipt.trip}` : ""}${more}`];
}
function follow(state) {
  const trip = state.trips.find((t) => t.trip === followed.trip);
  if (trip) followed.seen = true;
  const now = trip
    ? [[outcomeWord(trip)[0], `${trip.state}: ${trip.shadow ? would(trip) : `${left(trip)}. ${outcomeWord(trip)[1]}`}`], ["warn", trip.remaining?.text]]
    : [["", followed.seen && "It isn't latched any more: it was reset."]];
  said(byId("receipt"), [...followed.lines, ...now]);
}

const hold = byId("hold"), fill = byId("fill");
let began = 0, frame = 0, clickMeans = "";
function begin(event) {
  if (began || busy || !byId("again").hidden) return;
  clickMeans = "held";
  if (!wanted()) return;
  began = performance.now();
  if (event.pointerId !== undefined) hold.setPointerCapture(event.pointerId);
  frame = setInterval(step, 50);
}
function step() {
  const held = performance.now() - began;
  fill.style.width = `${Math.min(100, (100 * held) / HOLD_MS)}%`;
  put(byId("hold-text"), `Keep holding: ${Math.max(0, (HOLD_MS - held) / 1000).toFixed(1)} s`);
  if (held >= HOLD_MS) { release(); trip(); }
}
function release() {
  if (!began) return;
  const short = performance.now() - began < HOLD_MS;
  clearInterval(frame);
  began = 0; fill.style.width = "0";
  put(byId("hold-text"), "Hold to trip");
  if (short) followed = null;
  if (short) said(byId("receipt"), [["warn", "Let go too early: nothing was sent."]]);
}
hold.addEventListener("pointerdown", (event) => { if (event.button === 0) begin(event); });
// A press that doesn't begin has moved the focus to what lacks: the button must not take it back.
hold.addEventListener("mousedown", (event) => { if (!began) event.preventDefault(); });
for (const name of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) hold.addEventListener(name, release);
hold.addEventListener("contextmenu", (event) => event.preventDefault());
hold.addEventListener("keydown", (event) => {
  if (event.key === "Escape") release();
  if (event.key !== " " && event.key !== "Enter") return;
  event.preventDefault();
  if (!event.repeat) begin(event);
});
hold.addEventListener("keyup", (event) => {
  if (event.key !== " " && event.key !== "Enter") return;
  event.preventDefault();
  release();
});
// The click that ends a press comes right after it; one that comes later is another.
for (const name of ["pointerup", "keyup"]) document.addEventListener(name, () => setTimeout(() => { if (!began) clickMeans = ""; }, 50));
document.addEventListener("visibilitychange", () => { if (document.hidden) release(); });
// A click that no pointer and no key began is a screen reader's or a switch's: it can't hold, so it is asked again.
hold.addEventListener("click", () => {
  const held = clickMeans === "held";
  clickMeans = "";
  if (held || busy) return;
  const want = wanted();
  if (!want) return;
  put(byId("again-text"), `Trip ${want.words}? Every open order there is cancelled.`);
  show(byId("again"), true);
  byId("yes").focus();
});
byId("yes").addEventListener("click", () => { show(byId("again"), false); hold.focus(); trip(); });
byId("no").addEventListener("click", () => { show(byId("again"), false); hold.focus(); });

// --- reset

async function resetTrip(name, fields, button, answer) {
  for (const [key, what] of [["by", "Say who resets."], ["reason", "Say why it is safe again."]]) {
    if (!fields[key].value.trim()) { mark(answer, "bad"); put(answer, what); fields[key].focus(); return; }
  }
  // The daemon's own clock, as it was last heard: this browser's may be wrong, and an old reset is refused.
  const command = { id: randomId(), trip: name, by: fields.by.value.trim(), reason: fields.reason.value.trim(), issued_at: new Date(serverNow()).toISOString() };
  button.disabled = true;
  try {
    const [status, receipt] = await ask("/command/reset", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(command) });
    const [className, text] = receiptLine(status, receipt);
    mark(answer, className); put(answer, text);
    if (receipt.accepted === true) {
      followed = null;
      said(byId("receipt"), [[className, `Reset of ${name}. ${text}`]]);
    }
  } catch { mark(answer, "bad"); put(answer, "No answer: nobody knows whether it was taken."); } finally { button.disabled = false; }
}

listen();
