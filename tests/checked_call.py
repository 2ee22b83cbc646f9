"""A call of a workload by real parties, whose result is checked."""

import numpy as np


def run_checked(session, workload, inputs):
    """Run one call on loopback; the result is right, or the test ends here."""
    session.load("case", session.lower("case", workload.function, inputs), inputs)
    try:
        counted = session.run("case")
        revealed = session.fetch("case")
    finally:
        session.unload("case")
    expected = workload.reference(*inputs)
    allowed = workload.tolerance.allowed(expected, session.deployment.fraction_bits)
    assert np.all(np.abs(revealed - expected) <= allowed)
    return counted
