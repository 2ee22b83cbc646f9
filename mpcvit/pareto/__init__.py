"""Accuracy against seconds of a family of trained networks."""

from mpcvit.pareto.drawing import draw_pareto
from mpcvit.pareto.family import Member, Request, gather, is_on_front
from mpcvit.pareto.report import pareto_json, pareto_table

__all__ = [
    "Member",
    "Request",
    "draw_pareto",
    "gather",
    "is_on_front",
    "pareto_json",
    "pareto_table",
]
