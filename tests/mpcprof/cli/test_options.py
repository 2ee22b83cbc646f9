"""What a person types: lists, one reader for each kind, and what is misspelt."""

import click
import pytest
from click.testing import CliRunner

from mpcprof.cli import COMMANDS, main
from mpcprof.cli.options import (
    parse_durations_s,
    parse_numbers,
    parse_seeds,
    parse_shares,
)
from mpcprof.errors import UsageError


@pytest.mark.parametrize(
    ("parse", "text", "values"),
    [
        (parse_numbers, "0.5, 7", (0.5, 7.0)),
        (parse_shares, "0.5,0.3", (0.5, 0.3)),
        (parse_seeds, "0, 1,2", (0, 1, 2)),
        (parse_durations_s, "40s,300ms", (40.0, 0.3)),
    ],
)
def test_a_list_is_read_in_the_order_typed(parse, text, values):
    assert parse(text) == values


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_numbers, "-1", "'-1': expected numbers from 0 on"),
        (parse_numbers, "nan", "expected numbers from 0 on"),
        (parse_shares, "0.5,x", "'0.5,x': expected shares from 0 to 1"),
        (parse_shares, "1.5", "expected shares from 0 to 1"),
        (parse_seeds, "1,-2", "seeds '1,-2': expected whole numbers"),
        (parse_durations_s, "40", "'40' has no unit"),
    ],
)
def test_another_value_is_refused_with_what_is_expected(parse, text, message):
    with pytest.raises(UsageError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["predic"], "mpcprof: no command 'predic'; did you mean predict"),
        (["--versio"], "mpcprof: No such option '--versio'. Did you mean '--version'?"),
        (
            ["zoo", "predict", "x", "--sort", "hop"],
            "mpcprof zoo predict: Invalid value",
        ),
    ],
)
def test_what_is_misspelt_is_one_line_with_the_whole_command(typed, message):
    done = CliRunner().invoke(main, typed, prog_name="mpcprof")

    assert done.exit_code == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def outputs(command):
    yield from (option for option in command.params if "--output" in option.opts)
    for own in getattr(command, "commands", {}).values():
        yield from outputs(own)


def test_every_output_has_the_same_short_option():
    context = click.Context(main)

    found = [o for name in COMMANDS for o in outputs(main.get_command(context, name))]

    assert len(found) > 8
    assert all("-o" in option.opts for option in found)


@pytest.mark.parametrize("more", [(), ("--network", "wan")])
def test_a_second_network_is_refused(more):
    own = ["--model", "digits", "--system", "puma", "--network", "lan", *more]

    result = CliRunner().invoke(main, ["zoo", "predict", "semi2k", *own])

    assert result.exit_code == (2 if more else 0)
    assert result.stderr.endswith("expected one; run once for each\n") == bool(more)
