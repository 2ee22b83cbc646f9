import json
import subprocess
import sys
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.builds import DEFAULT_BUILD, NOT_OPTIONS
from mpcprof.deployment import FRACTION_BITS, Deployment, make_deployment
from mpcprof.errors import UnknownNameError, UsageError

OPTION_TEXTS = (
    "fxp_exp_iters=5",
    "fxp_exp_mode=EXP_TAYLOR",
    "enable_optimize_denominator_with_broadcast=true",
    "sort_method=SORT_NETWORK",
    "trunc_allow_msb_error=True",
)


@given(
    st.sampled_from(DEFAULT_BUILD.protocols),
    st.sampled_from([*FRACTION_BITS]),
    st.sets(st.sampled_from(OPTION_TEXTS)).map(list),
)
def test_a_deployment_round_trips_through_one_line(protocol, bits, options):
    deployment = make_deployment(protocol, field_bits=bits, options=options)

    text = deployment.to_json()

    assert "\n" not in text
    assert Deployment.from_json(text) == deployment
    assert Deployment.from_json(text).to_json() == text


@given(st.permutations(OPTION_TEXTS))
def test_the_order_of_options_makes_no_other_deployment(options):
    ours = make_deployment("semi2k", options=options)

    assert ours.to_json() == make_deployment("semi2k", options=OPTION_TEXTS).to_json()


def test_an_option_at_its_default_makes_no_other_deployment():
    explicit = make_deployment(
        "semi2k", options=["fxp_exp_iters=8", "fxp_exp_mode=EXP_DEFAULT"]
    )

    assert explicit == Deployment(protocol="semi2k")


def test_what_was_typed_as_text_and_left_out_is_the_same_deployment():
    typed = make_deployment(
        "semi2k",
        runtime="spu-0.9.5",
        field_bits="128",
        fraction_bits=None,
        beaver="",
        options=(),
    )

    assert typed == Deployment(protocol="semi2k", field_bits=128)


@pytest.mark.parametrize(("bits", "fraction"), FRACTION_BITS.items())
def test_fraction_bits_follow_the_ring(bits, fraction):
    assert Deployment(protocol="aby3", field_bits=bits).fraction_bits == fraction


def test_parties_and_beaver_follow_the_protocol():
    made = {name: Deployment(protocol=name) for name in DEFAULT_BUILD.protocols}

    assert {n: d.n_parties for n, d in made.items()} == {
        "semi2k": 2,
        "cheetah": 2,
        "aby3": 3,
        "securenn": 3,
    }
    assert made["semi2k"].beaver == "TrustedFirstParty"
    assert {made[n].beaver for n in ("cheetah", "aby3", "securenn")} == {"none"}


def test_spu_tells_hops_and_bytes_only_of_semi2k_and_not_in_the_papers_build():
    counted = {
        (runtime, protocol)
        for runtime in ("spu-0.9.5", "spu-0.3.1b0")
        for protocol in ("semi2k", "cheetah", "aby3")
        if Deployment(runtime=runtime, protocol=protocol).is_counted_by_spu
    }

    assert counted == {("spu-0.9.5", "semi2k")}


