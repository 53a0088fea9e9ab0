/* Room for points that would cover each other: those of one value (a size, a number of rows) stand on one line,
   so some step aside, in lanes, and the chart marks where they belong. Before charts.js, which draws. */
"use strict";
Board.room = (() => {
  const LANE = 12, LEAST = 5, DOT = 7; // pixels from lane to lane, at least where lines are close, and around a point
  const SHARE = 0.24, MOST = 40; // of the chart's side that lanes may take; how many there are at most

  /* Sets the pixels, `aside`, by which each point leaves the line it belongs on.

     points have `at`, pixels on the axis that gives way, and `low` and `high`, the pixels that they and
     their intervals take on the other; `side` is the chart's length along the first. Returns the most that
     any point steps aside. */
  function stepAside(points, side) {
    let most = 0;
    const groups = d3.sort(d3.group(points, (point) => Math.round(point.at)), ([at]) => at);
    const gap = (i) => Math.min(...[groups[i - 1], groups[i + 1]].map((other) => (other ? Math.abs(other[0] - groups[i][0]) : Infinity)));
    groups.forEach(([, same], i) => {
      const ends = []; // of the lanes, how far each is taken
      same.sort((p, q) => p.low - q.low || p.high - q.high);
      for (const point of same) {
        const [low, high] = [point.low - DOT, point.high + DOT];
        let lane = ends.findIndex((end) => end < low);
        if (lane < 0) lane = ends.length < MOST ? ends.length : d3.minIndex(ends);
        ends[lane] = high;
        point.lane = lane;
      }
      // Nobody goes among the neighbours' points, if there is room for all before them.
      const step = Math.min(LANE, (SHARE * side) / ends.length, Math.max(LEAST, gap(i) / ends.length));
      for (const point of same) {
        point.aside = (point.lane % 2 ? 1 : -1) * Math.ceil(point.lane / 2) * step;
        most = Math.max(most, Math.abs(point.aside));
      }
    });
    return most;
  }

  return { stepAside };
})();
