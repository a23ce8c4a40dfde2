"use strict";
// The page's script: slices, filters and the list of questions. Everything from the data goes in as text, never as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const BATCH = 200; // rows drawn at once
const top_ = data.chain[data.chain.length - 1];
const flagAt = Object.fromEntries(data.flags.map((name, index) => [name, index]));

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") element.style.cssText = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const passed = (run, rung) => run !== null && run.passed[flagAt[rung]] === "1";
const isRight = (run) => run !== null && run.fell === "";
const percent = (share) => (100 * share).toFixed(1);

// ---- slices ----

const TITLES = { by_difficulty: "By difficulty", by_feature: "By SQL feature of the gold", by_database: "By database" };
const FILTER_OF = { by_difficulty: "difficulty", by_feature: "feature", by_database: "db" };
const FIRST_SLICES = 20;

function drawSlices(rung) {
  const panels = Object.fromEntries(Object.entries(data.slices).filter(([, slices]) => slices.length).map(([kind, slices]) => {
    const rows = slices.map((slice) => sliceRow(kind, slice, rung));
    const panel = make("div", {}, make("h3", {}, TITLES[kind]), ...rows.slice(0, FIRST_SLICES));
    if (rows.length > FIRST_SLICES) {
      const more = make("button", { type: "button", class: "link", onclick: () => more.replaceWith(...rows.slice(FIRST_SLICES)) },
        `${rows.length - FIRST_SLICES} more`);
      panel.append(more);
    }
    return [kind, panel];
  }));
  const column = (...kinds) => make("div", {}, ...kinds.map((kind) => panels[kind]));
  byId("panels").replaceChildren(column("by_difficulty", "by_database"), column("by_feature"));
}

function sliceRow(kind, slice, rung) {
  const dots = make("span", { class: "dots", "aria-hidden": "true", style: `--n:${slice.runs.length}` });
  const values = make("span", { class: "vals" });
  slice.runs.forEach((cell, number) => {
    const rate = cell && cell[rung];
    if (!rate) return values.append(make("span", {}, "–"));
    const [count, low, high] = rate;
    const y = `${0.42 + 0.55 * number}rem`;
    dots.append(
      make("i", { class: `run${number}`, style: `top:${y};left:${100 * low}%;width:${100 * (high - low)}%` }),
      make("b", { class: `run${number}`, style: `top:${y};left:${(100 * count) / cell.n}%` }),
    );
    const said = `${data.runs[number]}: ${count} of ${cell.n}, 95 % from ${percent(low)} to ${percent(high)}`;
    values.append(make("span", { title: said, "aria-label": `${percent(count / cell.n)} %, ${said}` }, percent(count / cell.n)));
  });
  const n = Math.max(...slice.runs.map((cell) => (cell ? cell.n : 0)));
  const show = () => setFilters({ [FILTER_OF[kind]]: slice.name });
  return make("div", { class: "slice" },
    make("button", { type: "button", class: "link", title: slice.name, onclick: show }, slice.name),
    make("span", { class: "n", title: "questions" }, String(n)), dots, values);
}

// ---- filters ----

const fields = { text: "f-text", outcome: "f-outcome", cause: "f-cause", db: "f-db", difficulty: "f-difficulty", feature: "f-feature" };

function option(value, label) { return make("option", { value }, label); }

function counted(values) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) || 0) + 1);
  return [...counts];
}

function fillFilters() {
  const questions = data.questions;
  const simple = (id, values) => byId(id).append(option("", "all"), ...counted(values).filter(([value]) => value !== "")
    .map(([value, count]) => option(value, `${value} (${count})`)));
  simple("f-db", questions.map((q) => q.db).sort());
  simple("f-difficulty", questions.map((q) => q.difficulty || "unclassed"));
  const named = counted(questions.flatMap((q) => q.features)).sort((a, b) => b[1] - a[1]);
  byId("f-feature").append(option("", "all"), ...named.map(([f, count]) => option(data.features[f], `${data.features[f]} (${count})`)));
  byId("f-outcome").append(option("", "all"), ...outcomeGroups());
  byId("f-cause").append(option("", "all"));
  data.runs.forEach((label, number) => {
    const causes = counted(questions.filter((q) => q.runs[number]).map((q) => q.runs[number].cause)).sort((a, b) => b[1] - a[1]);
    byId("f-cause").append(make("optgroup", { label },
      ...causes.map(([cause, count]) => option(`${number}:${cause}`, `${cause} (${count})`))));
  });
  if (!questions.some((q) => q.difficulty)) byId("f-difficulty").closest("label").hidden = true;
}

