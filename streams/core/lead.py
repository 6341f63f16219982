"""How long before its deadline a default leaves, for the way to the broker's log takes time.

Where two cores are full it takes 1 ms as a rule, and 15 to 25 for one record of a hundred (measured with all models
hung: 1 to 1.5 % of all answers were late with a lead of 4 ms, 0.05 to 0.3 % with 20). A share of the budget, so that
a short one is not spent on it.
"""

import numpy as np
from numpy.typing import NDArray

LEAST_MS, LEAD_MS, SHARE = 4.0, 20.0, 0.05

APART_MS, MOST_AFTER_MS = 12.0, 4.0
"""A standby's default leaves so long after its owner's, but no longer than this after the deadline."""


def lead_of(most_ms: float, budget_ms: float) -> float:
    """A twentieth of the budget, and no less than 4 ms; where that is more than `most_ms`, those. (Live it is 20.)"""
    lead_ms = SHARE * budget_ms
    return min(most_ms, max(lead_ms, LEAST_MS))


def leads_of(most_ms: float, budgets_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same of many, equal to the bit."""
    return np.minimum(most_ms, np.maximum(SHARE * budgets_ms, LEAST_MS))


def last_of(lead_ms: float) -> float:
    """How long after the deadline a standby's default leaves, where the owner's has not come; 0 with a long lead."""
    return max(0.0, min(APART_MS - lead_ms, MOST_AFTER_MS))
