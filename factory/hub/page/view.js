/* What is shown: the rows of models.js, filtered and sorted. First of the page's own scripts; no element is
   touched here. Names are strangers' words: everywhere on this page they become text, never markup. */
"use strict";
const Board = (() => {
  const data = window.FACTORY_BOARD;
  const METHODS = ["base", "pruned", "SFT", "self-distilled", "merged"];
  const SIZES = [
    ["under 10 M", 0, 1e7], ["10 to 500 M", 1e7, 5e8], ["0.5 to 2 B", 5e8, 2e9], ["2 to 5 B", 2e9, 5e9],
    ["5 to 10 B", 5e9, 1e10], ["10 B and more", 1e10, Infinity],
  ];
  // A tie goes to the even digit, as in the cards and the terminal: 86.25 is 86.2 everywhere.
  const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1, roundingMode: "halfEven", useGrouping: false });
  const percent = (x) => tenths.format(100 * x);
  /* Three significant digits, or what stands before the point: KLs of 0.0326 and 0.0412 are not alike. */
  const three = (x) => (Math.abs(x) >= 100 ? x.toFixed(0) : x.toPrecision(3));
  const scaled = (x) => {
    for (const [size, letter] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]])
      if (x >= size) return `${three(x / size)} ${letter}`;
    return String(x);
  };
  const between = (one, show = percent) => (one && one[1] != null ? `${show(one[1])}\u2013${show(one[2])}` : "");

  data.models.forEach((row, i) => {
    row.i = i;
    row.words = [row.name, row.base, row.method, row.how, row.targets, ...row.data].join(" ").toLowerCase();
  });
  const byName = new Map(data.models.map((row) => [row.name, row]));

  function groups() {
    const found = new Map();
    for (const row of data.models) found.set(row.group, [row.apart.length > 0, (found.get(row.group)?.[1] ?? 0) + 1]);
    // Whole scores first, then by size: what is shown apart is never what a visitor meets by chance.
    return [...found.keys()].sort((x, y) => found.get(x)[0] - found.get(y)[0] || found.get(y)[1] - found.get(x)[1] || (x < y ? -1 : 1));
  }

  const state = { group: groups()[0] ?? "", base: "", method: "", size: "", text: "", sort: "average", down: true, page: 0, a: null, b: null, unknown: { a: "", b: "" } };

  function filtered() {
    const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
    const size = SIZES.find(([name]) => name === state.size);
    return data.models.filter((row) =>
      row.group === state.group && (!state.base || row.base === state.base) &&
      (!state.method || row.method === state.method) &&
      (!size || (row.parameters >= size[1] && row.parameters < size[2])) &&
      words.every((word) => row.words.includes(word)));
  }

  /* Rows without a value stand last, whichever way. */
  function sorted(rows, get, down) {
    const keyed = rows.map((row) => [get(row), row]);
    const collator = new Intl.Collator("en", { numeric: true });
    keyed.sort(([x, r], [y, s]) => {
      if (x == null || y == null) return (x == null) - (y == null) || r.i - s.i;
      const order = typeof x === "number" ? x - y : collator.compare(x, y);
      return (down ? -order : order) || r.i - s.i;
    });
    return keyed.map(([, row]) => row);
  }

  /* An element with text and children; attributes by name. Text stays text. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value != null) element.setAttribute(name, value);
    element.append(...children.filter((child) => child != null));
    return element;
  }

  return { data, METHODS, SIZES, percent, three, scaled, between, byName, groups, state, filtered, sorted, make };
})();
