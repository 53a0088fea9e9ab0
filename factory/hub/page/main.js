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
    options("group", Board.groups().map((group) => [group, group]));
    const rows = data.models.filter((row) => row.group === state.group);
    const there = (get, known) => known.filter((one) => rows.some((row) => get(row, one)));
    options("base", [...new Set(rows.map((row) => row.base))].sort().map((base) => [base, base]), "all");
    options("method", there((row, method) => row.method === method, Board.METHODS).map((method) => [method, method]), "all");
    options("size", there((row, [, low, high]) => row.parameters >= low && row.parameters < high, Board.SIZES).map(([name]) => [name, name]), "all");
  }

  function show() {
    for (const id of ["group", "base"]) field(id).title = state[id]; // which a narrow field cuts
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
  /* Takes what is looked at from the address; what it does not say is as on a page that was just opened. */
  function recall() {
    const told = new URLSearchParams(location.hash.slice(1)), sort = told.get("sort") ?? "-average";
    for (const id of FIELDS) state[id] = told.get(id) ?? "";
    [state.down, state.sort] = [sort.startsWith("-"), sort.replace(/^-/, "")];
    state.page = 0;
    for (const side of ["a", "b"]) {
      state[side] = Board.byName.get(told.get(side)) ?? null;
      state.unknown[side] = told.get(side) ?? "";
    }
    choices();
    field("text").value = state.text;
    show();
    Board.chosen();
  }

  /* The part of the page that an address such as #table names, if one does. */
  const part = (hash) => document.querySelector(`section[id="${CSS.escape(hash.slice(1))}"]`);

  /* Scrolls to a part, and has Tab go on from there. The part is no stop of Tab itself, nor of a click in it. */
  function go(to) {
    Board.charts.settle();
    to.scrollIntoView();
    to.tabIndex = -1;
    to.focus({ preventScroll: true });
    to.addEventListener("blur", () => to.removeAttribute("tabindex"), { once: true });
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
  // The page's own links scroll, but leave the address to what is looked at: else it would be lost there.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(part(link.hash));
  });
  window.addEventListener("hashchange", () => {
    if (!part(location.hash)) return recall();
    go(part(location.hash));
    Board.remember();
  });
  field("lead").textContent = data.lead;
  field("made").textContent = data.made;
  const first = part(location.hash); // before the address says what is looked at
  recall();
  if (first) go(first);
  document.documentElement.dataset.ready = "yes";
})();
