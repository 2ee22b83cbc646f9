"""Costs by scope, of records: they add up to the whole."""

from dataclasses import fields

from mpcprof.sweep.scopes import REST, scope_costs, scope_table
from tests.factories import make_record


def record(scope, n_bytes, hops, latency_s):
    return make_record(
        workload=scope,
        bytes_sent_by_rank=(n_bytes, n_bytes),
        hops=hops,
        latencies_s=(latency_s,),
    )


WHOLE = record("model", 1000, 30.0, 1.0)
PARTS = (
    record("layer0", 300, 10.0, 0.4),
    record("(no scope)", 0, 0.0, 0.01),
    record("layer1", 400, 13.0, 0.4),
    record("layer0", 310, 10.0, 0.3),
)


def test_costs_of_scopes_add_up_to_the_whole_with_a_rest_of_either_sign():
    *own, rest = costs = scope_costs(WHOLE, PARTS)

    assert [cost.scope for cost in own] == ["layer0", "(no scope)", "layer1"]
    assert own[0].n_parts == 2
    assert (own[0].bytes_sent, own[0].hops) == (610, 20.0)
    assert rest.scope == REST
    assert (rest.bytes_sent, rest.hops) == (-10, -3.0)
    for field in fields(rest):
        if field.name not in ("scope", "n_parts"):
            whole = 1.0 if field.name == "share" else getattr(WHOLE, field.name)
            assert abs(sum(getattr(c, field.name) for c in costs) - whole) < 1e-12


def test_the_table_shows_each_scope_its_share_and_what_no_scope_explains():
    _, first, *_, rest = scope_table(scope_costs(WHOLE, PARTS))

    assert " ".join(first.split()) == "layer0 2 x 700 ms 70.0% 610 B 20 hops"
    assert " ".join(rest.split()) == "(rest) -110 ms -10 B -3 hops"


def test_scopes_within_scopes_are_added_up_by_the_outermost():
    parts = (
        record("layer0/norm", 100, 4.0, 0.1),
        record("layer0", 200, 6.0, 0.2),
        record("head", 700, 20.0, 0.7),
    )

    lines = [" ".join(line.split()) for line in scope_table(scope_costs(WHOLE, parts))]

    at = lines.index("outermost scopes, with those in them:")
    assert lines[at + 1 :] == [
        "layer0 300 ms 30.0% 300 B 10 hops",
        "head 700 ms 70.0% 700 B 20 hops",
        "(rest) 0 s 0.0% 0 B 0 hops",
    ]


def test_a_function_without_scopes_gets_one_line():
    (cost,) = scope_costs(WHOLE, ())

    assert (cost.scope, cost.bytes_sent, cost.share) == ("(no scope)", 1000, 1.0)
    (line,) = scope_table([cost])
    assert "jax.named_scope" in line
