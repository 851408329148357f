// The page of one dialogue: its flags, its lanes over the filmstrip, what is said, and details on demand.

const FILM_HEIGHT = 66;
const MOST_FRAMES = 8;

function drawDialogue(page) {
  const view = { page, detail: el("aside", "detail"), end: page.turns.at(-1), parts: new Map() };
  const video = page.video;
  const facts = [page.type, `by ${page.by}`, `goes to ${video.split}`, `${clock(video.duration)} min`,
    `${video.width}×${video.height}`, video.source, video.licence && `licence ${video.licence}`,
    [...new Set(page.questions.map((question) => question.kind))].join(", ")];
  const chips = el("div", "");
  for (const fact of facts.filter(Boolean)) chips.append(text("bdi", "chip", fact), " ");
  if (video.partial) chips.append(text("bdi", "chip flag", `partly read: ${video.partial}`));
  const drawn = [
    text("h2", "title", video.path), el("code", "soft", page.id), chips,
    ...flagList("flags", page.flags, page.flag_count, page), ...flagList("lost of this video besides", page.lost, page.lost.length, page),
    lanes(view), el("div", "columns", talk(view), view.detail),
  ];
  const first = page.questions.findIndex((question) => question.answers.length);
  if (first >= 0) showAnswer(view, page.questions[first].answers[0], first);
  else if (page.questions.length) showQuestion(view, page.questions[0], 0);
  return drawn;
}

function flagList(name, flags, count, page) {
  if (!count) return [];
  const list = el("ul", "flags");
  for (const flag of flags) {
    const item = flag.item === page.id ? "" : ` ${flag.item.replace(page.id, "")}`;
    list.append(el("li", "", el("b", "severe", flag.code), ` ${flag.stage}${item}: `, text("bdi", "", flag.detail),
      ...promptsAndReplies(page, flag.calls)));
  }
  if (count > flags.length) list.append(el("li", "soft", `and ${count - flags.length} more`));
  const folded = el("details", "", el("summary", "", `${name}: ${count}`), list);
  folded.open = name === "flags" && count <= 6;
  return [folded];
}

// ---- lanes

function lanes(view) {
  const { page, end } = view;
  const names = el("div", "names");
  const tracks = el("div", "tracks");
  const width = Math.max(innerWidth > 760 ? Math.min(innerWidth, 1240) - 160 : 560, page.turns.length * 9);
  const add = (name, made) => {
    const label = el("div", "", name);
    label.style.height = made.style.height || getHeight(made);
    made.style.width = `${width}px`;
    names.append(label);
    tracks.append(made);
  };
  add("", axis(end, width));
  add("film", film(view, width));
  if (page.video.cuts.length) add("cuts", cutMarks(view));
  add("captions", captions(view));
  add("asked", asked(view));
  add("evidence", spans(view, "evidence", (answer) => answer.evidence_span));
  add("due", spans(view, "due", (answer) => answer.reply_span));
  add("turns", turns(view));
  return el("div", "lanes", names, tracks);
}

const HEIGHTS = { "axis-lane": 16, film: 66, cuts: 10, captions: 22, "asks-lane": 22, turns: 24 };
const getHeight = (lane) => `${HEIGHTS[lane.classList[1]]}px`;

function put(lane, made, view, start, stop) {
  const share = (time) => (100 * Math.min(Math.max(time, 0), view.end)) / view.end;
  made.style.left = `${share(start)}%`;
  made.style.width = `${Math.max(share(stop) - share(start), 0.15)}%`;
  lane.append(made);
  return made;
}

function axis(end, width) {
  const lane = el("div", "lane axis-lane");
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
  const step = steps.find((one) => (one / end) * width >= 60) || 7200;
  for (let time = 0; time < end - step / 2; time += step) {
    const tick = el("span", "", clock(time));
    tick.style.left = `${(100 * time) / end}%`;
    lane.append(tick);
  }
  return lane;
}

function film(view, width) {
  const { video } = view.page;
  const lane = el("div", "lane film");
  const wanted = FILM_HEIGHT * Math.min(Math.max(video.width / video.height || 1, 0.6), 1.8);
  const count = Math.max(1, Math.min(video.frame_count, Math.floor(width / wanted)));
  for (let place = 0; place < count; place += 1) {
    const from = (place / count) * view.end;
    const frame = frameAt(video, from + view.end / count / 2);
    const image = put(lane, picture(video.id, frame), view, from, from + view.end / count);
    image.title = clock(frame * video.frame_interval);
    image.addEventListener("click", () => showFrame(view, frame));
  }
  return lane;
}

