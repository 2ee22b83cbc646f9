"""Where a model runs privately: what its parties run, and what lies between them."""

from dataclasses import dataclass
from typing import Any

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
    **deployment: Any,  # see make_deployment, which checks each
) -> Conditions:
    """From what a person typed.

    Raises:
        UsageError: For whatever is not known or makes no sense, naming it.
    """
    return Conditions(
        deployment=make_deployment(**deployment), network=network, emulation=emulation
    )
