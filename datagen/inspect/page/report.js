// All text from the dataset enters the page through textContent: it is never parsed as HTML.

const $ = (id) => document.getElementById(id);
const index = JSON.parse($("index").textContent);
const numberOf = new Map(index.rows.map((row, number) => [row.id, number]));
const all = index.rows.map((_, number) => number);
const PER_PAGE = 50;
const state = { order: all, found: all, page: 0, current: null, scroll: 0 };

function el(tag, kind, ...children) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.append(...children);
  return made;
}

function text(tag, kind, content) {
  const made = el(tag, kind, content);
  made.dir = "auto";
  return made;
}

function button(kind, content, act) {
  const made = text("button", kind, content);
  made.addEventListener("click", act);
  return made;
}

function picture(video, frame) {
  const image = el("img");
  image.loading = "lazy";
  image.alt = "";
  image.src = `frames/${encodeURIComponent(video)}/${String(frame).padStart(6, "0")}.jpg`;
  return image;
}

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const clock = (seconds) => {
  const tenths = Math.round(seconds * 10);
  const [minutes, rest] = [Math.floor(tenths / 600), (tenths % 600) / 10];
  return `${minutes}:${rest < 10 ? "0" : ""}${Number.isInteger(rest) ? rest : rest.toFixed(1)}`;
};

// ---- verdicts: kept in this browser where it lets us, saved as a file by the reader

// A verdict is on a dialogue as it is: it lasts through a rebuild that leaves the dialogue the same.
const STORE = "datagen.verdicts";
const JUDGE = "datagen.judge";
const keyOf = (row) => JSON.stringify([row.id, row.content]);
const verdicts = new Map(Object.entries(recall(STORE) || {}));

function recall(name) {
  try {
    return JSON.parse(localStorage.getItem(name));
  } catch {
    return null;
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // Without storage the verdicts last as long as the page.
  }
}

const verdictOn = (row) => verdicts.get(keyOf(row)) || { verdict: "none", defects: [] };
const isJudged = (row) => verdictOn(row).verdict !== "none";

function give(verdict, defects) {
  const row = index.rows[state.current];
  verdicts.set(keyOf(row), { verdict, defects, time: new Date().toISOString() });
  keep(STORE, Object.fromEntries(verdicts));
  showVerdict();
}

function judge(verdict) {
  if (state.current === null) return;
  // The same once more takes it back.
  give(verdictOn(index.rows[state.current]).verdict === verdict ? "none" : verdict, []);
}

function defect(number) {
  const given = state.current === null ? null : verdictOn(index.rows[state.current]);
  const code = index.defects[number]?.[0];
  if (!code || given?.verdict !== "bad") return;
  const others = given.defects.filter((one) => one !== code);
  give("bad", others.length < given.defects.length ? others : [...others, code]);
}

function showVerdict() {
  const given = state.current === null ? null : verdictOn(index.rows[state.current]);
  for (const name of ["good", "bad"]) {
    $(name).classList.toggle("on", given?.verdict === name);
    $(name).setAttribute("aria-pressed", given?.verdict === name);
  }
  $("defects").hidden = given?.verdict !== "bad";
  $("defects").replaceChildren(...index.defects.map(([code, name], number) => {
    const made = button(given?.defects.includes(code) ? "on" : "", `${number + 1} ${name}`, () => defect(number));
    made.title = code;
    return made;
  }));
  const known = index.rows.filter(isJudged).length;
  $("download").textContent = `${known} verdict${known === 1 ? "" : "s"} ↓`;
  $("download").disabled = !index.rows.some((row) => verdicts.has(keyOf(row)));
}

// What was taken back is told too: it may have been read before.
function verdictLines() {
  const given = index.rows.filter((row) => verdicts.has(keyOf(row)));
  const judge = $("judge").value.trim();
  const lines = given.map((row) => ({ dialogue_id: row.id, content: row.content, judge, ...verdictOn(row) }));
  return lines.map((line) => JSON.stringify(line) + "\n").join("");
}

