"""All campaigns, or some, one after another, in one warm process.

  python benchmarks/reliability --seed=0
  python benchmarks/reliability signals doubles --count=10

Each has as many cases as its own script, or --count of them.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import damage
import doubles
import fuzz
import kills
import lab
import signals

CAMPAIGNS: dict[str, tuple[lab.Campaign, int]] = {
  'kills': (kills.campaign, 200),
  'signals': (signals.campaign, 100),
  'damage': (damage.campaign, 500),
  'fuzz': (fuzz.campaign, 1500),
  'doubles': (doubles.campaign, 20),
}

if __name__ == '__main__':
  lab.run(CAMPAIGNS, __doc__)
