"""The page in a real browser, without a window and without a network."""

import pathlib
import shutil

import pytest
import report_parts
from report_parts import HOSTILE

from dap.study.report import report

sync_api = pytest.importorskip('playwright.sync_api')
PATIENCE = 120_000  # ms; a busy machine may need many of them
sync_api.expect.set_options(timeout=PATIENCE)

NAMES = (
  'chromium',
  'chromium-browser',
  'google-chrome',
  'google-chrome-stable',
  'chrome',
)
# Where the nth mark of a trace of the first figure is, in pixels of the window.
PLACE = """([trace, mark]) => {
  const plot = document.querySelector('.plot');
  const {x, y} = plot.data[trace];
  const {xaxis, yaxis} = plot._fullLayout;
  const box = plot.getBoundingClientRect();
  return [box.left + xaxis._offset + xaxis.d2p(x[mark]),
    box.top + yaxis._offset + yaxis.d2p(y[mark])];
}"""
# Plotly fits a plot to its place some time after it first drew it.
SETTLED = """() => new Promise((done) => {
  let last = setTimeout(done, 500);
  document.querySelector('.plot').on('plotly_afterplot', () => {
    clearTimeout(last);
    last = setTimeout(done, 500);
  });
})"""
ONLINE = 3  # the trace of the online checkpoints: two traces for each series
DARK, LIGHT = 'rgb(20, 22, 26)', 'rgb(255, 255, 255)'


@pytest.fixture(scope='module')
def browser():
  with sync_api.sync_playwright() as playwright:
    own = playwright.chromium.executable_path
    found = [shutil.which(name) for name in NAMES]
    found += [own] if pathlib.Path(own).exists() else []
    path = next(filter(None, found), None)
    if path is None:
      pytest.skip(f'no browser: none of {", ".join(NAMES)} is on the PATH')
    started = playwright.chromium.launch(
      executable_path=path, args=['--no-sandbox', '--disable-gpu']
    )
    yield started
    started.close()


@pytest.fixture(scope='module')
def address(tmp_path_factory):
  folder = tmp_path_factory.mktemp('study')
  report.write(folder, report_parts.results(folder))
  return (folder / 'report.html').as_uri()


@pytest.fixture
def visit(browser, address):
  """Opens the page; fails at the end on any error or request of it."""
  contexts, wrong = [], []

  def opened(width=1280, height=900, **options):
    context = browser.new_context(
      viewport={'width': width, 'height': height}, **options
    )
    contexts.append(context)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.on('pageerror', lambda error: wrong.append(str(error)))
    page.on(
      'console',
      lambda said: said.type == 'error' and wrong.append(said.text),
    )
    page.on(
      'request',
      lambda asked: (
        asked.url.startswith(('file:', 'data:', 'blob:'))
        or wrong.append(asked.url)
      ),
    )
    page.goto(address)
    page.locator('.plot').first.scroll_into_view_if_needed()
    page.wait_for_selector('.plot .point')
    page.evaluate(SETTLED)
    return page

  yield opened
  for context in contexts:
    context.close()
  assert wrong == []


@pytest.fixture
def page(visit):
  return visit()


def columns(page):
  """The responses that are shown, by the titles of their columns."""
  return {
    each.locator('h3').inner_text(): each.locator('.words').inner_text()
    for each in page.locator('.answer:visible').all()
  }


def point_at(page, mark):
  """Moves the mouse to an online checkpoint; what then is shown beside it."""
  x, y = page.evaluate(PLACE, [ONLINE, mark])
  page.mouse.move(x - 2, y)
  page.mouse.move(x, y)
  page.wait_for_selector('.hovertext')
  return hovered(page)


def hovered(page):
  return ' '.join(page.locator('.hovertext').first.text_content().split())