def test_options_are_shown_by_their_spu_names():
    deployment = make_deployment("semi2k", options=OPTION_TEXTS[:3])

    assert deployment.options == (
        '{"compiler": {"enable_optimize_denominator_with_broadcast": true}, '
        '"runtime": {"fxp_exp_iters": 5, "fxp_exp_mode": "EXP_TAYLOR"}}'
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "semi2"}, "no protocol 'semi2'; did you mean semi2k?"),
        ({"runtime": "spu-0.8"}, "no runtime 'spu-0.8'; did you mean spu-0.9.5"),
        ({"field_bits": 48}, "field_bits=48: expected 32, 64 or 128"),
        ({"field_bits": "48"}, "field_bits=48: expected 32, 64 or 128"),
        ({"field_bits": "wide"}, "field_bits=wide: expected 32, 64 or 128"),
        ({"fraction_bits": 32}, "fraction_bits=32: expected 1 to 31"),
        ({"fraction_bits": -1}, "fraction_bits=-1: expected 1 to 31"),
        ({"beaver": "Trusted"}, "no semi2k beaver 'Trusted'; known: Trusted"),
        ({"protocol": "aby3", "beaver": "MultiParty"}, "known: none"),
        ({"options": ["fxp_exp_iter=5"]}, "did you mean fxp_exp_iters"),
        ({"options": ["fxp_exp_iters"]}, "expected NAME=VALUE"),
        ({"options": ["fxp_exp_iters="]}, "expected NAME=VALUE"),
        ({"options": ["fxp_exp_iters=-5"]}, "='-5': expected a whole number"),
        ({"options": ["fxp_exp_iters=true"]}, "expected a whole number"),
        ({"options": ["trunc_allow_msb_error=1"]}, "expected true or false"),
        ({"options": ["fxp_exp_mode=TAYLOR"]}, "did you mean EXP_TAYLOR"),
        ({"options": ["fxp_exp_iters=5", "fxp_exp_iters=6"]}, "each of them once"),
        ({"options": ["enable_hal_profile=true"]}, "it changes what SPU prints"),
        ({"options": ["field=FM64"]}, "it is a field of the deployment"),
        (
            {"options": ["experimental_enable_inter_op_par=true"]},
            "SPU counts bytes wrongly",
        ),
        (
            {"runtime": "spu-0.3.1b0", "options": ["fxp_exp_mode=EXP_PRIME"]},
            "no fxp_exp_mode value 'EXP_PRIME'",
        ),
        (
            {"runtime": "spu-0.3.1b0", "options": ["trunc_allow_msb_error=true"]},
            "spu-0.3.1b0 has no option 'trunc_allow_msb_error'",
        ),
        (
            {"runtime": "spu-0.3.1b0", "options": ["reveal_secret_condition=true"]},
            "it gives secrets away",
        ),
        (
            {"runtime": "spu-0.3.1b0", "protocol": "securenn"},
            "no spu-0.3.1b0 protocol 'securenn'; known: semi2k, cheetah, aby3",
        ),
        (
            {"runtime": "spu-0.3.1b0", "beaver": "MultiParty"},
            "no semi2k beaver 'MultiParty'; known: TrustedFirstParty",
        ),
    ],
)
def test_what_cannot_be_deployed_is_refused_in_words(arguments, message):
    with pytest.raises(UsageError) as caught:
        make_deployment(**({"protocol": "semi2k"} | arguments))

    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "1", "[]", "{}", '{"protocol": "semi2k"}', "null"]
)
def test_a_text_that_is_no_deployment_is_refused(text):
    with pytest.raises(UsageError, match="is not a deployment"):
        Deployment.from_json(text)


@given(
    st.sampled_from([*json.loads(Deployment(protocol="semi2k").to_json()), "other"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.text(max_size=5), inner, max_size=2)
        ),
        max_leaves=4,
    ),
)
def test_a_changed_value_is_a_deployment_or_refused_in_one_line(key, value):
    values = json.loads(Deployment(protocol="semi2k").to_json()) | {key: value}

    try:
        read, told = Deployment.from_json(json.dumps(values)), ""
    except UsageError as error:
        read, told = None, str(error)

    assert (read is None) == bool(told)
    assert told.isprintable()
    assert read is None or Deployment.from_json(read.to_json()) == read


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("protocol", 3, "protocol=3: expected text"),
        ("field_bits", "64", "field_bits='64': expected int"),
        ("runtime_options", [], r"runtime_options=\[\]: expected an object"),
        ("ring", 64, "unknown key 'ring'"),
    ],
)
def test_a_value_of_another_type_is_named_with_what_was_expected(key, value, message):
    values = json.loads(Deployment(protocol="semi2k").to_json()) | {key: value}

    with pytest.raises(UsageError, match=message):
        Deployment.from_json(json.dumps(values))


def test_a_difference_names_the_first_field():
    a = Deployment(protocol="semi2k")
    b = make_deployment("semi2k", options=["fxp_exp_iters=5"])

    assert a.difference(a) is None
    assert "runtime_options is {}" in str(a.difference(b))
    assert "protocol is 'semi2k'" in str(a.difference(Deployment(protocol="aby3")))


def test_an_unknown_name_is_a_lookup_error_too():
    with pytest.raises(UnknownNameError):
        Deployment(protocol="spdz")


def test_the_vocabulary_loads_nothing_heavy():
    code = "import sys, mpcprof.deployment, mpcprof.profile.merge; print(*sys.modules)"

    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()

    assert not {"spu", "jax", "numpy", "pandas", "pyarrow", "torch"} & {*loaded}


def _attributes(config: object) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in dir(config):
        if name.startswith("_"):
            continue
        value = getattr(config, name)
        is_member = name.isupper() or isinstance(value, type)
        is_member |= name in getattr(type(value), "__members__", {})
        if is_member or callable(value):
            continue
        members = getattr(type(value), "__members__", None)
        if members is not None:
            value = (value.name, *(n for n in members if n != value.name))
        elif isinstance(value, Enum):
            value = value.name
        found[name] = value
    return found


@pytest.mark.spu
@pytest.mark.parametrize(
    ("class_name", "table"),
    [
        ("RuntimeConfig", DEFAULT_BUILD.runtime_options),
        ("CompilerOptions", DEFAULT_BUILD.compiler_options),
    ],
)
def test_the_option_tables_are_those_of_the_installed_build(class_name, table):
    libspu = pytest.importorskip("spu.libspu")

    attributes = _attributes(getattr(libspu, class_name)())

    options = {n: v for n, v in attributes.items() if n not in NOT_OPTIONS}
    assert options == dict(table)
