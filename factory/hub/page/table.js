/* The table: a page of fifty rows, sorted by the button in a column's head. */
"use strict";
Board.table = (() => {
  const { data, state, make, percent, scaled, between } = Board;
  const LINES = 50;
  const score = (get) => ({ get: (row) => get(row)?.[0] ?? null, show: (row) => estimate(get(row)), number: true });
  const estimate = (one) => one ? [make("span", { class: "value" }, percent(one[0])), make("span", { class: "ends" }, between(one))] : "";
  const plain = (get, show = (x) => x) => ({ get, show: (row) => (get(row) == null ? "" : show(get(row))), number: true });
  const word = (get) => ({ get: (row) => get(row) || null, show: (row) => get(row) ?? "" });

  function columns(rows) {
    const tasks = [...new Set(rows.flatMap((row) => Object.keys(row.scores)))];
    const found = [
      { id: "name", label: "Model", ...word((row) => row.name), show: name, head: true },
      { id: "average", label: "Average", ...score((row) => row.average) },
      { id: "recovery", label: "Recovery", title: "the average as a share of the base's", ...score((row) => row.recovery) },
      ...tasks.map((task) => ({ id: `task ${task}`, label: task, ...score((row) => row.scores[task]) })),
      { id: "parameters", label: "Parameters", ...plain((row) => row.parameters, scaled) },
      { id: "removed", label: "Blocks removed", ...plain((row) => row.removed), show: removed },
      { id: "flops", label: "FLOPs a token", ...plain((row) => row.flops, scaled) },
      { id: "speed", label: "Tokens a second", ...plain((row) => row.speed?.[0]), show: speed },
      { id: "rows", label: "Rows", title: "rows it was trained on", ...plain((row) => row.rows, (x) => x.toLocaleString("en")) },
      { id: "targets", label: "Targets", title: "what its training responses were", ...word((row) => row.targets) },
      { id: "base", label: "Base", ...word((row) => row.base) },
      ...data.more.map(([id, label, title, unit]) => ({ id, label, title, ...plain((row) => row.more[id]?.[0] ?? null), show: (row) => measured(row.more[id], unit) })),
    ];
    return found.filter((column) => rows.some((row) => column.get(row) != null) || column.id === "average");
  }

  function name(row) {
    const box = make("input", { type: "checkbox", "aria-label": `Compare ${row.name}` });
    box.checked = row === state.a || row === state.b;
    box.dataset.row = row.i;
    // A narrow column breaks a long name behind a slash rather than inside a word.
    const words = row.name.split("/").flatMap((word, i) => (i ? ["/", make("wbr", {}), word] : [word]));
    const called = row.url ? [make("a", { href: row.url, rel: "noopener" }, ...words)] : words;
    const how = make("span", { class: "how" }, make("i", { class: `dot m${Board.METHODS.indexOf(row.method)}` }), [row.method, row.how].filter(Boolean).join(": "));
    return make("div", { class: "model" }, box, make("div", {}, make("span", { class: "called" }, ...called), how));
  }
  const removed = (row) => row.removed ? [make("span", { class: "value" }, `${row.removed} of ${row.blocks + row.removed}`), make("span", { class: "ends" }, row.removedBlocks)] : "0";
  const speed = (row) => row.speed ? [make("span", { class: "value" }, Board.three(row.speed[0])), make("span", { class: "ends" }, between(row.speed, Board.three))] : "";
  function measured(one, unit) {
    const show = unit === "percent" ? percent : Board.three;
    return one ? [make("span", { class: "value" }, show(one[0])), one[1] == null ? "" : make("span", { class: "ends" }, between(one, show))] : "";
  }

  let shown = [], rows = [], look = () => {};

  function draw(all) {
    rows = all;
    const head = document.querySelector("#models thead"), body = document.querySelector("#models tbody");
    const known = columns(data.models.filter((row) => row.group === state.group));
    if (!known.some((column) => column.id === state.sort)) [state.sort, state.down] = ["average", true];
    const by = known.find((column) => column.id === state.sort);
    shown = Board.sorted(rows, by.get, state.down);
    const last = Math.max(0, Math.ceil(shown.length / LINES) - 1);
    state.page = Math.min(state.page, last);
    const focused = document.activeElement?.dataset?.sort;
    head.replaceChildren(make("tr", {}, ...known.map((column) => {
      const sort = column.id === state.sort ? (state.down ? "descending" : "ascending") : null;
      const button = make("button", { type: "button", title: column.title, "data-sort": column.id }, column.label, make("span", { class: "arrow", "aria-hidden": "true" }, sort ? (state.down ? "▼" : "▲") : ""));
      return make("th", { scope: "col", "aria-sort": sort, class: column.number ? "number" : null }, button);
    })));
    if (focused) [...head.querySelectorAll("button")].find((one) => one.dataset.sort === focused)?.focus();
    if (!shown.length) document.querySelector("#table .scroll").scrollLeft = 0; // where the words stand
    body.replaceChildren(...(shown.length ? [] : [nothing(known.length)]), ...shown.slice(state.page * LINES, (state.page + 1) * LINES).map((row) =>
      make("tr", { class: row === state.a || row === state.b ? "chosen" : null }, ...known.map((column) => {
        const content = column.show(row);
        const cell = column.head ? make("th", { scope: "row" }) : make("td", { class: column.number ? "number" : null });
        cell.append(...(Array.isArray(content) ? content : [content]));
        return cell;
      }))));
    const total = data.models.filter((row) => row.group === state.group).length;
    document.querySelector("#count").textContent = rows.length === total ? `${total} models` : `${rows.length} of ${total} models`;
    document.querySelector("#page").textContent = `page ${state.page + 1} of ${last + 1}`;
    document.querySelector("#pages").hidden = last === 0;
    document.querySelector("#previous").disabled = state.page === 0;
    document.querySelector("#next").disabled = state.page === last;
    look();
  }

  /* The row of a table that the filters leave empty. */
  function nothing(columns) {
    const clear = make("button", { type: "button" }, "Clear the filters");
    clear.addEventListener("click", () => {
      document.querySelector("#filters").reset();
      document.querySelector("#table .scroll").focus(); // this button is gone
    });
    return make("tr", { class: "nothing" }, make("td", { colspan: columns }, "No model matches. ", clear));
  }

  /* How many columns lie out of sight to the right: a button says it and goes there, and back from the last. */
  function further() {
    const box = document.querySelector("#table .scroll"), button = document.querySelector("#further");
    const edge = box.getBoundingClientRect().right - 1;
    const hidden = [...box.querySelectorAll("thead th")].filter((head) => head.getBoundingClientRect().right > edge + 1).length;
    button.hidden = box.scrollWidth <= box.clientWidth + 1;
    button.textContent = hidden ? `${hidden} more ${hidden === 1 ? "column" : "columns"} \u2192` : "\u2190 first columns";
    button.dataset.hidden = hidden;
  }

  function sortBy(id) {
    if (state.sort === id) state.down = !state.down;
    else [state.sort, state.down] = [id, !["name", "base", "targets"].includes(id)];
    state.page = 0;
    draw(rows);
  }

  function listen() {
    document.querySelector("#models thead").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) { sortBy(button.dataset.sort); Board.remember(); }
    });
    document.querySelector("#models tbody").addEventListener("change", (event) => {
      const box = event.target, row = data.models[Number(box.dataset.row)];
      Board.choose(row, box.checked);
      [...document.querySelectorAll("#models tbody input")].find((one) => one.dataset.row === box.dataset.row)?.focus();
    });
    const box = document.querySelector("#table .scroll");
    look = Board.watchSides(box, further);
    document.querySelector("#further").addEventListener("click", (event) => {
      const still = box.querySelector("thead th").getBoundingClientRect().width;
      box.scrollTo({ left: event.target.dataset.hidden === "0" ? 0 : box.scrollLeft + box.clientWidth - still });
    });
    for (const [id, step] of [["previous", -1], ["next", 1]])
      document.querySelector(`#${id}`).addEventListener("click", () => { state.page += step; draw(rows); document.querySelector("#table").scrollIntoView(); });
  }

  return { draw, redraw: () => draw(rows), listen };
})();
