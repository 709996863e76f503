// Samples: responses of checkpoints to one prompt, side by side.

const STORED = 'stored';  // the golden policy's responses, the opponent
const SIDES = [
  {name: 'sft', title: 'SFT policy'},
  {name: 'online', title: 'Online'},
  {name: 'offline', title: 'Offline'},
  {name: 'golden', title: 'Golden policy'},
  {name: 'picked', title: 'Picked point'},
];

/** The rows of a seed whose texts are there, by arm, then by run. */
function runsOf(seed) {
  const arms = new Map();
  rows.forEach((_, row) => {
    if (field(row, 'seed') !== seed || !data.samples.points[row]) return;
    const arm = field(row, 'algorithm');
    const run = field(row, 'run');
    if (!arms.has(arm)) arms.set(arm, new Map());
    const runs = arms.get(arm);
    if (!runs.has(run)) runs.set(run, []);
    runs.get(run).push(row);
  });
  return arms;
}

/** One column: what it shows is a row of the points, STORED or null. */
function makeColumn(browser, side) {
  const runs = element('select', {onchange: () => {
    shown.choose(runs.value === STORED ? STORED
      : browser.rowOf(runs.value, shown.row));
  }});
  const steps = element('select', {onchange: () => {
    shown.choose(Number(steps.value));
  }});
  const stepLabel = element('label', {}, 'step', steps);
  const told = element('p', {class: 'facts'});
  const words = element('p', {class: 'words'});
  const judged = element('p', {class: 'judged'});
  const level = element('span');
  const bar = element('div', {class: 'bar', 'aria-hidden': 'true'}, level);
  const node = element('section', {class: `answer ${side.name}`,
    'aria-label': side.title,
    style: `--side:${sideColour(side.name)}`},
  element('h3', {}, side.title),
  element('label', {}, 'checkpoints of', runs), stepLabel, told, words, bar,
  judged);

  const shown = {
    side, node, row: null,
    choose(row) {
      shown.row = row;
      shown.show();
    },
    /** The same run and step at another seed, where they are there. */
    follow() {
      if (typeof shown.row === 'number') {
        const run = field(shown.row, 'run');
        shown.row = browser.has(run) ? browser.rowOf(run, shown.row)
          : browser.usual(side.name);
      }
      fillRuns(runs, browser);
      shown.show();
    },
    show() {
      node.hidden = shown.row === null || shown.row === undefined;
      if (node.hidden) return;
      const stored = shown.row === STORED;
      runs.value = stored ? STORED : field(shown.row, 'run');
      stepLabel.hidden = bar.hidden = stored;
      if (!stored) fillSteps(steps, browser, shown.row);
      told.textContent = stored ? 'one stored response to each prompt'
        : facts(shown.row);
      showAnswer(browser, shown.row, words, judged, level);
    },
  };
  return shown;
}

/** The colour of a side: of the first series that has its name in its label. */
function sideColour(name) {
  if (name === 'sft') return 'var(--faint)';
  const all = Object.values(data.figures).flatMap((figure) => figure.series);
  const found = all.find((series) => series.label.startsWith(name));
  return found ? `var(--series-${found.colour})` : 'var(--ink)';
}

function fillRuns(select, browser) {
  select.replaceChildren(
    element('option', {value: STORED}, 'golden policy, stored'),
    ...[...browser.arms].map(([arm, runs]) => element('optgroup', {label: arm},
      ...[...runs.keys()].map((run) => element('option', {value: run}, run)))));
}

function fillSteps(select, browser, row) {
  const of = browser.rowsOf(field(row, 'run'));
  select.replaceChildren(...of.map((each) => element('option', {value: each},
    `${field(each, 'step')}: KL ${number(field(each, 'kl_nats'), 2)},`
    + ` win rate ${number(field(each, 'win_rate'), 2)}`)));
  select.value = String(row);
}

function showAnswer(browser, row, words, judged, level) {
  const {seed, prompt} = browser;
  if (row === STORED) {
    words.textContent = data.samples.seeds[seed].golden[prompt];
    judged.textContent = 'The others are judged against this response.';
    return;
  }
  const {texts, prefers} = data.samples.points[row];
  words.textContent = texts[prompt];
  const share = prefers[prompt];
  level.style.width = `${100 * share}%`;
  judged.textContent = 'Chance that the golden model prefers it to the golden'
    + ` policy’s response: ${number(share, 2)}`;
}

function startSamples(place) {
  const seeds = Object.keys(data.samples.seeds).map(Number);
  const browser = {
    seed: seeds[0], prompt: 0, arms: runsOf(seeds[0]),
    rowsOf: (run) => [...browser.arms.values()].find(
      (runs) => runs.has(run)).get(run),
    has: (run) => [...browser.arms.values()].some((runs) => runs.has(run)),
    /** The row of a run at the step of another row, or the next one. */
    rowOf(run, row) {
      const of = browser.rowsOf(run);
      const step = typeof row === 'number' ? field(row, 'step') : Infinity;
      return of.find((each) => field(each, 'step') >= step)
        ?? of[of.length - 1];
    },
    usual(side) {
      if (side === 'golden') return STORED;
      const row = data.columns[browser.seed][side];
      return row !== undefined && data.samples.points[row] ? row : null;
    },
  };
  const columns = SIDES.map((side) => makeColumn(browser, side));
  const asked = element('p', {class: 'prompt', 'aria-live': 'polite'});
  const prompts = element('select', {onchange: () => turn(prompts.value)});
  const seedChoice = element('select', {onchange: () => {
    reseed(Number(seedChoice.value));
  }}, ...seeds.map((seed) => element('option', {value: seed}, String(seed))));

  function turn(to) {
    const all = data.samples.seeds[browser.seed].prompts;
    browser.prompt = (Number(to) + all.length) % all.length;
    prompts.value = String(browser.prompt);
    asked.textContent = all[browser.prompt];
    columns.forEach((each) => each.show());
  }

  function reseed(seed) {
    browser.seed = seed;
    browser.arms = runsOf(seed);
    seedChoice.value = String(seed);
    const all = data.samples.seeds[seed].prompts;
    prompts.replaceChildren(...all.map((text, index) => element('option',
      {value: index}, `${index + 1}: ${text.slice(0, 70)}`)));
    columns.forEach((each) => each.follow());
    turn(Math.min(browser.prompt, all.length - 1));
  }

  place.append(
    element('div', {class: 'choices', role: 'group', 'aria-label': 'Prompt'},
      element('label', {}, 'seed', seedChoice),
      element('button', {onclick: () => turn(browser.prompt - 1)},
        '← previous'),
      element('button', {onclick: () => turn(browser.prompt + 1)}, 'next →'),
      element('label', {class: 'wide'}, 'prompt', prompts)),
    asked, element('div', {class: 'answers'},
      ...columns.map((each) => each.node)));
  columns.forEach((each) => { each.row = browser.usual(each.side.name); });
  columns[columns.length - 1].row = null;
  reseed(browser.seed);
  onPick((row) => {
    const last = columns[columns.length - 1];
    if (row !== null && field(row, 'seed') !== browser.seed) {
      reseed(field(row, 'seed'));
    }
    const known = row !== null && data.samples.points[row];
    last.choose(known ? row : null);
  });
}

if (data.samples) startSamples(document.getElementById('samples-browser'));
