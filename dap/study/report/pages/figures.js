// Figures: their values to plotly's traces, drawn when they come into view.

const DASHES = ['solid', 'dash', 'dot', 'dashdot'];
const views = [];  // of all figures

function escaped(text) {
  return String(text).replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}

function colourOf(series) {
  return property(`--series-${series.colour}`);
}

/** Text in lines that fit a narrow screen. */
function wrapped(text, width) {
  const lines = [''];
  for (const word of escaped(text).split(' ')) {
    const last = lines[lines.length - 1];
    if (last && last.length + word.length >= width) lines.push(word);
    else lines[lines.length - 1] = last ? `${last} ${word}` : word;
  }
  return lines.join('<br>');
}

/** What is shown beside a mark. */
function hoverText(figure, series, index) {
  const row = series.points ? series.points[index] : null;
  const x = series.x ? series.x[index] : null;
  const lines = [];
  const given = [];
  if (row !== null && row !== undefined) {
    lines.push(...described(row));
    given.push(field(row, 'kl_nats'), field(row, 'win_rate'));
  }
  const values = [[figure.x, x], [figure.y, series.y[index]]];
  for (const [axis, value] of values) {
    if (value !== null && !given.includes(value)) {
      lines.push(`${axis.label}: ${number(value)}`);
    }
  }
  if (series.low && !given.includes(series.y[index])) {
    lines.push(`95 %: [${number(series.low[index])},`
      + ` ${number(series.high[index])}]`);
  }
  return [`<b>${escaped(series.label)}</b>`,
    ...lines.map((line) => wrapped(line, 40))].join('<br>');
}

function seedOf(series, index) {
  const row = series.points ? series.points[index] : null;
  return row === null ? null : field(row, 'seed');
}

function errorBars(series, kept, colour) {
  if (!series.low) return {};
  const apart = (one, other) => kept.map((i) =>
    Math.max(0, one[i] - other[i]) || 0);
  return {error_y: {type: 'data', symmetric: false, color: colour,
    array: apart(series.high, series.y), arrayminus: apart(series.y, series.low),
    thickness: 1, width: 3}};
}

function pointTraces(figure, series, view) {
  const colour = colourOf(series);
  const at = (name, kept) => kept.map((i) => i === null ? null
    : series[name][i]);
  const kept = series.x.map((_, i) => i).filter(
    (i) => !view.hiddenSeeds.has(seedOf(series, i)));
  const shown = new Set(kept);
  const joined = (series.paths || []).filter((path) => shown.has(path[0]))
    .flatMap((path) => [...path, null]);
  const ground = property('--back');
  const full = kept.map((i) => mixed(colour, ground,
    series.shares ? series.shares[i] : 1));
  const open = series.variant % 2 === 1 ? '-open' : '';
  const symbols = kept.map((i) =>
    (data.shapes[seedOf(series, i)] || 'circle') + open);
  return [
    {mode: 'lines', x: at('x', joined), y: at('y', joined), opacity: 0.22,
      line: {color: colour, width: 1}, hoverinfo: 'skip'},
    {mode: 'markers', x: at('x', kept), y: at('y', kept),
      ...errorBars(series, kept, colour),
      marker: {symbol: symbols, size: narrowness.matches ? 5.5 : 7, opacity: 1,
        color: open ? colour : full,
        line: {color: colour, width: open ? 1.2 : 0.8}},
      ...(series.points ? {customdata: at('points', kept)} : {}),
      hovertext: kept.map((i) => hoverText(figure, series, i)),
      hoverinfo: 'text', hoverlabel: {bordercolor: colour}},
  ];
}

/** The outline of a band: there and back, a hole where marks have none. */
function outline(series) {
  const x = [], y = [];
  let part = [];
  const close = () => {
    const back = [...part].reverse();
    x.push(...part.map((i) => series.x[i]), ...back.map((i) => series.x[i]));
    y.push(...part.map((i) => series.low[i]),
      ...back.map((i) => series.high[i]));
    x.push(null);
    y.push(null);
    part = [];
  };
  series.y.forEach((value, index) => {
    if (value === null || series.low[index] === null) close();
    else part.push(index);
  });
  close();
  return {x, y};
}

/** Marks with a hole on either side, which a line alone would not show. */
function alone(series) {
  const has = (index) => (series.y[index] ?? null) !== null;
  return series.y.map((_, i) => has(i) && !has(i - 1) && !has(i + 1));
}

