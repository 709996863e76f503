// What all parts of the page share: its data, elements, numbers, and the
// checkpoint that the reader has picked.

const data = JSON.parse(document.getElementById('data').textContent);
const rows = data.points.rows;
const column = Object.fromEntries(
  data.points.columns.map((name, index) => [name, index]),
);
const darkness = matchMedia('(prefers-color-scheme: dark)');
const narrowness = matchMedia('(max-width: 40rem)');
const touch = matchMedia('(hover: none)');

function field(row, name) {
  return rows[row][column[name]];
}

/** An element; attributes that begin with `on` are its listeners. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) {
      made.addEventListener(name.slice(2), value);
    } else if (value !== null && value !== false) {
      made.setAttribute(name, value === true ? '' : value);
    }
  }
  made.append(...children);
  return made;
}

/** '0.081', a true minus, and a dash for what is not there. */
function number(value, digits) {
  if (value === null || value === undefined) return '–';
  const size = Math.abs(value);
  const least = 10 ** -(digits ?? 3);
  let text = value.toFixed(digits ?? (Number.isInteger(value) ? 0 : 3));
  if (size >= 1e7 || (size > 0 && size < least)) text = value.toExponential(1);
  return text.replaceAll('-', '−');
}

/** A colour of the style, by the name of its property. */
function property(name) {
  return getComputedStyle(document.documentElement)
    .getPropertyValue(name).trim();
}

/** A colour mixed with its ground, of which it is `share`. */
function mixed(colour, ground, share) {
  const parts = (text) => [1, 3, 5].map(
    (at) => parseInt(text.slice(at, at + 2), 16));
  const under = parts(ground);
  return '#' + parts(colour).map((over, index) =>
    Math.round(share * over + (1 - share) * under[index])
      .toString(16).padStart(2, '0')).join('');
}

/** 'online_ipo_3, seed 1, step 400'. */
function named(row) {
  return `${field(row, 'run')}, seed ${field(row, 'seed')},`
    + ` step ${field(row, 'step')}`;
}

/** Numbers of a checkpoint that are there, each under its label. */
function measured(row, wanted) {
  return wanted.filter(([name]) => field(row, name) !== null).map(
    ([name, label, digits, unit = '']) => `${label} `
      + (digits === undefined ? field(row, name)
        : number(field(row, name), digits)) + unit);
}

// The numbers of the losses, each under its own name.
const SCALARS = data.points.scalars.map((name) => [`scalars.${name}`, name]);
const CHOSEN = [['lr', 'lr'], ...SCALARS];
const BUDGET = [['kl_nats', 'KL', 2, ' nats']];
const OTHERS = [['proxy_win_rate', 'by proxy', 3],
  ['hidden_utility', 'hidden utility', 2],
  ['response_length', 'length', 1, ' tokens']];

function winRate(row) {
  const of = (name) => number(field(row, name));
  return `win rate ${of('win_rate')}` + (field(row, 'win_rate_low') === null
    ? '' : ` [${of('win_rate_low')}, ${of('win_rate_high')}]`);
}

/** How a checkpoint was trained and how it does, in a line. */
function facts(row) {
  return [...measured(row, CHOSEN), ...measured(row, BUDGET), winRate(row)]
    .join(', ');
}

/** All that a checkpoint's mark tells, in lines. */
function described(row) {
  const place = [`seed ${field(row, 'seed')}`, `step ${field(row, 'step')}`];
  return [field(row, 'run'), [...place, ...measured(row, CHOSEN)].join(', '),
    ...measured(row, BUDGET), winRate(row), ...measured(row, OTHERS)];
}

function say(text) {
  document.getElementById('announcer').textContent = text;
}

// The picked checkpoint: a row of the points, or null.
const listeners = [];
let picked = null;

function onPick(listener) {
  listeners.push(listener);
}

function pick(row) {
  picked = row;
  for (const listener of listeners) listener(row);
}

onPick((row) => {
  const bar = document.getElementById('picked');
  bar.hidden = row === null;
  if (row === null) return;
  const near = `KL ${number(field(row, 'kl_nats'), 2)},`
    + ` win rate ${number(field(row, 'win_rate'))}`;
  bar.replaceChildren(
    element('span', {}, element('b', {}, named(row)), ` · ${near}`),
    ...(data.samples
      ? [element('a', {href: '#samples'}, 'Read its samples')] : []),
    element('button', {onclick: () => pick(null)}, 'Clear'),
  );
});

document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && picked !== null) pick(null);
});

/** A table in a box that scrolls. */
function tableOf(label, header, lines) {
  return element('div', {class: 'scroll', tabindex: 0, role: 'region',
    'aria-label': label}, element('table', {},
    element('thead', {}, element('tr', {},
      ...header.map((text) => element('th', {scope: 'col'}, text)))),
    element('tbody', {}, ...lines.map((cells) => element('tr', {},
      ...cells.map((text) => element('td', {}, text)))))));
}

/** Fills what is folded when it is first opened. */
function whenOpened(details, fill) {
  details.addEventListener('toggle', () => {
    const place = details.querySelector(':scope > div');
    if (details.open && !place.hasChildNodes()) fill(place);
  });
}
