"""What policies earn on the windows of a dataset, and which windows would teach a model nothing."""

from collections import defaultdict
from statistics import pstdev

from msgspec import Struct

from datagen.export.overlap import overlap_judge, says_nothing_new
from datagen.export.pauc import PAUC_WEIGHT, SETTINGS, Reward, reward
from datagen.inspect.policies import OWN, POLICIES, TRIVIAL, TRUTH
from datagen.inspect.windows import Window

MARGIN = 0.3
"""A trivial policy this close to the truth (mean reward) has all but reached it: a tenth of mean PAUC."""
DEAD_GAIN = 0.05
"""A window in which all that is right earns no more than this beyond silence teaches silence."""
_JUDGES = {name: overlap_judge(settings.top) for name, settings in SETTINGS.items()}


class Earned(Struct):
    """What one policy earns under one setting, over all windows so far."""

    windows: int = 0
    pauc: float = 0.0
    reward: float = 0.0

    def add(self, found: Reward) -> None:
        """Count one more window."""
        self.windows += 1
        self.pauc += (found.pauc - self.pauc) / self.windows
        self.reward += (found.total - self.reward) / self.windows


class Tie(Struct, frozen=True):
    """A window in which a trivial policy earns as much as the truth, but for the margin."""

    id: str
    setting: str
    policy: str
    reward: float
    truth: float


class Dead(Struct, frozen=True):
    """A window in which no right reply pays, and why."""

    id: str
    setting: str
    why: str


class Forecast:
    """Means over windows, one window at a time; of the windows themselves only ids are kept."""

    def __init__(self, margin: float = MARGIN) -> None:
        self.margin = margin
        self.windows = 0
        self.earned: dict[str, dict[str, Earned]] = {setting: defaultdict(Earned) for setting in SETTINGS}
        self.ties: list[Tie] = []
        self.dead: list[Dead] = []
        self.spread: dict[str, float] = dict.fromkeys(SETTINGS, 0.0)
        """Mean standard deviation of the reward within a window, over the policies."""

    def add(self, window: Window) -> None:
        """Score all policies on one more window."""
        self.windows += 1
        for setting in SETTINGS:
            found = score(window, setting)
            totals = {name: earned.total for name, earned in found.items()}
            for name, earned in found.items():
                self.earned[setting][name].add(earned)
            best = max(totals[name] for name in TRUTH)
            for name in TRIVIAL:
                if totals[name] > best - self.margin:
                    self.ties.append(Tie(window.id, setting, name, totals[name], best))
            if best - totals["silent"] <= DEAD_GAIN:
                self.dead.append(Dead(window.id, setting, _why_dead(found)))
            self.spread[setting] += (pstdev(totals.values()) - self.spread[setting]) / self.windows

    def verdicts(self) -> list[str]:
        """One line a setting for each trivial policy whose mean comes within the margin of the truth's."""
        lines = []
        for setting in SETTINGS if self.windows else ():
            rewards = {name: self.earned[setting][name].reward for name in (*TRUTH, *TRIVIAL)}
            best = max(TRUTH, key=lambda name: rewards[name])
            lines += [
                f"{setting}: `{name}` earns {rewards[name]:.3f}, `{best}` {rewards[best]:.3f}: "
                f"less than {self.margin:g} between them"
                for name in TRIVIAL
                if rewards[name] > rewards[best] - self.margin
            ]
        return lines


def _why_dead(found: dict[str, Reward]) -> str:
    gain = max(PAUC_WEIGHT * found[name].pauc for name in TRUTH) - found["silent"].total
    return "the true replies repeat earlier ones" if gain > DEAD_GAIN else "no turn comes early enough"


def score(window: Window, setting: str) -> dict[str, Reward]:
    """What each policy earns in a window under a setting; the dialogue's own placement where it is known."""
    return {
        name: reward(
            window.spans,
            window.times,
            policy(window),
            window.earlier,
            _JUDGES[setting],
            says_nothing_new,
            SETTINGS[setting],
        )
        for name, policy in POLICIES.items()
        if name != OWN or window.placed is not None
    }
