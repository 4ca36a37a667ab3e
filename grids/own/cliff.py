"""Q-learning and SARSA on the cliff walk (Sutton and Barto 2018, example 6.6): returns, in numpy alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

ROWS, COLUMNS = 4, 12
START, GOAL = (3, 0), (3, 11)
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))


def step(place: tuple[int, int], move: int) -> tuple[tuple[int, int], float]:
    """Moves one field; a fall from the cliff costs 100 and starts again."""
    row = min(max(place[0] + MOVES[move][0], 0), ROWS - 1)
    column = min(max(place[1] + MOVES[move][1], 0), COLUMNS - 1)
    return (START, -100.0) if row == 3 and 0 < column < 11 else ((row, column), -1.0)


def run(
    algorithm: str, epsilon: float = 0.1, lr: float = 0.5, episodes: int = 300, *, seed: int, report: Callable[..., Any]
) -> dict[str, float]:
    """Learns; returns the mean return of the last 100 episodes, exploration included."""
    rng = np.random.default_rng(seed)
    values = np.zeros((ROWS, COLUMNS, len(MOVES)))
    returns: list[float] = []

    def choose(place: tuple[int, int]) -> int:
        best = np.flatnonzero(values[place] == values[place].max())
        return int(rng.integers(len(MOVES)) if rng.random() < epsilon else rng.choice(best))

    for episode in range(1, episodes + 1):
        place, move, total = START, choose(START), 0.0
        while place != GOAL and total > -5000:
            after, reward = step(place, move)
            following = choose(after)
            worth = values[after].max() if algorithm == "q_learning" else values[after][following]
            values[place][move] += lr * (reward + worth * (after != GOAL) - values[place][move])
            place, move, total = after, following, total + reward
        returns.append(total)
        if episode % 20 == 0:
            report(step=episode, episode_return=float(np.mean(returns[-20:])))
    return {"mean_return": float(np.mean(returns[-100:]))}