function outcomeGroups() {
  const groups = [];
  const counting = (value, label) => {
    const count = data.questions.filter((q) => hasOutcome(q, value)).length;
    return count ? [option(value, `${label} (${count})`)] : [];
  };
  for (let number = 1; number < data.runs.length; number++) {
    groups.push(make("optgroup", { label: `${data.runs[number]} against ${data.runs[0]}` },
      ...[["gained", "gained"], ["lost", "lost"], ["both", "both right"], ["neither", "both wrong"]]
        .flatMap(([kind, label]) => counting(`${kind}:${number}`, label))));
  }
  data.runs.forEach((label, number) => groups.push(make("optgroup", { label },
    ...counting(`${number}:right`, "right"), ...counting(`${number}:wrong`, "not right"),
    ...data.chain.flatMap((rung) => counting(`${number}:${rung}`, `lost at ${rung}`)),
    ...counting(`${number}:undecided`, "undecided"))));
  return groups;
}

function hasOutcome(question, value) {
  const [first, second] = value.split(":");
  const number = Number(second);
  if (["gained", "lost", "both", "neither"].includes(first)) {
    const [a, b] = [question.runs[0], question.runs[number]];
    if (!a || !b || a.fell === "undecided" || b.fell === "undecided") return false;
    const kinds = { gained: !isRight(a) && isRight(b), lost: isRight(a) && !isRight(b), both: isRight(a) && isRight(b), neither: !isRight(a) && !isRight(b) };
    return kinds[first];
  }
  const run = question.runs[Number(first)];
  if (!run) return false;
  if (second === "right") return run.fell === "";
  if (second === "wrong") return run.fell !== "" && run.fell !== "undecided";
  return run.fell === "undecided" ? second === "undecided" : data.chain[run.fell] === second;
}

function haystack(q) {
  if (!q.haystack) {
    const texts = [q.id, q.db, q.text, q.evidence, q.gold, q.gold_fault];
    for (const run of q.runs) if (run) texts.push(run.sql, run.error, run.cause, ...(run.findings || []));
    q.haystack = texts.filter(Boolean).join("\n").toLowerCase();
  }
  return q.haystack;
}

function matches(q, wanted, words) {
  if (wanted.db && q.db !== wanted.db) return false;
  if (wanted.difficulty && (q.difficulty || "unclassed") !== wanted.difficulty) return false;
  if (wanted.feature && !q.features.some((f) => data.features[f] === wanted.feature)) return false;
  if (wanted.outcome && !hasOutcome(q, wanted.outcome)) return false;
  if (wanted.cause) {
    const colon = wanted.cause.indexOf(":");
    const run = q.runs[Number(wanted.cause.slice(0, colon))];
    if (!run || run.cause !== wanted.cause.slice(colon + 1)) return false;
  }
  return words.every((word) => haystack(q).includes(word));
}

function setFilters(values) {
  for (const [name, id] of Object.entries(fields)) byId(id).value = values[name] || "";
  draw();
  byId("questions").scrollIntoView();
}

// ---- the list ----

let found = [];
let nDrawn = 0;

function draw(openId) {
  const wanted = Object.fromEntries(Object.entries(fields).map(([name, id]) => [name, byId(id).value]));
  const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean);
  found = data.questions.filter((q) => matches(q, wanted, words));
  const all = data.questions.length.toLocaleString("en");
  byId("shown").textContent = found.length === data.questions.length ? all : `${found.length.toLocaleString("en")} of ${all}`;
  byId("list").replaceChildren();
  nDrawn = 0;
  drawMore(Math.max(BATCH, openId ? found.findIndex((q) => q.id === openId) + 1 : 0));
  writeHash(openId);
}

// The address names the filters and the open question, so that a view can be sent to somebody.
function writeHash(openId) {
  const kept = Object.entries(fields).map(([name, id]) => [name, byId(id).value]).filter(([, value]) => value);
  if (openId) kept.push(["open", openId]);
  const hash = new URLSearchParams(kept).toString();
  if (hash || location.hash.includes("=")) history.replaceState(null, "", `#${hash || "questions"}`);
}

