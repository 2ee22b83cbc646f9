"""Where a model runs privately: what its parties run, and what lies between them."""

from dataclasses import dataclass

from mpcprof.deployment import Deployment, make_deployment
from mpcprof.network import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Deployment and network of a private inference.

    Attributes:
        emulation: auto, relay, tun or netem.
    """

    deployment: Deployment
    network: Network
    emulation: str = "auto"

    @property
    def notes(self) -> tuple[str, ...]:
        """Whom the deployment asks to trust beyond following the protocol."""
        if self.deployment.beaver != "TrustedFirstParty":
            return ()
        return (
            "beaver TrustedFirstParty: the image owner's party makes the triples and "
            "could unmask the model; fit for measuring, not against a curious image "
            "owner",
        )


def make_conditions(
    network: Network,
    emulation: str,
    *,
    protocol: str,
    runtime: str,
    field_bits: str,
    fraction_bits: int | None,
    beaver: str,
    options: tuple[str, ...],
) -> Conditions:
    """From what a person typed.

    Raises:
        UsageError: For whatever is not known or makes no sense, naming it.
    """
    deployment = make_deployment(
        protocol,
        runtime=runtime,
        field_bits=int(field_bits),
        fraction_bits=fraction_bits or 0,
        beaver=beaver,
        options=options,
    )
    return Conditions(deployment=deployment, network=network, emulation=emulation)
