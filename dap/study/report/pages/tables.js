// Long tables, made when they are opened: all points, all configurations.

const COLUMNS = [
  ['run', 'run'], ['seed', 'seed'], ['step', 'step'], ['lr', 'lr'],
  ...SCALARS, ['kl_nats', 'KL, nats', 3], ['win_rate', 'win rate', 3],
  ['win_rate_low', '95 % from', 3], ['win_rate_high', 'to', 3],
  ['proxy_win_rate', 'by proxy', 3], ['hidden_utility', 'utility', 3],
  ['classification_accuracy', 'accuracy, training pairs', 3],
  ['held_out_accuracy', 'held out', 3],
  ['chosen_log_ratio', 'chosen log-ratio', 2],
  ['rejected_log_ratio', 'rejected', 2], ['response_length', 'tokens', 1],
  ['truncated_fraction', 'cut', 3], ['sampled_tokens', 'sampled tokens'],
  ['train_flops', 'FLOPs of training'],
].filter(([name]) => name in column
  && rows.some((_, row) => field(row, name) !== null));
const FIRST = 100;  // rows that are shown at once

function cellText(row, name, digits) {
  const value = field(row, name);
  if (digits === undefined && typeof value === 'number'
      && Math.abs(value) < 1) return String(value);
  return typeof value === 'string' ? value : number(value, digits);
}

function compared(name, sign) {
  return (one, other) => {
    const [a, b] = [field(one, name), field(other, name)];
    if (a === b) return one - other;
    if (a === null || b === null) return a === null ? 1 : -1;
    return (a < b ? -1 : 1) * sign;
  };
}

function startPoints(place) {
  const state = {name: null, sign: 1, wanted: '', all: false};
  const body = element('tbody');
  const more = element('button', {onclick: () => {
    state.all = true;
    fill();
  }});
  const heads = COLUMNS.map(([name, label]) => element('th', {scope: 'col'},
    element('button', {onclick: () => {
      state.sign = state.name === name ? -state.sign : 1;
      state.name = name;
      heads.forEach((head, index) => head.setAttribute('aria-sort',
        COLUMNS[index][0] !== name ? 'none'
          : state.sign > 0 ? 'ascending' : 'descending'));
      fill();
    }}, label)));

  function fill() {
    let found = rows.map((_, row) => row).filter(
      (row) => named(row).includes(state.wanted));
    if (state.name) found.sort(compared(state.name, state.sign));
    const total = found.length;
    if (!state.all) found = found.slice(0, FIRST);
    more.hidden = found.length === total;
    more.textContent = `Show all ${total}`;
    body.replaceChildren(...found.map((row) => element('tr', {},
      ...COLUMNS.map(([name, , digits]) => element('td', {},
        name === 'run' ? element('button', {onclick: () => pick(row)},
          field(row, 'run')) : cellText(row, name, digits))))));
  }

  const wanted = element('input', {type: 'search', oninput: () => {
    state.wanted = wanted.value;
    fill();
  }});
  place.append(
    element('div', {class: 'choices'},
      element('label', {}, 'runs that contain', wanted)),
    element('div', {class: 'scroll', tabindex: 0, role: 'region',
      'aria-label': 'All points'}, element('table', {},
      element('thead', {}, element('tr', {}, ...heads)), body)), more);
  fill();
}

function startConfigurations(place) {
  const text = element('pre', {tabindex: 0});
  const choice = element('select', {onchange: show},
    ...Object.keys(data.runs).map((name) => element('option', {}, name)));
  function show() {
    text.textContent = JSON.stringify(data.runs[choice.value], null, 1);
  }
  place.append(element('div', {class: 'choices'},
    element('label', {}, 'configuration of', choice)), text);
  show();
}

for (const [id, start] of [['all-points', startPoints],
  ['configurations', startConfigurations]]) {
  const details = document.getElementById(id);
  if (details) whenOpened(details, start);
}