function drawMore(count) {
  const next = found.slice(nDrawn, nDrawn + count);
  byId("list").append(...next.map(questionRow));
  nDrawn += next.length;
  byId("more").hidden = nDrawn >= found.length;
  byId("more").textContent = `Show ${Math.min(BATCH, found.length - nDrawn)} more of ${found.length - nDrawn}`;
}

function questionRow(q) {
  const pills = q.runs.map((run, number) => pill(run, data.runs[number]));
  const row = make("details", { class: "q", "data-id": q.id },
    make("summary", {},
      make("span", { class: "id" }, q.id),
      make("span", { class: "ask" }, q.text),
      make("span", { class: "tags" }, make("span", {}, [q.db, q.difficulty].filter(Boolean).join(" · ")), ...pills)));
  row.addEventListener("toggle", () => {
    if (row.open && row.children.length === 1) row.append(questionBody(q));
    writeHash(row.open ? q.id : "");
  });
  return row;
}

function pill(run, label) {
  if (!run) return make("span", { class: "pill none", title: label }, "not judged");
  const kind = run.fell === "" ? "right" : run.fell === "undecided" ? "none" : passed(run, "ran") ? "ran" : "bad";
  return make("span", { class: `pill ${kind}`, title: label, "aria-label": `${label}: ${run.cause}` }, run.cause);
}

function questionBody(q) {
  const body = make("div", { class: "body" });
  if (q.evidence) body.append(make("p", {}, make("small", {}, "Evidence "), q.evidence));
  const cards = make("div", { class: "cards" });
  const gold = make("article", { class: "card", "aria-label": "Gold" }, make("h4", {}, "Gold"), sqlBlock(q.gold));
  if (q.gold_fault) gold.append(make("p", { class: "error" }, q.gold_fault));
  gold.append(...resultTable(q.gold_result));
  cards.append(gold, ...q.runs.map((run, number) => runCard(q, run, number)));
  body.append(cards, ...promptBlocks(q));
  return body;
}

function runCard(q, run, number) {
  const label = data.runs[number];
  const card = make("article", { class: `card run${number}`, "aria-label": label }, make("h4", {}, label, pill(run, label)));
  if (!run) return card;
  card.append(sqlBlock(run.sql, run.gold || q.gold), flagList(run));
  if (run.error) card.append(make("p", { class: "error" }, run.error));
  if (run.findings) card.append(make("p", { class: "error" }, run.findings.join("; ")));
  if (run.gold) card.append(make("p", {}, make("small", {}, "Judged against another gold")), sqlBlock(run.gold));
  card.append(...resultTable(run.result));
  if (run.strain !== undefined) card.append(make("small", {}, `strain ${run.strain}`));
  if (run.cut) card.append(make("p", { class: "error" }, "The answer was cut at the token limit."));
  if (run.text) card.append(make("details", { class: "prompt" }, make("summary", {}, "Raw answer"), make("pre", { tabindex: "0" }, run.text)));
  return card;
}

function flagList(run) {
  const words = { 1: "yes", 0: "no", "-": "open" };
  const shown = data.flags.filter((name, index) => run.passed[index] !== "-" || data.chain.includes(name));
  return make("div", { class: "flags" }, ...shown.map((name) => {
    const letter = run.passed[flagAt[name]];
    const isFault = flagAt[name] >= flagAt.invented_table;
    const word = isFault && letter !== "-" ? (letter === "1" ? "no" : "yes") : words[letter];
    const label = isFault && letter === "0" ? `no ${name.replace("_", " ")}` : name;
    return make("span", { class: word, "aria-label": `${label}: ${{ yes: "passed", no: "not passed", open: "undecided" }[word]}` }, label);
  }));
}

