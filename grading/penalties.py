"""What being late costs: a course's policy as a pure function, and as the plugin that nbgrader asks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from grading.courses.catalogue import Late


@dataclass(frozen=True)
class Penalty:
    """Points taken off, and the days that were counted."""

    points: float = 0.0
    days: int = 0


def is_late(late: Late, received_at: datetime, due_at: datetime | None) -> bool:
    """Whether a submission came after its due date and the time of grace."""
    return due_at is not None and received_at > due_at + timedelta(minutes=late.grace_minutes)


def penalty(late: Late, received_at: datetime, due_at: datetime | None, score: float, max_score: float) -> Penalty:
    """What a submission loses: for each begun day after its due date a part of the unit's points, never more than its score.

    Args:
        due_at: the student's own, extension included.
    """
    if due_at is None or not is_late(late, received_at, due_at):
        return Penalty()
    days = math.ceil((received_at - due_at) / timedelta(days=1))
    if late.most_days and days > late.most_days:
        return Penalty(max(0.0, score), days)
    return Penalty(min(max(0.0, score), late.per_day * max_score * days), days)