function download() {
  const name = $("judge").value.trim();
  $("judge").classList.toggle("wanted", !name);
  if (!name) {
    $("judge").focus();
    return;
  }
  const link = el("a");
  link.href = URL.createObjectURL(new Blob([verdictLines()], { type: "application/jsonl" }));
  link.download = `verdicts-${name.replace(/[^\p{L}\p{N}]+/gu, "-")}.jsonl`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// ---- lists of dialogues

function card(number, order) {
  const row = index.rows[number];
  const about = [`${row.replies.length} of ${row.turns} turns reply`, row.kinds.join(", "), row.name].join(" · ");
  const body = el("div", "text", text("div", "asks", row.asks || "(asks nothing)"), text("div", "about", about));
  body.append(strip(row));
  const chips = el("div");
  for (const code of row.flags) chips.append(el("span", "chip flag", code), " ");
  const { verdict } = verdictOn(row);
  if (isJudged(row)) chips.append(el("span", `chip ${verdict}`, verdict));
  if (chips.childNodes.length) body.append(chips);
  const link = el("a", "card", row.frame ? picture(row.video, row.frame) : el("span", "none"), body);
  link.href = `#${encodeURIComponent(row.id)}`;
  link.addEventListener("click", () => { state.order = order; });
  return link;
}

function strip(row) {
  const made = svg("svg", { class: "strip", viewBox: `0 0 ${row.turns} 1`, preserveAspectRatio: "none" });
  made.append(svg("rect", { class: "silent", width: row.turns, height: 1 }));
  for (const turn of row.replies) made.append(svg("rect", { class: "reply", x: turn, width: 0.9, height: 1 }));
  return made;
}

function fill(place, numbers, order, empty) {
  $(place).replaceChildren(...numbers.map((number) => card(number, order)));
  if (!numbers.length) $(place).append(el("p", "soft", empty));
}

function search() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  state.found = all.filter((number) => {
    const { id, name, asks, kinds, flags } = index.rows[number];
    const whole = [id, name, asks, ...kinds, ...flags].join("\n").toLowerCase();
    return words.every((word) => whole.includes(word));
  });
  turnPage(0);
}

function turnPage(page) {
  const last = Math.max(0, Math.ceil(state.found.length / PER_PAGE) - 1);
  state.page = Math.min(Math.max(page, 0), last);
  const from = state.page * PER_PAGE;
  fill("all", state.found.slice(from, from + PER_PAGE), state.found, "None.");
  $("found").textContent = `${state.found.length} dialogues`;
  $("page").textContent = `page ${state.page + 1} of ${last + 1}`;
  $("back").disabled = state.page === 0;
  $("forth").disabled = state.page === last;
  $("pager").hidden = last === 0;
}

// ---- from page to page

function route() {
  let id = null;
  try {
    id = decodeURIComponent(location.hash.slice(1));
  } catch {
    // A broken link leads to the first page.
  }
  const number = numberOf.get(id);
  state.current = number === undefined ? null : number;
  if (!$("run").hidden) state.scroll = scrollY;
  $("run").hidden = state.current !== null;
  $("dialogue").hidden = $("nav").hidden = state.current === null;
  if (state.current === null) showRun();
  else showDialogue(state.current);
  showVerdict();
}

function showRun() {
  const left = index.sample.filter((number) => !isJudged(index.rows[number])).length;
  $("judged").textContent = `${index.sample.length} drawn, ${index.sample.length - left} judged in this browser`;
  $("unjudged").disabled = !left;
  showDrawn();
  fill("random", index.random, index.random, "None.");
  fill("worst", index.worst, index.worst, "No dialogue has a flag.");
  turnPage(state.page);
  scrollTo(0, state.scroll);
}

// A hundred cards, which cost as much as all others: made when somebody wants to see them.
function showDrawn() {
  if ($("drawn").open) fill("sample", index.sample, index.sample, "None.");
}

function showDialogue(number) {
  if (!state.order.includes(number)) state.order = all;
  const at = state.order.indexOf(number);
  $("place").textContent = `${at + 1} of ${state.order.length}`;
  $("previous").disabled = at === 0;
  $("next").disabled = at === state.order.length - 1;
  $("dialogue").replaceChildren(...drawDialogue(JSON.parse($(`page-${number}`).textContent)));
  scrollTo(0, 0);
}

function judgeNext() {
  state.order = index.sample;
  const next = index.sample.find((number) => !isJudged(index.rows[number]));
  if (next !== undefined) location.hash = encodeURIComponent(index.rows[next].id);
}

function move(step) {
  const next = state.current === null ? index.worst.concat(all)[0] : state.order[state.order.indexOf(state.current) + step];
  if (next !== undefined) location.hash = encodeURIComponent(index.rows[next].id);
}

const KEYS = {
  j: () => move(1),
  k: () => move(-1),
  g: () => judge("good"),
  b: () => judge("bad"),
  u: () => { location.hash = ""; },
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
  KEYS[event.key]?.();
  if (/^[1-9]$/.test(event.key)) defect(event.key - 1);
});
addEventListener("hashchange", route);
$("previous").addEventListener("click", KEYS.k);
$("next").addEventListener("click", KEYS.j);
$("good").addEventListener("click", KEYS.g);
$("bad").addEventListener("click", KEYS.b);
$("download").addEventListener("click", download);
$("judge").value = recall(JUDGE) || "";
$("judge").addEventListener("input", () => keep(JUDGE, $("judge").value));
$("unjudged").addEventListener("click", judgeNext);
$("drawn").addEventListener("toggle", showDrawn);
$("search").addEventListener("input", search);
$("back").addEventListener("click", () => turnPage(state.page - 1));
$("forth").addEventListener("click", () => turnPage(state.page + 1));
$("theme").addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const root = document.documentElement.dataset;
  if (root.theme) delete root.theme;
  else root.theme = dark ? "light" : "dark";
});

route();
