/* Joins the parts: filters, what is chosen to compare, and the address, in which both are kept. */
"use strict";
(() => {
  const { data, state, make } = Board;
  const field = (id) => document.querySelector(`#${id}`);
  const FIELDS = ["group", "base", "method", "size", "text"];

  function options(id, values, all) {
    const list = [...(all ? [["", all]] : []), ...values];
    field(id).replaceChildren(...list.map(([value, label]) => make("option", { value }, label)));
    if (!list.some(([value]) => value === state[id])) state[id] = list[0]?.[0] ?? "";
    field(id).value = state[id];
  }

  function choices() {
    const rows = data.models.filter((row) => row.group === state.group);
    const there = (get, known) => known.filter((one) => rows.some((row) => get(row, one)));
    options("group", Board.groups().map((group) => [group, group]));
    options("base", [...new Set(rows.map((row) => row.base))].sort().map((base) => [base, base]), "all");
    options("method", there((row, method) => row.method === method, Board.METHODS).map((method) => [method, method]), "all");
    options("size", there((row, [, low, high]) => row.parameters >= low && row.parameters < high, Board.SIZES).map(([name]) => [name, name]), "all");
  }

  function show() {
    const rows = Board.filtered();
    Board.table.draw(rows);
    Board.charts.update(rows);
    const apart = data.models.find((row) => row.group === state.group)?.apart ?? [];
    field("apart").hidden = !apart.length;
    field("apart").replaceChildren(make("strong", {}, "Shown apart. "), apart.map((text) => `${text.replace(/\.$/, "")}.`).join(" "));
  }

  /* What is looked at, in the address: a comparison can be sent to somebody. */
  Board.remember = () => {
    const told = new URLSearchParams();
    for (const id of FIELDS) if (state[id] && !(id === "group" && state[id] === Board.groups()[0])) told.set(id, state[id]);
    if (state.sort !== "average" || !state.down) told.set("sort", `${state.down ? "-" : ""}${state.sort}`);
    for (const side of ["a", "b"]) if (state[side]) told.set(side, state[side].name);
    history.replaceState(null, "", told.size ? `#${told}` : location.pathname.split("/").pop() || "./");
  };
  function recall() {
    const told = new URLSearchParams(location.hash.slice(1));
    for (const id of FIELDS) if (told.has(id)) state[id] = told.get(id);
    if (told.has("sort")) [state.down, state.sort] = [told.get("sort").startsWith("-"), told.get("sort").replace(/^-/, "")];
    for (const side of ["a", "b"]) {
      state[side] = Board.byName.get(told.get(side)) ?? null;
      state.unknown[side] = told.get(side) ?? "";
    }
  }

  Board.choose = (row, yes) => {
    if (!yes) for (const side of ["a", "b"]) { if (state[side] === row) state[side] = null; }
    else if (row !== state.a && row !== state.b) { if (!state.a) state.a = row; else state.b = row; }
    Board.chosen();
  };
  Board.chosen = () => {
    for (const side of ["a", "b"]) {
      if (state[side]) state.unknown[side] = "";
      field(side).value = state[side]?.name ?? state.unknown[side];
      field(side).setAttribute("aria-invalid", String(state.unknown[side] !== ""));
    }
    Board.table.redraw();
    Board.compare.draw();
    Board.remember();
  };

  recall();
  choices();
  field("text").value = state.text;
  Board.table.listen();
  Board.compare.listen();
  Board.charts.listen();
  for (const id of FIELDS)
    field(id).addEventListener(id === "text" ? "input" : "change", () => {
      state[id] = field(id).value;
      state.page = 0;
      if (id === "group") choices();
      show();
      Board.remember();
    });
  field("filters").addEventListener("submit", (event) => event.preventDefault());
  field("filters").addEventListener("reset", (event) => {
    event.preventDefault();
    for (const id of FIELDS.slice(1)) state[id] = field(id).value = "";
    state.page = 0;
    show();
    Board.remember();
  });
  field("lead").textContent = data.lead;
  field("made").textContent = data.made;
  show();
  Board.chosen();
  document.documentElement.dataset.ready = "yes";
})();