function resultTable(result) {
  if (!result) return [];
  const count = `${result.n.toLocaleString("en")} row${result.n === 1 ? "" : "s"}`;
  const cut = result.rows.length < result.n ? `, the first ${result.rows.length} shown` : "";
  const cell = (value) => value === null ? make("td", { class: "null" }, "NULL")
    : Array.isArray(value) ? make("td", { class: "number" }, value[0]) : make("td", {}, value);
  const parts = [make("small", {}, count + cut)];
  if (result.rows.length) {
    parts.push(make("div", { class: "rows", tabindex: "0", role: "region", "aria-label": "Result" }, make("table", {},
      make("thead", {}, make("tr", {}, ...result.columns.map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...result.rows.map((row) => make("tr", {}, ...row.map(cell)))))));
  }
  return parts;
}

function promptBlocks(q) {
  const byPrompt = new Map();
  q.runs.forEach((run, number) => {
    if (run && run.prompt !== undefined) byPrompt.set(run.prompt, [...(byPrompt.get(run.prompt) || []), number]);
  });
  return [...byPrompt].map(([prompt, numbers]) => {
    const [prefix, suffix, tokens] = data.prompts[prompt];
    const whose = byPrompt.size > 1 ? ` of ${numbers.map((number) => data.runs[number]).join(", ")}` : "";
    const shrunk = numbers.flatMap((number) => q.runs[number].shrunk || []);
    const left = shrunk.length ? `; left out to fit: ${[...new Set(shrunk)].join(", ")}` : "";
    const block = make("details", { class: "prompt" }, make("summary", {}, `Prompt${whose}, ${tokens.toLocaleString("en")} tokens${left}`));
    block.addEventListener("toggle", () => {
      if (block.children.length === 1) block.append(make("pre", { tabindex: "0" }, data.prefixes[prefix] + suffix));
    });
    return block;
  });
}

// ---- SQL with keywords marked ----

const KEYWORDS = new Set(("select from where and or not in is null like glob between exists case when then else end as on using join inner left " +
  "right full outer cross natural group by having order limit offset asc desc distinct all union intersect except with recursive over partition " +
  "values cast iif").split(" "));
const TOKEN = /(--[^\n]*|\/\*[\s\S]*?\*\/)|('(?:[^']|'')*')|("(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\])|([\p{L}\p{N}_]+)|([\s\S])/gu;

// The SQL as text; words and values that `gold` does not hold are marked.
function sqlBlock(sql, gold) {
  const block = make("pre", { class: "sql" });
  if (sql === null || sql === undefined) {
    block.append(make("span", { class: "com" }, "no SQL"));
    return block;
  }
  const known = gold && new Set([...gold.matchAll(TOKEN)].map(([token]) => token.toLowerCase()));
  let plain = "";
  const flush = () => { if (plain) block.append(plain); plain = ""; };
  for (const [token, comment, string, name, word] of sql.matchAll(TOKEN)) {
    const kinds = [];
    if (comment) kinds.push("com");
    if (string) kinds.push("str");
    if (word && KEYWORDS.has(word.toLowerCase())) kinds.push("kw");
    if (known && (string || name || word) && !known.has(token.toLowerCase())) kinds.push("new");
    if (!kinds.length) { plain += token; continue; }
    flush();
    block.append(make("span", { class: kinds.join(" ") }, token));
  }
  flush();
  return block;
}

// ---- start ----

function readHash() {
  const wanted = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  for (const [name, id] of Object.entries(fields)) byId(id).value = wanted.get(name) || "";
  const openId = wanted.get("open");
  draw(openId);
  const row = openId && [...byId("list").children].find((child) => child.dataset.id === openId);
  if (row) { row.open = true; row.scrollIntoView(); }
  else if (wanted.size) byId("questions").scrollIntoView();
}

function start() {
  const rungs = data.flags.filter((name) => Object.values(data.slices).some((slices) => slices.some((s) => s.runs.some((cell) => cell && cell[name]))));
  byId("slice-rung").append(...rungs.map((name) => option(name, name)));
  byId("slice-rung").value = top_;
  byId("slice-rung").addEventListener("change", (event) => drawSlices(event.target.value));
  drawSlices(top_);
  fillFilters();
  byId("filters").addEventListener("input", () => draw());
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("reset", () => setTimeout(draw));
  byId("more").addEventListener("click", () => drawMore(BATCH));
  for (const button of document.querySelectorAll("[data-outcome]")) {
    button.addEventListener("click", () => setFilters({ outcome: button.dataset.outcome }));
  }
  byId("theme").addEventListener("click", () => {
    const isDark = (document.documentElement.style.colorScheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    document.documentElement.style.colorScheme = isDark ? "light" : "dark";
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
    event.preventDefault();
    byId("f-text").focus();
  });
  addEventListener("hashchange", () => { if (location.hash.includes("=")) readHash(); });
  readHash();
}

start();
