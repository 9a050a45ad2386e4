"""What reports may say of passages: a quarter of an hour of one lane and direction is told from k on, or not at all.

Pure. docs/adr/0021-k-suppression.md shows that of no quarter left out anything can be told, whatever is subtracted from what.
"""

from __future__ import annotations

from collections.abc import Iterable


def shown(n: int, k: int) -> bool:
    """Whether the finest cell is told. Of the others nobody is told even whether they are empty."""
    return n >= k


def at_least(cells: Iterable[int], quarters: int, k: int) -> int:
    """What is told of one day of one lane and direction: a lower bound, at most k - 1 below the truth but where nearly all
    quarters are left out with k - 1 each. `cells`: its quarters that had any, `quarters`: all that the day has.

    What the quarters left out add up to is rounded down to a multiple of k, and never said to be more than all but one of them
    could hold: so each of them alone may still be anything from 0 to k - 1.
    """
    told = hidden = 0
    left_out = quarters
    for n in cells:
        if shown(n, k):
            told += n
            left_out -= 1
        else:
            hidden += n
    return told + rounded(hidden, left_out, k)


def rounded(hidden: int, left_out: int, k: int) -> int:
    """`hidden` people in `left_out` quarters, as far as it is told."""
    return min(hidden, max(0, left_out - 1) * (k - 1)) // k * k
