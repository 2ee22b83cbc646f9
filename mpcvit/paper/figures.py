"""The numbers of Figures 1, 3 and 8."""

from collections.abc import Sequence

from mpcprof.errors import ProfileError
from mpcprof.predict import GROUPS, SOFTMAX_GROUPS, operation_group, softmax_group
from mpcvit.paper.costs import Cost, Source, price, price_groups
from mpcvit.paper.subjects import (
    BLOCK_HEADS,
    BLOCK_TOKENS,
    HEADS,
    TOKENS,
    Setting,
    block_steps,
    fig8_models,
    layer_steps,
    model_steps,
)


def fig1_costs(source: Source, setting: Setting) -> tuple[Cost, ...]:
    """A block over heads (panel a) and over tokens (panel b), by group of operations.

    Source: MPCViT Figure 1(a) and (b).

    Raises:
        MissingEntryError: If the profile lacks an operation.
    """
    bars = [("a", str(n), block_steps(n, BLOCK_TOKENS, setting)) for n in HEADS]
    bars += [("b", str(n), block_steps(BLOCK_HEADS, n, setting)) for n in TOKENS]
    return tuple(
        cost
        for panel, x, steps in bars
        for cost in price_groups(
            source, setting.network, steps, GROUPS, operation_group, panel=panel, x=x
        )
    )


def fig3_costs(sources: Sequence[Source], setting: Setting) -> tuple[Cost, ...]:
    """The CIFAR model by group (panel a), and its softmax by operation (panel b).

    Source: MPCViT Figure 3; a ring for each source, the outermost first.

    Raises:
        MissingEntryError: If a profile lacks an operation.
        ProfileError: If the profiles differ in more than the protocol.
    """
    check_rings(sources)
    steps = model_steps("cifar", setting)
    of_softmax = [step for step in steps if operation_group(step) == "softmax"]
    costs: list[Cost] = []
    for source in sources:
        costs += price_groups(
            source, setting.network, steps, GROUPS, operation_group, panel="a"
        )
        costs += price_groups(
            source,
            setting.network,
            of_softmax,
            SOFTMAX_GROUPS,
            softmax_group,
            panel="b",
        )
    return tuple(costs)


def check_rings(sources: Sequence[Source]) -> None:
    """Refuse rings that differ in more than the protocol, or not in it.

    Raises:
        ProfileError: Naming the files and the difference.
    """
    first = sources[0]
    for other in sources[1:]:
        for name in ("runtime", "field_bits", "fraction_bits"):
            ours, theirs = (getattr(s.deployment, name) for s in (first, other))
            if ours != theirs:
                raise ProfileError(
                    f"{first.path} and {other.path} are not drawn as rings of one "
                    f"figure: {name} is {ours} in one, {theirs} in the other; expected "
                    "two protocols of one build"
                )
        if first.deployment.protocol == other.deployment.protocol:
            raise ProfileError(
                f"{first.path} and {other.path} are both of "
                f"{first.deployment.protocol}: expected two protocols"
            )


def fig8_costs(source: Source, setting: Setting) -> tuple[Cost, ...]:
    """Each layer of softmax, ReLU softmax and MPCViT.

    Source: MPCViT Figure 8.

    Raises:
        MissingEntryError: If the profile lacks an operation.
        UsageError: If the architecture is of another model.
    """
    return tuple(
        price(
            source,
            setting.network,
            layer_steps(architecture, number),
            panel="a",
            x=str(number),
            series=name,
            group="layer",
        )
        for name, architecture in fig8_models(setting).items()
        for number in range(1, architecture.n_layers + 1)
    )
