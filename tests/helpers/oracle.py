"""An independent and slow implementation of the metrics from their definitions: lists, loops and enumeration.

Random tie-breaking is taken at its word: an item's rank is one of the places that its score holds in the sorted list,
each with equal chances. `test_against_oracle.py` checks that against all shuffles of a short list.
"""

import math
from collections.abc import Callable, Sequence
from itertools import permutations
from statistics import fmean

from mtsearch.data.interactions import Rows
from mtsearch.data.split import Split
from tests.helpers.evaluation_cases import Tables

Gain = Callable[[int], float]


def possible_ranks(scores: Sequence[float], own: float) -> list[int]:
    """Return the possible 1-based ranks of the score `own` among `scores`, best first."""
    return [place for place, score in enumerate(sorted(scores, reverse=True), 1) if score == own]


def ranks_of_all_shuffles(scores: Sequence[float], index: int) -> list[int]:
    """Return the 1-based rank of item `index` after each shuffle of the list and a stable sort."""
    ranks = []
    for shuffled in permutations(range(len(scores))):
        best_first = sorted(shuffled, key=lambda item: -scores[item])
        ranks.append(best_first.index(index) + 1)
    return ranks


def row_ranks(split: Split, rows: Rows, tables: Tables, unseen: bool) -> list[list[int]]:
    """Return the possible ranks of each row's item; none for an item outside the catalogue."""
    catalogue = split.catalogue.tolist()
    train = set(zip(split.train.users.tolist(), split.train.items.tolist(), strict=True))
    answer = []
    for user, item in zip(rows.users.tolist(), rows.items.tolist(), strict=True):
        scores = dict(zip(catalogue, tables.score_table[user].tolist(), strict=True))
        ranked = [score for code, score in scores.items() if code == item or not unseen or (user, code) not in train]
        answer.append(possible_ranks(ranked, scores[item]) if item in scores else [])
    return answer


def expected(ranks: list[list[int]], gain: Gain) -> list[float]:
    return [fmean(gain(rank) for rank in possible) if possible else 0.0 for possible in ranks]


def hit(k: int) -> Gain:
    return lambda rank: float(rank <= k)


def dcg_10(rank: int) -> float:
    return 1 / math.log2(rank + 1) if rank <= 10 else 0.0


def coverage(split: Split, rows: Rows, tables: Tables) -> float:
    """Compute the coverage from the chance that each user is offered each item; users are independent."""
    users = set(rows.users.tolist())
    missed = [1.0] * len(split.catalogue)
    for scores in (tables.score_table[user].tolist() for user in users):
        offered = {score: expected([possible_ranks(scores, score)], hit(100))[0] for score in set(scores)}
        missed = [before * (1 - offered[score]) for before, score in zip(missed, scores, strict=True)]
    return fmean(1 - chance for chance in missed)


def recall_100(rows: Rows, hits: list[float]) -> float:
    by_user: dict[int, list[float]] = {}
    for user, value in zip(rows.users.tolist(), hits, strict=True):
        by_user.setdefault(user, []).append(value)
    return fmean(fmean(values) for values in by_user.values())


def rating_errors(split: Split, rows: Rows, tables: Tables) -> dict[str, float]:
    lowest, highest = min(split.train.ratings.tolist()), max(split.train.ratings.tolist())
    pairs = [
        (float(tables.rating_table[user, item]), float(rating))
        for user, item, rating in zip(rows.users, rows.items, rows.ratings, strict=True)
    ]
    return {
        "rmse": math.sqrt(fmean((guess - rating) ** 2 for guess, rating in pairs)),
        "rmse_clipped": math.sqrt(fmean((min(max(guess, lowest), highest) - rating) ** 2 for guess, rating in pairs)),
        "mae": fmean(abs(guess - rating) for guess, rating in pairs),
    }


def metrics(split: Split, rows: Rows, tables: Tables) -> dict[str, float]:
    whole, unseen = row_ranks(split, rows, tables, unseen=False), row_ranks(split, rows, tables, unseen=True)
    return rating_errors(split, rows, tables) | {
        "top_10": fmean(expected(whole, hit(10))),
        "top_10_unseen": fmean(expected(unseen, hit(10))),
        "top_100": fmean(expected(whole, hit(100))),
        "top_100_unseen": fmean(expected(unseen, hit(100))),
        "ndcg_10": fmean(expected(whole, dcg_10)),
        "mrr": fmean(expected(whole, lambda rank: 1 / rank)),
        "recall_100": recall_100(rows, expected(whole, hit(100))),
        "coverage": coverage(split, rows, tables),
    }
