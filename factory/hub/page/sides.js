/* Boxes that scroll sideways: a shade on the right edge says that something lies behind it. */
"use strict";
/* Keeps the shade of a box, in a parent of class `sides`, as it has to be; `seen` is called whenever that may have
   changed. Returns what looks again, for content that is wider or narrower than before. */
Board.watchSides = (box, seen = () => {}) => {
  const look = () => {
    box.parentElement.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
    seen();
  };
  box.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(box);
  return look;
};