const frameAt = (video, time) =>
  Math.min(Math.max(Math.round(time / video.frame_interval), 1), Math.max(video.frame_count, 1));

function cutMarks(view) {
  const lane = el("div", "lane cuts");
  for (const time of view.page.video.cuts) put(lane, el("i"), view, time, time).style.width = "2px";
  return lane;
}

function captions(view) {
  const lane = el("div", "lane captions");
  for (const segment of view.page.segments) {
    const shown = button("block", segment.seen || segment.heard || "–", () => showSegments(view, [segment]));
    put(lane, shown, view, segment.start, segment.end);
  }
  return lane;
}

function asked(view) {
  const lane = el("div", "lane asks-lane");
  view.page.questions.forEach((question, number) => {
    const next = view.page.questions[number + 1];
    const shown = button(`block ${tint(number)}`, question.text, () => showQuestion(view, question, number));
    put(lane, shown, view, question.time, next ? next.time : view.end);
  });
  return lane;
}

const tint = (number) => `q${number % 5}`;

// Spans that overlap lie in rows below each other, as few as they need.
function spans(view, kind, spanOf) {
  const lane = el("div", `lane ${kind}`);
  const ends = [];
  view.page.questions.forEach((question, number) => question.answers.forEach((answer) => {
    const [start, stop] = answer.immediate && kind === "due" ? [question.time, question.time] : spanOf(answer);
    let row = ends.findIndex((end) => end <= start);
    if (row < 0) row = ends.length < 6 ? ends.length : 5;
    ends[row] = Math.max(stop, start + 0.01);
    const shown = button(`block span ${tint(number)}`, "", () => showAnswer(view, answer, number));
    shown.title = answer.text.slice(0, 200);
    put(lane, shown, view, start, stop).style.top = `${row * 17}px`;
    part(view, answer, shown);
  }));
  lane.style.height = `${Math.max(ends.length, 1) * 17}px`;
  return lane;
}

function part(view, answer, element) {
  view.parts.set(answer, [...(view.parts.get(answer) || []), element]);
}

function turns(view) {
  const lane = el("div", "lane turns");
  const replies = new Map(view.page.replies);
  let silentSince = 0;
  // A run of silent turns is one element with a seam for each turn: there may be thousands.
  const hush = (turn) => {
    const count = turn - silentSince;
    if (!count) return;
    const run = put(lane, el("div", "silent"), view, view.page.turns[silentSince - 1] ?? 0, view.page.turns[turn - 1]);
    run.style.backgroundSize = `${100 / count}% 100%`;
    run.title = `silent turns: ${count}`;
  };
  view.page.turns.forEach((time, turn) => {
    if (!replies.has(turn)) return;
    hush(turn);
    silentSince = turn + 1;
    const from = view.page.turns[turn - 1] ?? 0;
    const given = answersAt(view, turn);
    const act = () => (given.length ? showAnswer(view, ...given[0]) : showFrame(view, frameAt(view.page.video, time)));
    const shown = put(lane, button(`block ${tint(activeAt(view, turn))}`, "", act), view, from, time);
    shown.title = `${clock(time)} ${replies.get(turn).slice(0, 200)}`;
    for (const [answer] of given) part(view, answer, shown);
  });
  hush(view.page.turns.length);
  return lane;
}

const answersAt = (view, turn) => view.page.questions.flatMap((question, number) =>
  question.answers.filter((answer) => answer.turn === turn).map((answer) => [answer, number]));

// Number of the question that a turn replies to: the last one asked.
function activeAt(view, turn) {
  return view.page.asked.findLast(([index]) => index <= turn)?.[1] ?? 0;
}

// ---- what is said

function talk(view) {
  const list = el("div", "talk");
  const replies = new Map(view.page.replies);
  const questions = new Map(view.page.asked);
  const line = (time, content) => list.append(el("div", "line", el("time", "", clock(time)), content));
  let silent = 0;
  const hush = (turn) => {
    if (silent) line(view.page.turns[turn - silent], el("span", "quiet", `${silent} silent turn${silent > 1 ? "s" : ""}`));
    silent = 0;
  };
  view.page.turns.forEach((time, turn) => {
    if (questions.has(turn)) {
      hush(turn);
      const number = questions.get(turn);
      const question = view.page.questions[number];
      const act = () => showQuestion(view, question, number);
      line(time, button(`bubble ask ${tint(number)}`, question.text, act));
    }
    if (!replies.has(turn)) {
      silent += 1;
      return;
    }
    hush(turn);
    const given = answersAt(view, turn);
    const act = () => given.length && showAnswer(view, ...given[0]);
    const bubble = button(`bubble say ${tint(activeAt(view, turn))}`, replies.get(turn), act);
    for (const [answer] of given) part(view, answer, bubble);
    line(time, bubble);
  });
  hush(view.page.turns.length);
  return list;
}