def test_every_figure_is_drawn_as_plotly_wants_it(page):
  for plot in page.locator('.plot').all():
    plot.scroll_into_view_if_needed()
  page.wait_for_function(
    "() => [...document.querySelectorAll('.plot')].every((p) => p.data)"
  )
  codes = page.evaluate(
    """() => [...document.querySelectorAll('.plot')].flatMap(
      (p) => Plotly.validate(p.data, p.layout) || []).map((e) => e.code)"""
  )
  assert set(codes) <= {'unused', 'invisible', 'dynamic'}  # no mistakes
  assert page.locator('.plot .xtick text').first.text_content() != ''


def test_a_mark_tells_what_it_is(page):
  said = point_at(page, 4)
  for part in (
    'online_', 'seed ', 'step ', 'lr 0.001', 'beta 0.', 'KL ', 'win rate 0.',
    '[0.', 'by proxy 0.600', 'hidden utility 1.50', 'length 14.0 tokens',
  ):  # fmt: skip
    assert part in said


def test_a_click_shows_the_samples_of_a_mark_and_rings_it_everywhere(page):
  assert 'Picked point' not in columns(page)
  row = page.evaluate(
    f"() => document.querySelector('.plot').data[{ONLINE}].customdata[11]"
  )
  point_at(page, 11)
  page.mouse.down()
  page.mouse.up()
  page.wait_for_selector('#picked:visible')
  point = report_parts.points()[row]
  place = f'{point.run} {point.seed} {point.step}'
  assert columns(page)['Picked point'] == f'{place} says 0'
  assert point.run in page.locator('#picked').inner_text()
  page.locator('#figure-fig4').scroll_into_view_if_needed()
  page.wait_for_function(
    """() => [...document.querySelectorAll('.plot')].every(
      (p) => p.data && p.data[p.data.length - 1].x.length === 1)"""
  )
  page.keyboard.press('Escape')
  assert 'Picked point' not in columns(page)


def test_samples_go_through_prompts_seeds_and_checkpoints(page):
  first = columns(page)
  assert first['SFT policy'] == HOSTILE and page.title() != 'taken'
  assert first['Golden policy'] == 'golden 0-0'
  assert first['Online'].startswith('online_')
  page.get_by_role('button', name='next').click()
  assert columns(page)['Golden policy'] == 'golden 0-1'
  assert page.locator('.prompt').inner_text() == 'prompt 0-1'
  page.get_by_role('button', name='next').click()  # from the last to the first
  assert page.locator('.prompt').inner_text() == 'prompt 0-0'
  page.get_by_role('button', name='previous').click()
  page.get_by_role('combobox', name='seed', exact=True).select_option('1')
  assert columns(page)['SFT policy'] == 'sft 1 0 says 1'
  online = page.get_by_label('Online', exact=True)
  online.get_by_label('checkpoints of').select_option('offline_b')
  online.get_by_label('step').select_option(label=online.get_by_label(
    'step').locator('option').first.inner_text())  # fmt: skip
  assert columns(page)['Online'] == 'offline_b 1 10 says 1'
  assert '0.75' in online.locator('.judged').inner_text()


def test_dark_and_light_follow_the_reader(page):
  def colours():
    return page.evaluate(
      f"""() => [getComputedStyle(document.body).backgroundColor,
        document.querySelector('.plot').layout.font.color,
        document.querySelector('.plot').data[{ONLINE}].marker.line.color]"""
    )

  before = colours()
  page.emulate_media(color_scheme='dark')
  page.wait_for_function(
    f"""() => document.querySelector('.plot').layout.font.color
      !== '{before[1]}'"""
  )
  after = colours()
  assert before[0] == LIGHT and after[0] == DARK
  assert all(old != new for old, new in zip(before, after))


