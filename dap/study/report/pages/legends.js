// Legends: buttons that hide and show series and seeds.

const SHAPES = {
  circle: '<circle cx="8" cy="8" r="4.5"/>',
  square: '<path d="M4 4h8v8H4z"/>',
  'triangle-up': '<path d="M8 3l5.2 9H2.8z"/>',
  diamond: '<path d="M8 2.4L13.6 8 8 13.6 2.4 8z"/>',
  'triangle-down': '<path d="M8 13l5.2-9H2.8z"/>',
  cross: '<path d="M6 3h4v3h3v4h-3v3H6v-3H3V6h3z"/>',
  x: '<path d="M4.6 2.6L8 6l3.4-3.4 2 2L10 8l3.4 3.4-2 2L8 10l-3.4 3.4-2-2L6 8'
    + ' 2.6 4.6z"/>',
  star: '<path d="M8 2l1.8 4H14l-3.3 2.8L12 13.4l-4-2.6-4 2.6 1.3-4.6L2 6h4.2z"'
    + '/>',
};
const STROKES = {solid: '', dash: '5 3', dot: '1.5 2.5', dashdot: '6 2 1.5 2'};

function swatch(inner, style, width = 16) {
  const made = document.createElement('span');
  made.innerHTML = `<svg viewBox="0 0 ${width} 16" aria-hidden="true">`
    + `${inner}</svg>`;
  made.firstChild.style.cssText = style;
  return made.firstChild;
}

/** The mark of a series, in the colours of the style. */
function seriesSwatch(series) {
  const colour = `var(--series-${series.colour})`;
  if (series.kind === 'points') {
    const fill = series.variant % 2 ? 'none' : colour;
    return swatch(SHAPES.circle, `width:1rem;fill:${fill};stroke:${colour}`);
  }
  const level = series.kind === 'level';
  const dash = level ? (series.variant ? 'dot' : 'dash')
    : DASHES[series.variant % DASHES.length];
  const band = series.kind === 'band'
    ? '<path d="M0 8h24" stroke-width="11" opacity=".2"/>' : '';
  const dot = series.dots
    ? `<circle cx="12" cy="8" r="2.5" style="fill:${colour}"/>` : '';
  return swatch(`${band}<path d="M0 8h24" stroke-dasharray="${STROKES[dash]}"`
    + ` stroke-width="${band ? 3 : level ? 1.5 : 2}"/>${dot}`,
  `fill:none;stroke:${colour}`, 24);
}

/** A button that hides and shows what `values` stand for. */
function key(view, hidden, value, icon, text, small = false) {
  const made = element('button', {class: small ? 'key small' : 'key',
    'aria-pressed': 'true', onclick: () => {
      const isShown = hidden.has(value);
      if (isShown) hidden.delete(value);
      else hidden.add(value);
      made.setAttribute('aria-pressed', String(isShown));
      view.at = null;
      redraw(view);
    }}, icon, text);
  return made;
}

function addLegend(place, view) {
  const {series, shades} = view.figure;
  place.append(...series.map((each, index) =>
    key(view, view.hidden, index, seriesSwatch(each), each.label)));
  for (const [name, values] of shades) {
    place.append(element('span', {class: 'keys'}, `${name}, fuller is greater:`,
      ...values.map(([value, share]) => element('span', {class: 'key small'},
        swatch(SHAPES.circle, 'stroke:var(--ink);fill:color-mix(in srgb,'
          + ` var(--ink) ${share * 100}%, var(--back))`), String(value)))));
  }
  const shown = series.flatMap((each) => each.points || []);
  const seeds = [...new Set(shown.map((row) => field(row, 'seed')))].sort(
    (one, other) => one - other);
  if (seeds.length > 1) {
    place.append(element('span', {class: 'keys'}, 'seed:',
      ...seeds.map((seed) => key(view, view.hiddenSeeds, seed,
        swatch(SHAPES[data.shapes[seed]], 'stroke:var(--ink);fill:none'),
        String(seed), true))));
  }
}
