/* Four charts by Observable Plot: three of the models that the filters leave, one of a comparison. A chart is
   one stop of the keyboard; arrows go from point to point, and each point says itself below the chart. */
"use strict";
Board.charts = (() => {
  const { state, make, percent, scaled, three } = Board;
  const COLOURS = Board.METHODS.map((_, i) => `var(--m${i})`);
  const SYMBOLS = ["star", "triangle", "square", "circle", "diamond2"];
  const COVERED = 10, NAMED = 8; // pixels within which points cover each other; how many of them are named
  const MANY = 300; // points, from which on their intervals step back
  const COSTS = {
    "tokens a second, measured": (row) => row.speed, "FLOPs a token, computed": (row) => row.flops && [row.flops], "parameters": (row) => [row.parameters],
  };
  const TITLES = { "tokens a second, measured": "Tokens a second", "FLOPs a token, computed": "FLOPs a token", "parameters": "Parameters" };
  const FEW = 8; // numbers of rows, each of which is told on its axis
  const FONT = "system-ui, sans-serif", ASIDE = 7; // of the comparison's words; their pixels from zero
  const FRAME = { left: 52, right: 6, top: 26, bottom: 42 };
  const tens = (one) => (one ? one.map((x) => 100 * x) : null);
  let rows = [];
  const stale = new Set();

  const kinds = {
    recovery: {
      x: (row) => [100 * row.parametersRemoved], y: (row) => tens(row.recovery),
      labels: ["Parameters removed (%)", "Recovery (%)"], rule: 100,
      say: (row) => `recovery ${percent(row.recovery[0])} %, ${Board.between(row.recovery)}; ${percent(row.parametersRemoved)} % of parameters removed`,
      none: "No model here has a recovery.",
    },
    rows: {
      x: (row) => (row.rows ? [row.rows] : null), y: (row) => tens(row.average), log: true,
      labels: ["Rows trained on", "Average (%)"],
      say: (row) => `average ${percent(row.average[0])} %, ${Board.between(row.average)}; trained on ${row.rows.toLocaleString("en")} rows`,
      none: "No model here was trained.",
    },
    speed: {
      x: (row) => tens(row.average), y: (row) => COSTS[cost()](row), scale: true,
      gives: "y", labels: ["Average (%)", null],
      say: (row) => `average ${percent(row.average[0])} %, ${Board.between(row.average)}; ${said(row)}`,
      none: "No model here has that measured.",
    },
  };
  const cost = () => document.querySelector("#cost").value;
  const said = (row) => { const [value, low, high] = COSTS[cost()](row); return `${cost()}: ${low == null ? scaled(value) : three(value)}${low == null ? "" : `, ${three(low)} to ${three(high)}${["base", "pruned"].includes(row.method) ? "" : ", of the pruned model, whose shape it has"}`}`; };

  const ends = (values) => values.reduce(([low, high], v) => (v == null ? [low, high] : [Math.min(low, v), Math.max(high, v)]), [Infinity, -Infinity]);
  const wide = ([low, high], log) => (low === high || log ? [low * 0.9 - (low === 0), high * 1.1 + (high === 0)] : [low, high]);

  /* Both scales, and where each point is shown: beside its true place on the axis that gives way, if others of
     the same value would cover it. What was measured on the other axis stays where it is. */
  function layout(points, kind, width, height) {
    const ranges = { x: [FRAME.left + 10, width - FRAME.right - 14], y: [height - FRAME.bottom - 8, FRAME.top + 8] };
    const domains = {
      x: wide(ends(points.flatMap((p) => [p.x, p.x1, p.x2])), kind.log),
      y: wide(ends([...points.flatMap((p) => [p.y, p.y1, p.y2]), kind.rule])),
    };
    const scale = (axis, range) => Plot.scale({ [axis]: { ...(axis === "x" && kind.log ? { type: "log" } : { type: "linear", nice: true }), domain: domains[axis], range } });
    const [gives, keeps] = kind.gives === "y" ? ["y", "x"] : ["x", "y"], kept = scale(keeps, ranges[keeps]), first = scale(gives, ranges[gives]);
    for (const p of points) {
      p.at = first.apply(p[gives]);
      [p.low, p.high] = ends([p[keeps], p[`${keeps}1`], p[`${keeps}2`]].filter((v) => v != null).map((v) => kept.apply(v)));
    }
    const [from, to] = ranges[gives], most = Board.room.stepAside(points, Math.abs(to - from)), inward = Math.sign(to - from) * most;
    const given = scale(gives, [from + inward, to - inward]);
    for (const p of points) {
      p.shown = { x: p.x, y: p.y };
      if (p.aside) p.shown[gives] = given.invert(given.apply(p[gives]) + p.aside);
    }
    const plain = ({ type, domain, range }) => ({ type, domain, range });
    return { gives, [gives]: plain(given), [keeps]: plain(kept), distance: (p, q) => Math.hypot(...[[given, gives], [kept, keeps]].map(([s, axis]) => s.apply(p.shown[axis]) - s.apply(q.shown[axis]))) };
  }

  /* Few numbers of rows are told as they are; of many, and of shares, as many ticks as there is room for. */
  function ticks(points, kind, found, width) {
    if (!kind.log) return { ticks: width < 420 ? 5 : undefined };
    const values = [...new Set(points.map((p) => p.x))].sort((p, q) => p - q);
    if (values.length > FEW) return { ticks: width < 420 ? 3 : undefined, tickFormat: "~s" };
    const place = Plot.scale({ x: found.x }), apart = (p, q) => place.apply(q) - place.apply(p) > 8 * q.toLocaleString("en").length + 8;
    return { ticks: values.reduce((told, x) => (told.length && !apart(told.at(-1), x) ? told : [...told, x]), []), tickFormat: (x) => x.toLocaleString("en") };
  }

  /* Where points that stepped aside belong: a dotted line at the true value, a thin one from it to each. */
  function belongs(points, gives) {
    const aside = points.filter((p) => p.aside), values = [...new Set(aside.map((p) => p[gives]))];
    const links = aside.flatMap((p) => [{ x: p.x, y: p.y }, p.shown, { x: NaN, y: NaN }]); // one path for all
    return [
      (gives === "x" ? Plot.ruleX : Plot.ruleY)(values, { stroke: "currentColor", strokeOpacity: 0.55, strokeDasharray: "1 4", className: "true-place" }),
      Plot.line(links, { x: "x", y: "y", stroke: "currentColor", strokeOpacity: 0.55, strokeWidth: 1, className: "leads" }),
    ];
  }

  function draw(id) {
    const figure = document.querySelector(`#${id}`), place = figure.querySelector(".plot"), kind = kinds[id];
    const points = rows.flatMap((row) => {
      const [x, y] = [kind.x(row), kind.y(row)];
      return x && y ? [{ row, method: row.method, x: x[0], x1: x[1], x2: x[2], y: y[0], y1: y[1], y2: y[2] }] : [];
    });
    figure.querySelector(".readout").textContent = points.length ? "" : rows.length ? kind.none : "The filters leave no model.";
    if (!points.length) return place.replaceChildren();
    const width = Math.max(280, place.clientWidth), height = Math.min(420, Math.max(330, width * 0.66)), faint = points.length > MANY ? 0.25 : 0.75;
    const found = layout(points, kind, width, height);
    points.sort((p, q) => p.shown.x - q.shown.x || p.shown.y - q.shown.y);
    const colour = { domain: Board.METHODS, range: COLOURS }, present = new Set(points.map((point) => point.method));
    const whisker = (mark, x, y) => mark(points.filter((point) => point[Object.values(x)[0]] != null), { ...x, ...y, stroke: "method", strokeOpacity: faint, strokeWidth: 1.4 });
    const beside = (axis) => (axis === found.gives ? (p) => p.shown[axis] : axis);
    const [xs, ys] = kind.labels;
    const plot = Plot.plot({
      width, height, marginLeft: FRAME.left, marginRight: FRAME.right, marginTop: FRAME.top, marginBottom: FRAME.bottom,
      style: { fontSize: "12px", overflow: "visible" },
      x: { ...found.x, label: xs, ...ticks(points, kind, found, width), labelAnchor: "center" },
      y: { ...found.y, label: ys ?? cost(), grid: true, tickFormat: kind.scale ? "~s" : undefined },
      color: colour,
      symbol: { domain: Board.METHODS, range: SYMBOLS },
      marks: [
        ...(kind.rule ? [Plot.ruleY([kind.rule], { stroke: "currentColor", strokeDasharray: "4 4", strokeOpacity: 0.5 })] : []),
        ...belongs(points, found.gives),
        whisker(Plot.ruleX, { y1: "y1", y2: "y2" }, { x: found.gives === "x" ? beside("x") : "x" }),
        whisker(Plot.ruleY, { x1: "x1", x2: "x2" }, { y: beside("y") }),
        Plot.dot(points, { x: beside("x"), y: beside("y"), symbol: "method", fill: "method", stroke: "var(--paper)", strokeWidth: 1, r: points.length > MANY ? 4 : 6 }),
      ],
    });
    const legend = make("div", { class: "legend" }, ...Board.METHODS.filter((method) => present.has(method)).map((method) => make("span", {}, swatch(method), method)));
    if (points.some((point) => point.aside)) legend.append(make("span", { class: "aside" }, "points beside a dotted line belong on it"));
    place.replaceChildren(legend, plot);
    reach(figure, plot.matches("svg") ? plot : plot.querySelector("svg"), points, kind, (i, j) => found.distance(points[i], points[j]) < COVERED);
  }

  function swatch(method) {
    const i = Board.METHODS.indexOf(method), symbol = { star: d3.symbolStar, triangle: d3.symbolTriangle, square: d3.symbolSquare, circle: d3.symbolCircle, diamond2: d3.symbolDiamond2 }[SYMBOLS[i]];
    const svg = d3.create("svg").attr("viewBox", "-8 -8 16 16").attr("width", 16).attr("height", 16).attr("aria-hidden", "true");
    svg.append("path").attr("d", d3.symbol(symbol, 90)()).attr("fill", COLOURS[i]);
    return svg.node();
  }

  /* Points for pointer and keyboard: focus or hover says a point, a click or Enter takes it to compare. */
  function reach(figure, svg, points, kind, covers) {
    const dots = [...svg.querySelectorAll("[aria-label=dot] > *")], readout = figure.querySelector(".readout");
    const title = figure.querySelector("h3").textContent;
    let reached = 0; // of the points, the one that Tab comes to
    svg.setAttribute("role", "group");
    svg.setAttribute("aria-label", `${title}, ${points.length} models`);
    const point = (dot) => points[dots.indexOf(dot)];
    const tell = (dot) => {
      const at = dots.indexOf(dot);
      if (at < 0) return;
      const also = points.filter((_, i) => i !== at && covers(i, at)).map((one) => one.row.name);
      const more = also.length > NAMED ? `, and ${also.length - NAMED} more` : "";
      readout.textContent = `${points[at].row.name} (${points[at].method}): ${kind.say(points[at].row)}${also.length ? `. Here too: ${also.slice(0, NAMED).join(", ")}${more}` : ""}`;
    };
    dots.forEach((dot, i) => {
      dot.setAttribute("tabindex", i ? "-1" : "0");
      dot.setAttribute("role", "button");
      dot.setAttribute("aria-label", `${points[i].row.name}: ${kind.say(points[i].row)}`);
      dot.classList.add("point");
      dot.classList.toggle("chosen", points[i].row === state.a || points[i].row === state.b);
      // Not one listener on the svg: browsers let Tab stop at an svg that listens to focus.
      dot.addEventListener("focus", () => {
        dots[reached].setAttribute("tabindex", "-1");
        dot.setAttribute("tabindex", "0");
        reached = i;
        tell(dot);
      });
    });
    const of = (event) => event.target.closest?.(".point");
    svg.addEventListener("pointerover", (event) => tell(of(event)));
    svg.addEventListener("click", (event) => { if (of(event)) Board.choose(point(of(event)).row, true); });
    svg.addEventListener("keydown", (event) => {
      const at = dots.indexOf(of(event)), step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      const next = event.key === "Home" ? 0 : event.key === "End" ? dots.length - 1 : at + step;
      if (at >= 0 && dots[next] && !Number.isNaN(next)) { dots[next].focus(); event.preventDefault(); }
      if (at >= 0 && ["Enter", " "].includes(event.key)) { Board.choose(points[at].row, true); event.preventDefault(); }
    });
  }

  /* What stands below the chart on either side of zero: all of it where there is room, less where there is less,
     nothing where even that would be cut. `zero` and `width` are pixels; `measure` takes words to theirs. */
  function sides(zero, width, measure) {
    const room = { left: zero - ASIDE, right: width - zero - ASIDE }, roomier = room.left > room.right ? "left" : "right";
    const fitting = (side, words) => words.find((text) => measure(text) <= room[side]) ?? "";
    const unit = (side) => (side === roomier ? ", in points" : "");
    return {
      left: fitting("left", [`\u2190 B better${unit("left")}`, "\u2190 B better"]),
      right: fitting("right", [`A better${unit("right")} \u2192`, "A better \u2192"]),
    };
  }

  function differences(found, room) {
    const lines = [...found.tasks, found.average].map((one) => ({ name: one.name, value: 100 * one.difference, low: 100 * one.low, high: 100 * one.high, side: one.beyond ? (one.low > 0 ? "A" : "B") : "chance" }));
    const color = { domain: ["A", "B", "chance"], range: ["var(--a)", "var(--b)", "var(--quiet)"] };
    const longest = Math.max(...lines.map((one) => one.name.length));
    const width = Math.min(Math.max(280, room), 1100), marginLeft = Math.min(120, 16 + 7.2 * longest), marginRight = 20;
    const x = { nice: true, domain: [Math.min(-1, ...lines.map((one) => one.low)), Math.max(1, ...lines.map((one) => one.high))] };
    const pen = document.createElement("canvas").getContext("2d");
    pen.font = `12px ${FONT}`;
    const zero = Plot.scale({ x: { type: "linear", ...x, range: [marginLeft, width - marginRight] } }).apply(0);
    const words = sides(zero, width, (text) => pen.measureText(text).width);
    const plot = Plot.plot({
      width, height: 60 + 30 * lines.length, marginLeft, marginRight, marginBottom: 40,
      style: { fontSize: "12px", fontFamily: FONT }, color,
      x: { label: null, grid: true, ...x },
      y: { label: null, domain: lines.map((one) => one.name), tickFormat: (name) => (name.length > 15 ? `${name.slice(0, 14)}\u2026` : name) },
      marks: [
        Plot.ruleX([0], { stroke: "currentColor", strokeOpacity: 0.6 }),
        // On either side of zero, wherever zero is.
        Plot.text([words.left].filter(Boolean), { x: 0, frameAnchor: "bottom", textAnchor: "end", dx: -ASIDE, dy: 36, className: "sides-of-zero" }),
        Plot.text([words.right].filter(Boolean), { x: 0, frameAnchor: "bottom", textAnchor: "start", dx: ASIDE, dy: 36, className: "sides-of-zero" }),
        Plot.ruleY(lines, { y: "name", x1: "low", x2: "high", stroke: "side", strokeWidth: 3 }),
        Plot.dot(lines, { y: "name", x: "value", fill: "side", r: 5.5, stroke: "var(--paper)" }),
      ],
    });
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", "Differences of A and B by task, with 95 % intervals; the table below has the figures");
    return make("div", { class: "plot" }, plot);
  }

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      entry.target.dataset.seen = entry.isIntersecting ? "yes" : "";
      if (entry.isIntersecting) refresh(entry.target.id);
    }
  }, { rootMargin: "200px" });

  function refresh(id) {
    if (!stale.has(id)) return;
    stale.delete(id);
    draw(id);
  }

  /* Draws what waits for being seen: before the page is printed, or is scrolled to a place that charts would move. */
  const settle = () => Object.keys(kinds).forEach(refresh);

  /* Only what can be seen is drawn at once, after the table: typing in the search never waits for a chart. */
  function update(all) {
    rows = all;
    // What the third chart may show stays to be chosen, also while the filters leave no model.
    const costs = document.querySelector("#cost"), of = all.length ? all : Board.data.models.filter((row) => row.group === state.group);
    const has = Object.keys(COSTS).filter((name) => of.some((row) => COSTS[name](row)));
    if (costs.dataset.has !== has.join()) {
      const before = costs.value;
      costs.replaceChildren(...has.map((name) => make("option", { value: name }, name)));
      if (has.includes(before)) costs.value = before;
      costs.dataset.has = has.join();
    }
    titled();
    for (const id of Object.keys(kinds)) stale.add(id);
    requestAnimationFrame(() => setTimeout(() => {
      for (const id of Object.keys(kinds)) if (document.querySelector(`#${id}`).dataset.seen) refresh(id);
    }));
  }

  /* What the third chart shows is chosen; its heading says it before it is drawn, too. */
  function titled() {
    document.querySelector("#speed h3").textContent = `${TITLES[cost()] ?? "Cost"} against average`;
  }

  function listen() {
    for (const id of Object.keys(kinds)) seen.observe(document.querySelector(`#${id}`));
    window.addEventListener("beforeprint", settle);
    document.querySelector("#cost").addEventListener("change", () => { titled(); draw("speed"); });
    let width = document.body.clientWidth;
    window.addEventListener("resize", () => {
      if (document.body.clientWidth === width) return;
      width = document.body.clientWidth;
      update(rows);
      Board.compare.draw();
    });
  }

  return { update, settle, differences, listen };
})();