def test_the_legend_hides_series_and_seeds(page):
  legend = page.locator('.legend').first

  def shown():
    return page.evaluate(
      f"""() => [document.querySelector('.plot').data[{ONLINE}].visible,
        document.querySelector('.plot').data[{ONLINE}].x.length]"""
    )

  assert shown() == [True, 12]
  legend.get_by_role('button', name='online', exact=True).click()
  assert shown() == [False, 12]
  legend.get_by_role('button', name='online', exact=True).click()
  seed = legend.get_by_role('button', name='1', exact=True)
  seed.click()
  assert shown() == [True, 6]
  assert seed.get_attribute('aria-pressed') == 'false'


def test_keys_go_from_mark_to_mark_and_pick(page):
  page.locator('.plot').first.focus()
  for key in ('ArrowRight', 'ArrowRight', 'ArrowDown'):
    page.keyboard.press(key)
  sync_api.expect(page.locator('.hovertext')).to_contain_text('offline_')
  spoken = page.locator('#announcer').inner_text()
  assert 'offline_' in spoken and 'win rate' in spoken
  page.keyboard.press('Enter')
  assert 'offline_' in page.locator('#picked').inner_text()


def test_a_zoomed_axis_gets_marks_of_its_own_and_returns(page):
  box = page.locator('.plot').first.bounding_box()

  def mode():
    return page.evaluate(
      "() => document.querySelector('.plot').layout.xaxis.tickmode ?? 'auto'"
    )

  assert mode() == 'array'
  page.mouse.move(box['x'] + 300, box['y'] + 100)
  page.mouse.down()
  page.mouse.move(box['x'] + 500, box['y'] + 250, steps=5)
  page.mouse.up()
  page.wait_for_function(
    "() => !document.querySelector('.plot').layout.xaxis.tickmode"
  )
  page.mouse.dblclick(box['x'] + 400, box['y'] + 200)
  page.wait_for_function(
    "() => document.querySelector('.plot').layout.xaxis.tickmode === 'array'"
  )


def test_long_tables_are_made_when_they_are_opened(page):
  count = len(report_parts.points())
  page.locator('#all-points summary').click()
  body = page.locator('#all-points tbody tr')
  sync_api.expect(body).to_have_count(count)
  page.get_by_role('button', name='win rate').click()
  page.get_by_role('button', name='win rate').click()
  steps = body.first.locator('td').nth(2).inner_text()
  assert steps == '9'  # the golden policy wins most often
  page.get_by_role('searchbox', name='runs that contain').fill('offline_b')
  assert body.count() == 6
  page.locator('#configurations summary').click()
  choice = page.get_by_role('combobox', name='configuration of')
  choice.select_option('online_a')
  assert '"beta": 0.1' in page.locator('#configurations pre').inner_text()
  page.locator('.values summary').first.click()
  values = page.locator('.values tbody tr')
  of_band = values.filter(has_text='online, best')
  sync_api.expect(of_band).to_have_count(4)


def test_a_telephone_shows_all_without_sideways_scrolling(visit):
  page = visit(390, 844, has_touch=True, is_mobile=True)
  for summary in page.locator('summary').all():
    summary.tap()
  width = 'document.documentElement.scrollWidth'
  assert page.evaluate(f'() => {width}') == 390


def test_a_tap_shows_and_picks_and_a_swipe_scrolls(visit):
  page = visit(390, 844, has_touch=True, is_mobile=True)
  x, y = page.evaluate(PLACE, [ONLINE, 11])
  page.touchscreen.tap(x, y)
  page.wait_for_selector('#picked:visible')
  assert 'win rate' in hovered(page)
  before = page.evaluate('() => scrollY')
  hand = page.context.new_cdp_session(page)
  for step in range(12):
    kind = 'touchMove' if step else 'touchStart'
    at = [{'x': x, 'y': y - 15 * step}]
    hand.send('Input.dispatchTouchEvent', {'type': kind, 'touchPoints': at})
    page.wait_for_timeout(16)
  hand.send('Input.dispatchTouchEvent', {'type': 'touchEnd', 'touchPoints': []})
  page.wait_for_function(f'() => scrollY > {before} + 50')