function lineTraces(figure, series) {
  const colour = colourOf(series);
  const band = series.kind === 'band';
  const all = series.x.map((_, i) => i);
  const dots = series.dots ? all.map(() => 6)
    : alone(series).map((single) => single ? 6 : 0);
  const area = band && series.low ? outline(series) : {x: [], y: []};
  return [
    {mode: 'lines', ...area, fill: 'toself', line: {width: 0},
      fillcolor: colour + '2b', hoverinfo: 'skip'},
    {mode: 'lines+markers', x: series.x, y: series.y,
      ...(band ? {} : errorBars(series, all, colour)),
      line: {color: colour, width: band ? 3 : 2,
        dash: DASHES[series.variant % DASHES.length]},
      marker: {size: dots, color: colour, opacity: 1, line: {width: 0}},
      ...(series.points ? {customdata: series.points} : {}),
      hovertext: all.map((i) => hoverText(figure, series, i)),
      hoverinfo: 'text', hoverlabel: {bordercolor: colour}},
  ];
}

function levelTraces(figure, series) {
  const ends = figure.x.range.map((v) => figure.x.log ? 10 ** v : v);
  const many = Array.from({length: 21}, (_, i) => figure.x.log
    ? ends[0] * (ends[1] / ends[0]) ** (i / 20)
    : ends[0] + (ends[1] - ends[0]) * i / 20);
  const [low, high] = series.low ? [series.low[0], series.high[0]] : [];
  const area = series.low
    ? {x: [ends[0], ends[1], ends[1], ends[0]], y: [low, low, high, high]}
    : {x: [], y: []};
  const text = `<b>${escaped(series.label)}</b><br>`
    + wrapped(`${figure.y.label}: ${number(series.y[0])}`, 40)
    + (series.low ? `<br>95 %: [${number(low)}, ${number(high)}]` : '');
  return [
    {mode: 'lines', ...area, fill: 'toself', line: {width: 0},
      fillcolor: colourOf(series) + '20', hoverinfo: 'skip'},
    {mode: 'lines', x: many, y: many.map(() => series.y[0]),
      line: {color: colourOf(series), width: 1.5,
        dash: series.variant ? 'dot' : 'dash'},
      hovertext: text, hoverinfo: 'text',
      hoverlabel: {bordercolor: colourOf(series)}},
  ];
}

/** A ring around the picked checkpoint wherever it stands. */
function ring(figure, view) {
  const x = [], y = [];
  figure.series.forEach((series, place) => {
    if (picked === null || !series.points || view.hidden.has(place)) return;
    series.points.forEach((row, index) => {
      if (row !== picked) return;
      x.push(series.x[index]);
      y.push(series.y[index]);
    });
  });
  view.ringed = x.length > 0;
  return {mode: 'markers', x, y, hoverinfo: 'skip',
    marker: {symbol: 'circle-open', size: 18, color: property('--ink'),
      line: {width: 2.5}}};
}

/** Two traces for each series, then the ring. */
function tracesOf(figure, view) {
  const kinds = {points: pointTraces, level: levelTraces};
  const made = figure.series.flatMap((series, place) => {
    const draw = kinds[series.kind] || lineTraces;
    return draw(figure, series, view).map((trace) => ({
      ...trace, visible: !view.hidden.has(place)}));
  });
  return [...made, ring(figure, view)].map((trace) => ({type: 'scatter',
    showlegend: false, ...trace}));
}

function axisOf(axis, zoomed) {
  const made = {
    title: {text: wrapped(axis.label, narrowness.matches ? 42 : 90),
      standoff: 8},
    range: [...axis.range], type: axis.log ? 'log' : 'linear', automargin: true,
    gridcolor: property('--line'), linecolor: property('--ink'),
    showline: true, zeroline: false, ticks: 'outside', ticklen: 4,
    tickcolor: property('--line'), fixedrange: touch.matches,
  };
  if (axis.log && !zoomed) {
    made.tickmode = 'array';
    made.tickvals = axis.ticks.map(([value]) => value);
    made.ticktext = axis.ticks.map(([, text]) => text);
  }
  return made;
}

function layoutOf(figure, view) {
  const ink = property('--ink');
  return {
    autosize: true, showlegend: false, hovermode: 'closest', uirevision: 'one',
    dragmode: touch.matches ? false : 'zoom',
    hoverdistance: touch.matches ? 30 : 15,
    margin: {l: 52, r: 12, t: touch.matches ? 12 : 34, b: 44},
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
    font: {family: 'system-ui, sans-serif', color: ink,
      size: narrowness.matches ? 12 : 13},
    hoverlabel: {bgcolor: property('--card'), align: 'left',
      font: {color: ink, size: 13}},
    modebar: {bgcolor: 'rgba(0,0,0,0)', color: property('--faint'),
      activecolor: ink},
    xaxis: axisOf(figure.x, view.zoomed.x),
    yaxis: axisOf(figure.y, view.zoomed.y),
  };
}

function redraw(view) {
  if (!view.drawn) return;
  Plotly.react(view.plot, tracesOf(view.figure, view),
    layoutOf(view.figure, view));
}

