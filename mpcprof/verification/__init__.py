"""Predictions held against measurements that no fit has seen."""

from mpcprof.verification.drawing import Drawn, draw_cases
from mpcprof.verification.report import CaseResult, Verification
from mpcprof.verification.run import VerifyRequest, verify

__all__ = [
    "CaseResult",
    "Drawn",
    "Verification",
    "VerifyRequest",
    "draw_cases",
    "verify",
]
