"""A made-up world: nine raw fields, some of which go together, and four models that are functions of them."""

from collections.abc import Mapping

import numpy as np

from tests.bench.verdicts.world import CLUSTERED, DAILY, PER_DAY, Columns, World

COUNTRIES = tuple(f"C{number:02}" for number in range(12))
MERCHANTS = tuple(f"M{number:03}" for number in range(100))
DEVICES = ("phone", "tablet", "desktop", "till")


class Made(World):
    """Every seed has other models, other correlations, and another mix of categories."""

    fields = ("amount", "age", "rating", "items", "distance", "load", "country", "device", "merchant")
    models = {"champion": "champion", "challenger": "challenger", "shadow": "shadow", "yardstick": "canary"}
    changed_model, canary = "champion", "yardstick"

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 7])
        self.hidden = rng.normal(size=(6, 10)) * 0.8
        self.out = {
            name: rng.normal(size=10) for name in ("truth", "champion", "challenger", "shadow", "other", "twin")
        }
        self.linear = rng.normal(size=6) * 0.5
        self.tables = {
            field: rng.normal(size=len(words)) * 0.5
            for field, words in (("country", COUNTRIES), ("device", DEVICES), ("merchant", MERCHANTS))
        }
        self.mix = {
            "country": rng.dirichlet(np.ones(12) * 2),
            "device": np.array([0.5, 0.1, 0.3, 0.1]),
            "merchant": np.sort(rng.dirichlet(np.ones(100) * 0.8))[::-1],
        }
        self.correlation = 0.5 + 0.2 * rng.random()

    def draw(self, rng: np.random.Generator, count: int, kind: str, start_day: float, rate: float = 1.0) -> Columns:
        """Raw fields and times of `count` events."""
        at_day = self._times(rng, count, kind, start_day, rate)
        wave = np.sin(2 * np.pi * at_day) if kind == DAILY else np.zeros(count)
        days = at_day.astype(int)
        offset = np.zeros((6, count))
        tilt = np.zeros(count)
        if kind == CLUSTERED:
            offset = rng.normal(size=(6, days.max() + 1))[:, days] * 0.35
            tilt = rng.normal(size=days.max() + 1)[days] * 0.5
        normal = rng.normal(size=(6, count))
        normal[4] = self.correlation * normal[0] + np.sqrt(1 - self.correlation**2) * normal[4]
        normal[2] = 0.3 * normal[1] + np.sqrt(1 - 0.09) * normal[2]
        normal += offset
        normal[0] += 0.5 * wave
        normal[5] += 0.9 * wave
        rating = 1 / (1 + np.exp(-normal[2]))
        shown = np.where(rng.random(count) < 0.01, np.nan, rating)
        device = rng.random(count) < 0.25 + 0.2 * wave + 0.1 * np.clip(tilt, -1, 1)
        return {
            "at_ms": at_day * 86_400_000.0,
            "amount": np.round(np.exp(3 + 0.8 * normal[0]), 2),
            "age": np.round(40 + 12 * normal[1]),
            "rating": shown,
            "items": rng.poisson(np.exp(0.5 + 0.3 * normal[3])).astype(float),
            "distance": np.round(np.exp(2 + normal[4]), 1),
            "load": np.round(50 + 10 * normal[5], 1),
            "country": self._words(rng, "country", COUNTRIES, count),
            "device": np.where(device, "phone", self._words(rng, "device", DEVICES, count)).astype(object),
            "merchant": self._words(rng, "merchant", MERCHANTS, count),
        }

    def _times(self, rng: np.random.Generator, count: int, kind: str, start_day: float, rate: float) -> np.ndarray:
        gaps = rng.exponential(size=count) / (PER_DAY[kind] * rate)
        if kind != DAILY:
            return start_day + np.cumsum(gaps)
        found = np.empty(count)
        at = start_day
        for place, gap in enumerate(gaps.tolist()):
            at += gap / (1 + 0.6 * np.sin(2 * np.pi * at))
            found[place] = at
        return found

    def _words(self, rng: np.random.Generator, field: str, words: tuple[str, ...], count: int) -> np.ndarray:
        return np.array(words, object)[rng.choice(len(words), count, p=self.mix[field])]

    def score(self, model: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """The scores of one model, or of a file it might be swapped for (`other`, `twin`, `renewed`)."""
        inputs = np.stack([
            (np.log(np.maximum(columns["amount"], 1e-3)) - 3) / 0.8,
            (columns["age"] - 40) / 12,
            np.nan_to_num(columns["rating"], nan=0.5) * 4 - 2,
            columns["items"] - 1.7,
            np.log(np.maximum(columns["distance"], 1e-3)) - 2,
            (columns["load"] - 50) / 10,
        ], 1)  # fmt: skip
        inputs = np.clip(np.nan_to_num(inputs), -6, 6)
        words = sum(self._effect(field, columns[field]) for field in ("country", "device", "merchant"))
        deep = np.tanh(inputs @ self.hidden)
        truth = deep @ self.out["truth"] * 0.5 + inputs @ self.linear + words
        logit = {
            "champion": lambda: truth + 0.10 * deep @ self.out["champion"],
            "challenger": lambda: 0.7 * truth + 0.25 * deep @ self.out["challenger"] - 0.5,
            "shadow": lambda: 1.3 * truth + 0.12 * deep @ self.out["shadow"] + 0.4,
            "yardstick": lambda: inputs @ self.linear + 0.5 * words + 0.15 * deep @ self.out["truth"],
            "other": lambda: 0.6 * truth + 0.5 * deep @ self.out["other"],
            "twin": lambda: truth + 0.10 * deep @ self.out["twin"],
            "renewed": lambda: 0.8 * truth + 0.2 * deep @ self.out["other"],
        }[model]()
        return 1 / (1 + np.exp(-logit))

    def _effect(self, field: str, words: np.ndarray) -> np.ndarray:
        table = dict(
            zip(
                {"country": COUNTRIES, "device": DEVICES, "merchant": MERCHANTS}[field],
                self.tables[field],
                strict=True,
            )
        )
        return np.array([table.get(word, 0.0) for word in words])
