/* Two models on the documents that both answered, by the same arithmetic as factory/compare.py.

   A model's file holds the bootstrap's replicates of its tasks' values. The documents drawn are the same for
   all models that answered the same ones, so replicates of a difference are differences of replicates. */
"use strict";
Board.compare = (() => {
  const { data, state, make, percent } = Board;
  const LEAST = 5e-5; // as in factory/compare.py: less is not seen in what is printed
  const NEAR = 3; // names told for one that is not known
  const waiting = new Map(), known = new Map();

  window.FACTORY_ANSWERS = (file, answers) => known.set(file, answers);

  function answers(row) {
    if (!row.answers) return Promise.resolve(null);
    if (!waiting.has(row.answers)) waiting.set(row.answers, new Promise((resolve, reject) => {
      const script = make("script", { src: `answers/${row.answers}.js` });
      script.onload = () => resolve(known.get(row.answers) ?? null);
      script.onerror = () => { waiting.delete(row.answers); reject(new Error("its answers cannot be read")); };
      document.head.append(script);
    }));
    return waiting.get(row.answers);
  }

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const replicates = (task) => {
    const view = new DataView(bytes(task.replicates).buffer), found = new Float64Array(view.byteLength / 2);
    for (let i = 0; i < found.length; i++) found[i] = view.getUint16(2 * i, true) / 65535;
    return found;
  };
  function scores(task) {
    const raw = bytes(task.scores);
    if (!task.binary) {
      const view = new DataView(raw.buffer);
      return Float64Array.from({ length: task.n }, (_, i) => view.getFloat64(8 * i, true));
    }
    return unpacked(raw, task.n);
  }
  const unpacked = (raw, n) => Float64Array.from({ length: n }, (_, i) => (raw[i >> 3] >> (i & 7)) & 1);

  /* Linear interpolation between order statistics, as numpy's default. */
  function quantile(ordered, share) {
    const at = share * (ordered.length - 1), low = Math.floor(at);
    return ordered[low] + (at - low) * ((ordered[low + 1] ?? ordered[low]) - ordered[low]);
  }
  function line(name, a, b, apart, n, won, lost) {
    const ordered = Float64Array.from(apart).sort(), low = quantile(ordered, 0.025), high = quantile(ordered, 0.975);
    return { name, a, b, difference: a - b, low, high, n, won, lost, beyond: low > LEAST || high < -LEAST };
  }
  const mean = (list) => list.reduce((x, y) => x + y, 0) / list.length;

  /* Every task that both answered on the same documents, the average over these, and what is left out. */
  function compared(ours, theirs) {
    const tasks = [], leftOut = [], drawn = [];
    for (const name of new Set([...Object.keys(ours), ...Object.keys(theirs)])) {
      const [x, y] = [ours[name], theirs[name]];
      if (!x || !y) { leftOut.push([name, "only one of them was scored on it"]); continue; }
      if (x.documents !== y.documents) { leftOut.push([name, "they answered different documents, or the same ones with different prompts"]); continue; }
      const both = x.correct && y.correct ? [x, y].map((one) => unpacked(bytes(one.correct), one.n)) : [x, y].map(scores);
      let won = 0, lost = 0;
      for (let i = 0; i < x.n; i++) { won += both[0][i] > both[1][i]; lost += both[0][i] < both[1][i]; }
      const [p, q] = [x, y].map(replicates), apart = p.map((value, i) => value - q[i]);
      drawn.push(apart);
      tasks.push(line(name, x.value, y.value, apart, x.n, won, lost));
    }
    if (!tasks.length) return { tasks, leftOut, average: null };
    const over = drawn[0].map((_, i) => mean(drawn.map((one) => one[i])));
    const sum = (part) => tasks.reduce((total, task) => total + task[part], 0);
    const average = line("average", mean(tasks.map((t) => t.a)), mean(tasks.map((t) => t.b)), over, sum("n"), sum("won"), sum("lost"));
    return { tasks, leftOut, average };
  }

  const signed = (x) => `${x < -LEAST ? "\u2212" : x > LEAST ? "+" : ""}${percent(Math.abs(x))}`;
  const better = (one) => (one.beyond ? (one.low > 0 ? "A is better" : "B is better") : "within chance");

  function verdict({ tasks, average }) {
    const names = (side) => tasks.filter((task) => task.beyond && (task.low > 0) === side).map((task) => task.name);
    const [ours, theirs] = [names(true), names(false)];
    const of = (who, list) => `${who} is better beyond chance on ${list.length ? `${list.length} of ${tasks.length} tasks (${list.join(", ")})` : "no task"}`;
    const whole = average.beyond ? `On average ${average.low > 0 ? "A" : "B"} leads by ${percent(Math.abs(average.difference))} points, beyond chance.` : "On average they differ by no more than chance.";
    const neither = `Neither is better beyond chance on ${tasks.length === 1 ? "the one task" : `any of ${tasks.length} tasks`}`;
    return `${ours.length || theirs.length ? `${of("A", ours)}; ${of("B", theirs)}` : neither}. ${whole}`;
  }

  function table({ tasks, leftOut, average }) {
    const row = (one) => make("tr", { class: one.beyond ? "beyond" : null },
      make("th", { scope: "row" }, one.name),
      ...[percent(one.a), percent(one.b)].map((text) => make("td", { class: "number" }, text)),
      make("td", { class: "number" }, make("span", { class: "value" }, signed(one.difference)), make("span", { class: "ends" }, `${signed(one.low)}\u00a0to ${signed(one.high)}`)),
      make("td", {}, make("span", { class: one.beyond ? "tag" : "tag quiet" }, better(one))),
      ...[one.won, one.lost, one.n].map((count) => make("td", { class: "number" }, count.toLocaleString("en"))));
    const heads = ["Task", "A", "B", "A \u2212 B", "Beyond chance", "Won", "Lost", "Documents"];
    const found = make("table", {},
      make("caption", { class: "unseen" }, "Both models by task; won counts documents that A has right and B wrong."),
      make("thead", {}, make("tr", {}, ...heads.map((text, i) => make("th", { scope: "col", class: i > 0 && i !== 4 ? "number" : null }, text)))),
      make("tbody", {}, ...tasks.map(row), row(average)));
    const scroll = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The comparison by task" }, found);
    const left = leftOut.map(([task, why]) => make("p", { class: "hint" }, `Not compared: ${task}: ${why}.`));
    const sides = make("div", { class: "sides" }, scroll);
    Board.watchSides(scroll);
    return [sides, ...left];
  }

  let asked = 0;
  async function draw() {
    const { a, b } = state, place = document.querySelector("#comparison"), said = document.querySelector("#verdict");
    const mine = ++asked;
    const printed = ["a", "b"].filter((side) => state[side]).map((side) => `${side.toUpperCase()}: ${state[side].name}`);
    document.querySelector("#printed").textContent = printed.join("; ");
    const tell = (text) => { said.textContent = text; place.replaceChildren(); };
    const missing = ["a", "b"].filter((side) => state.unknown[side]);
    if (missing.length) {
      place.replaceChildren();
      return said.replaceChildren(...missing.map((side) => make("span", { class: "line" }, ...unknown(side))));
    }
    if (!a || !b) return tell(a || b ? "Choose another one to compare with." : "");
    if (a === b) return tell("These are one and the same model. Choose another one to compare with.");
    if (a.suite !== b.suite) return tell(`They were scored by different suites, ${a.suite} and ${b.suite}.`);
    let both;
    try { both = await Promise.all([answers(a), answers(b)]); } catch (error) { return tell(`No comparison: ${error.message}.`); }
    if (mine !== asked) return;
    const without = [a, b].find((_, i) => !both[i]);
    if (without) return tell(`${without.name} came without scored documents, so it cannot be compared by document.`);
    const found = compared(...both);
    Board.compare.last = found;
    if (!found.tasks.length) return tell(`They have no task in common: ${found.leftOut.map(([task, why]) => `${task}: ${why}`).join("; ")}.`);
    said.textContent = verdict(found);
    place.replaceChildren(Board.charts.differences(found, place.clientWidth), ...table(found));
  }

  const pairs = (text) => new Set(Array.from({ length: Math.max(0, text.length - 1) }, (_, i) => text.slice(i, i + 2)));

  /* The models whose names share the most pairs of letters with what was typed. */
  function near(typed) {
    const wanted = pairs(typed.toLowerCase());
    const alike = data.models.map((row) => {
      const theirs = pairs(row.name.toLowerCase());
      let both = 0;
      for (const pair of wanted) both += theirs.has(pair);
      // Most of what was typed is enough: it is often a part of the name.
      return [Math.max((2 * both) / (wanted.size + theirs.size || 1), (0.9 * both) / (wanted.size || 1)), row];
    });
    return alike.filter(([share]) => share > 0.5).sort(([x, r], [y, s]) => y - x || r.i - s.i).slice(0, NEAR).map(([, row]) => row);
  }

  /* That there is no such model, and buttons that take one near it. */
  function unknown(side) {
    const found = near(state.unknown[side]);
    const take = (row) => {
      const button = make("button", { type: "button" }, row.name);
      button.addEventListener("click", () => { state[side] = row; Board.chosen(); document.querySelector(`#${side}`).focus(); });
      return button;
    };
    const what = `There is no model \u201c${state.unknown[side]}\u201d here${found.length ? "; near it: " : ". "}`;
    return [make("span", {}, what), ...found.map(take)];
  }

  function listen() {
    document.querySelector("#names").replaceChildren(...data.models.map((row) => make("option", { value: row.name })));
    for (const side of ["a", "b"])
      document.querySelector(`#${side}`).addEventListener("change", (event) => {
        const typed = event.target.value.trim();
        state[side] = Board.byName.get(typed) ?? null;
        state.unknown[side] = typed;
        Board.chosen();
      });
    document.querySelector("#swap").addEventListener("click", () => { for (const one of [state, state.unknown]) [one.a, one.b] = [one.b, one.a]; Board.chosen(); });
  }

  return { draw, listen, compared, answers, last: null };
})();