// ---- details

function show(view, answer, ...children) {
  for (const parts of view.parts.values()) for (const one of parts) one.classList.remove("on");
  for (const one of view.parts.get(answer) || []) one.classList.add("on");
  view.detail.replaceChildren(...children);
  // Where the details lie below the talk, as on a phone, a click leads to them.
  if (view.detail.isConnected && innerWidth <= 760) view.detail.scrollIntoView({ block: "center" });
}

function pairs(...entries) {
  const list = el("dl");
  for (const [name, value] of entries) if (value) list.append(el("dt", "", name), text("dd", "", value));
  return list;
}

const span = ([start, end]) => `${clock(start)} to ${clock(end)}`;

function showFrame(view, frame) {
  const { video } = view.page;
  const image = picture(video.id, frame);
  image.className = "big";
  show(view, null, image, el("p", "soft", `frame ${frame}, ${clock(frame * video.frame_interval)}`));
}

function showQuestion(view, question, number) {
  show(view, null, text("h3", "", question.text), pairs(["kind", question.kind], ["asked at", clock(question.time)],
    ["answers", String(question.answers.length)], ["written by", view.page.by]),
    ...promptsAndReplies(view.page, question.calls), ...question.answers.map((answer) => el("p", "", button(`bubble say ${tint(number)}`, answer.text,
      () => showAnswer(view, answer, number)))));
}

function showSegments(view, segments) {
  const [first, last] = [segments[0], segments.at(-1)];
  show(view, null, el("h3", "", `Seen and heard, ${span([first.start, last.end])}`),
    frames(view, first.start, last.end), ...segments.flatMap((segment) => caption(view, segment)));
}

function caption(view, segment) {
  return [el("p", "soft", span([segment.start, segment.end])),
    pairs(["seen", segment.seen], ["heard", segment.heard], ["by", segment.by]),
    ...promptsAndReplies(view.page, segment.calls)];
}

function showAnswer(view, answer, number) {
  const { page } = view;
  const question = page.questions[number];
  const [start, end] = answer.evidence_span;
  const given = answer.turn === null ? "on no turn" : clock(page.turns[answer.turn]);
  show(view, answer, text("h3", "long", answer.text), pairs(["to", question.text], ["given", given],
    ["evidence", span([start, end])], ["due", answer.immediate ? "at once" : span(answer.reply_span)],
    ["rests on", answer.modality], ["written by", page.by]),
    ...promptsAndReplies(page, answer.calls),
    frames(view, start, end), ...answer.evidence.flatMap((segment) => caption(view, page.segments[segment])));
}

function frames(view, start, end) {
  const { video } = view.page;
  const grid = el("div", "frames");
  const first = Math.max(1, Math.ceil((start + 1e-6) / video.frame_interval));
  const last = Math.max(first, Math.min(Math.floor((end + 1e-6) / video.frame_interval), video.frame_count));
  const step = Math.max(1, (last - first) / (MOST_FRAMES - 1));
  for (let frame = first; frame <= last + 1e-6; frame += step) {
    const number = Math.min(Math.round(frame), Math.max(video.frame_count, 1));
    const shown = picture(video.id, number);
    shown.addEventListener("click", () => showFrame(view, number));
    grid.append(el("figure", "", shown, el("figcaption", "", clock(number * video.frame_interval))));
  }
  return grid;
}

const promptsAndReplies = (page, calls) => calls.map((number) => promptAndReply(page, page.calls[number]));

function promptAndReply(page, call) {
  const folded = (name, content) => el("details", "", el("summary", "", name), text("pre", "", content));
  const names = call.prompt.split("+").map((one) => one.split(":")[0]).join(" + ");
  const said = page.texts[call.id];
  return el("details", "call", text("summary", "", `${call.role} by ${call.served || call.model}, ${names}`),
    el("p", "soft", `prompt ${call.prompt}, call ${call.id}`),
    ...(said ? [el("p", "soft", "raw reply"), text("pre", "", said.reply),
      folded("prompt", said.user.map((line) => page.lines[line]).join("\n")),
      folded("system prompt", index.systems[said.system])] : [el("p", "note", index.missing)]));
}