/** Marks that the keys go through: of each shown series, by x. */
function reachable(view) {
  const found = [];
  view.plot.data.forEach((trace, curve) => {
    const last = curve === view.plot.data.length - 1;
    if (last || !trace.visible || trace.hoverinfo === 'skip') return;
    if (view.figure.series[Math.floor(curve / 2)].kind === 'level') return;
    const marks = trace.x.map((x, index) => ({curve, index, x}))
      .filter(({index, x}) => x !== null && trace.y[index] !== null)
      .sort((one, other) => one.x - other.x);
    if (marks.length) found.push(marks);
  });
  return found;
}

function walk(view, key) {
  const lines = reachable(view);
  if (!lines.length) return;
  const at = view.at || {line: 0, mark: -1};
  let {line, mark} = at;
  if (key === 'ArrowRight') mark += 1;
  if (key === 'ArrowLeft') mark -= 1;
  if (key === 'ArrowUp' || key === 'ArrowDown') {
    const x = (lines[line] && lines[line][mark] || {x: -Infinity}).x;
    line = (line + (key === 'ArrowDown' ? 1 : lines.length - 1)) % lines.length;
    mark = lines[line].findIndex((each) => each.x >= x);
    if (mark < 0) mark = lines[line].length - 1;
  }
  line = Math.min(line, lines.length - 1);
  mark = Math.max(0, Math.min(mark, lines[line].length - 1));
  view.at = {line, mark};
  const {curve, index} = lines[line][mark];
  Plotly.Fx.hover(view.plot, [{curveNumber: curve, pointNumber: index}]);
  const trace = view.plot.data[curve];
  view.row = trace.customdata ? trace.customdata[index] : null;
  say(trace.hovertext[index].replace(/,?<br>/g, ', ').replace(/<[^>]*>/g, ''));
}

function onKey(view, event) {
  if (event.key.startsWith('Arrow')) {
    event.preventDefault();
    walk(view, event.key);
  } else if (event.key === 'Enter' && view.row !== null) {
    pick(view.row);
  } else if (event.key === 'Escape') {
    Plotly.Fx.unhover(view.plot);
  }
}

function listen(view) {
  view.plot.on('plotly_click', (event) => {
    const row = event.points[0].customdata;
    if (row !== undefined && row !== null) pick(row);
  });
  view.plot.on('plotly_relayout', (change) => {
    const before = JSON.stringify(view.zoomed);
    for (const axis of ['x', 'y']) {
      const low = change[`${axis}axis.range[0]`]
        ?? change[`${axis}axis.range`]?.[0];
      if (low !== undefined) {
        view.zoomed[axis] = low !== view.figure[axis].range[0];
      }
    }
    if (JSON.stringify(view.zoomed) !== before) redraw(view);
  });
  view.plot.addEventListener('keydown', (event) => onKey(view, event));
}

function draw(view) {
  view.drawn = true;
  Plotly.newPlot(view.plot, tracesOf(view.figure, view),
    layoutOf(view.figure, view), {
      responsive: true, displaylogo: false, doubleClick: 'reset',
      showTips: false,
      displayModeBar: touch.matches ? false : 'hover',
      modeBarButtons: [['toImage', 'zoom2d', 'pan2d', 'resetScale2d']],
      toImageButtonOptions: {filename: view.name, scale: 2},
    });
  listen(view);
}

/** All values of a figure, for reading and copying. */
function valuesOf(title, figure) {
  const lines = figure.series.flatMap((series) => series.y.map((y, index) => {
    const row = series.points ? series.points[index] : null;
    const ends = series.low ? [series.low[index], series.high[index]] : [];
    return [series.label, row === null ? '' : named(row),
      ...[series.x ? series.x[index] : null, y, ...ends].map(
        (value) => number(value, 4))];
  }));
  return tableOf(title, ['series', 'checkpoint', figure.x.label, figure.y.label,
    '95 % from', 'to'], lines);
}

for (const place of document.querySelectorAll('.chart')) {
  const figure = data.figures[place.dataset.figure];
  const view = {
    name: place.dataset.figure, figure, plot: place.querySelector('.plot'),
    hidden: new Set(), hiddenSeeds: new Set(), zoomed: {x: false, y: false},
    drawn: false, ringed: false, at: null, row: null,
  };
  views.push(view);
  addLegend(place.querySelector('.legend'), view);
  whenOpened(place.querySelector('.values'),
    (inner) => inner.append(valuesOf(place.querySelector('h3').textContent,
      figure)));
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    seen.unobserve(entry.target);
    draw(views.find((view) => view.plot === entry.target));
  }
}, {rootMargin: '400px'});
for (const view of views) seen.observe(view.plot);

for (const query of [darkness, narrowness, touch]) {
  query.addEventListener('change', () => views.forEach(redraw));
}
onPick((row) => {
  const holds = (view) => view.figure.series.some(
    (series) => series.points && series.points.includes(row));
  views.filter((view) => view.ringed || holds(view)).forEach(redraw);
});
