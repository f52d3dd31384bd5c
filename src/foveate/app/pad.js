// Sends at most seven positions a second, and always the last one; the ring where the pointer is is drawn at once.
let last = 0, waiting = null, held = false, mine = false;
const clip = (value) => Math.min(0.999, Math.max(0, value));
const send = (across, down) => {
  const ring = element.querySelector('.fo-ring');
  if (ring) { ring.style.left = across * 100 + '%'; ring.style.top = down * 100 + '%'; }
  clearTimeout(waiting);
  const pause = Math.max(0, 140 - (Date.now() - last));
  waiting = setTimeout(() => { last = Date.now(); trigger('select', {across, down}); }, pause);
};
const point = (event) => {
  const frame = element.querySelector('.fo-frame');
  if (!frame) return;
  const box = frame.getBoundingClientRect();
  send(clip((event.clientX - box.left) / box.width), clip((event.clientY - box.top) / box.height));
};
element.addEventListener('pointerdown', (event) => {
  const frame = event.target.closest('.fo-frame');
  if (!frame) return;
  held = true;
  event.preventDefault();
  frame.focus({preventScroll: true});
  point(event);
});
window.addEventListener('pointermove', (event) => { if (held) point(event); });
window.addEventListener('pointerup', () => { held = false; });
window.addEventListener('pointercancel', () => { held = false; });
element.addEventListener('keydown', (event) => {
  const frame = event.target.closest('.fo-frame');
  const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  if (!frame || !step) return;
  event.preventDefault();
  const [rows, columns] = [Number(frame.dataset.rows), Number(frame.dataset.columns)];
  const row = Math.min(rows - 1, Math.max(0, Number(frame.dataset.row) + step[1]));
  const column = Math.min(columns - 1, Math.max(0, Number(frame.dataset.column) + step[0]));
  frame.dataset.row = row;
  frame.dataset.column = column;
  send((column + 0.5) / columns, (row + 0.5) / rows);
});
// what comes back from the server is a new picture: whoever had the old one in focus has the new one
watch('value', () => { if (mine) element.querySelector('.fo-frame')?.focus({preventScroll: true}); });
document.addEventListener('focusin', (event) => { mine = element.contains(event.target); });
document.addEventListener('pointerdown', (event) => { mine = element.contains(event.target); });
