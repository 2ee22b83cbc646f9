"""A checkpoint on live parties: the model owner's weights, the image owner's images.

Party 0 owns the images and learns the logits, party 1 owns the weights; a third party
owns nothing. What is said here to all of them is the architecture and the code.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mpcprof.deployment import Deployment
from mpcprof.engine.calibration import trim_link
from mpcprof.engine.calls import Call, Owned, Setup, Transfer
from mpcprof.engine.emulation.backends import choose_emulation, make_emulation
from mpcprof.engine.hosts.link import check_real_link, measure_link
from mpcprof.engine.hosts.party_file import PartyFile
from mpcprof.engine.hosts.session import HostedSession, owned_elsewhere
from mpcprof.engine.lowering import Lowered
from mpcprof.engine.session import Session
from mpcprof.engine.traced import check_traceable
from mpcprof.errors import LinkError, UsageError
from mpcprof.network import Network
from mpcprof.nn.catalogue import AnyNetwork, network_shapes
from mpcprof.nn.plan import Plan
from mpcprof.spu_options import truncates_locally
from mpcprof.workloads.models import model_workload
from mpcvit.secure.model_owner import fold_apart

IMAGE_OWNER: Final = 0
MODEL_OWNER: Final = 1
CASE: Final = "vit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the parties of a private inference run, and what lies between them.

    Attributes:
        emulation: Back-end that emulates the network: auto, relay, tun or netem.
        is_traced: Whether calls keep their messages, for a trace.
        parties: This host's party, of several hosts; None for parties of this machine.
        is_network_seen: Whether `network` is to be what the parties of hosts see.

    Raises:
        UsageError: If calls are to be traced and no message can be seen.
    """

    deployment: Deployment
    network: Network
    emulation: str = "auto"
    is_traced: bool = False
    parties: PartyFile | None = None
    is_network_seen: bool = False

    def __post_init__(self) -> None:
        if self.is_traced and self.parties:
            raise UsageError("--trace is of parties of one machine; not --parties")
        if self.is_traced:
            emulation = choose_emulation(self.emulation)
            check_traceable("emulated", emulation, self.network)

    def notes(self, plan: Plan | None = None) -> tuple[str, ...]:
        """Return the trust that is asked for, and the failures that are accepted.

        Args:
            plan: The plan that runs.
        """
        found = []
        if self.deployment.beaver == "TrustedFirstParty":
            found.append(
                "beaver TrustedFirstParty: the image owner's party makes the triples "
                "and could unmask the model; fit for measuring, not against a curious "
                "image owner"
            )
        if self.parties and self.parties.tls is None:
            found.append(
                "no [tls] in the party file: whoever is on the way reads and changes "
                "what the parties send"
            )
        if truncates_locally(self.deployment):
            rate = plan.failure_rate if plan else 0.0
            accepted = f"the plan accepts {rate:.2g} times an inference"
            found.append(
                "trunc_allow_msb_error: each party truncates its own shares, which now "
                "and then gives a wrong number and ruins what follows from it; "
                f"{accepted if rate else 'how often: docs/spu-options.md'}"
            )
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """Cost of what is done before the first image, once for all of them.

    Attributes:
        setup: Starting processes, connections, keys.
        compile_s: Seconds from the architecture to the parties' executable.
        weights: Sharing the weights, over the network.
        network: The network that the parties see.
        notes: What to know of it.
    """

    setup: Setup
    network: Network
    compile_s: float
    weights: Transfer
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Result and cost of one batch of images.

    Attributes:
        logits: Logits, (B, C), as the image owner put them together.
        images: Sharing the images.
        call: The computation, which is what a profile predicts.
        result: Sending the shares of the logits to the image owner.
    """

    logits: NDArray[np.float64]
    images: Transfer
    call: Call
    result: Transfer


class SecureModel:
    """A model that parties hold in shares, ready to classify.

    Args:
        input_names: Name of the images, then names of the weights.
        n_batch: Number of images in each call.
    """

    def __init__(
        self,
        session: Session,
        architecture: AnyNetwork,
        input_names: tuple[str, ...],
        preparation: Preparation,
        n_batch: int,
    ) -> None:
        self.preparation = preparation
        self._session = session
        self._image_name = input_names[0]
        self._shape, _ = network_shapes(architecture, n_batch)

    def classify(self, patches: Path) -> Answer:
        """Return the logits of the patches, (B, N - 1, P), in an image owner's file.

        Raises:
            EngineError: If a party fails, or the file holds something else.
        """
        owned = Owned(rank=IMAGE_OWNER, path=patches, shapes=(self._shape,))
        images = self._session.hold([self._image_name], owned)
        call = self._session.run(CASE)
        logits, result = self._session.reveal(CASE, IMAGE_OWNER)
        return Answer(logits=logits, images=images, call=call, result=result)


@contextmanager
def open_parties(
    checkpoint: Path,
    architecture: AnyNetwork,
    conditions: Conditions,
    *,
    n_batch: int,
    plan: Plan | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> Iterator[SecureModel]:
    """Start parties that hold the weights in shares; they end with the block.

    Args:
        checkpoint: The file of the weights, which only the model owner's processes
            read.
        plan: How the network is deployed; the model owner folds the weights first.
        on_step: Called with what is done next, in a few words.

    Of several hosts this one starts the image owner's party, and reads no weight.

    Raises:
        UsageError: If the plan is for another checkpoint.
        EngineError: If parties cannot be started, or the model owner's file is damaged.
    """
    with ExitStack() as stack:
        if conditions.parties:
            shapes = network_shapes(architecture, n_batch, plan)[1]
            owned = owned_elsewhere(MODEL_OWNER, shapes)
        else:
            weights = deployed_weights(checkpoint, architecture, plan, on_step)
            owned = stack.enter_context(weights)
        on_step("starting the parties")
        with _make_session(conditions, n_batch) as session:
            on_step("compiling the model")
            lowered = _lower(session, architecture, n_batch, plan)
            session.load(CASE, lowered)
            on_step("measuring the network")
            network, notes = _set_network(session, conditions)
            on_step("sharing the weights")
            preparation = Preparation(
                setup=session.setup,
                compile_s=lowered.compile_s,
                weights=session.hold(lowered.input_names[1:], owned),
                network=network,
                notes=notes,
            )
            yield SecureModel(
                session, architecture, lowered.input_names, preparation, n_batch
            )


def _make_session(conditions: Conditions, n_batch: int) -> Session:
    deployment = conditions.deployment
    if conditions.parties:
        hint = {"n_batch": n_batch}
        return HostedSession(deployment, conditions.parties, hint=hint)
    emulation = make_emulation(choose_emulation(conditions.emulation))
    return Session(deployment, emulation, is_traced=conditions.is_traced)


def _lower(
    session: Session, architecture: AnyNetwork, n_batch: int, plan: Plan | None
) -> Lowered:
    function, inputs = model_program(architecture, n_batch, plan)
    return session.lower(CASE, function, inputs)


def model_program(
    architecture: AnyNetwork, n_batch: int, plan: Plan | None
) -> tuple[Callable[..., object], list[NDArray[np.float32]]]:
    """Return what is compiled, from shapes alone: images and weights are zeros."""
    own, weights = network_shapes(architecture, n_batch, plan)
    zeros = [np.zeros(shape, np.float32) for shape in (own, *weights.values())]
    return model_workload(architecture, plan).function, zeros


def _set_network(
    session: Session, conditions: Conditions
) -> tuple[Network, tuple[str, ...]]:
    """Set the network; a link that is off is a note, as a label is right on any."""
    network = conditions.network
    try:
        if conditions.parties and conditions.is_network_seen:
            network = measure_link(session).network
        elif conditions.parties:
            check_real_link(session, network)
        elif not network.is_loopback:
            trim_link(session, network)
    except LinkError as error:
        return network, (str(error),)
    session.set_network(network)
    return network, ()


@contextmanager
def deployed_weights(
    checkpoint: Path,
    architecture: AnyNetwork,
    plan: Plan | None,
    on_step: Callable[[str], None],
) -> Iterator[Owned]:
    """Yield where the model owner's party finds its weights, folded if a plan says."""
    _, shapes = network_shapes(architecture, 1, plan)
    with TemporaryDirectory(prefix="mpcvit-model-owner-") as folder:  # its owner's
        if plan:
            on_step("folding the weights")
            checkpoint = fold_apart(checkpoint, plan, Path(folder))
        yield Owned(
            rank=MODEL_OWNER,
            path=checkpoint.resolve(),
            shapes=tuple(shapes.values()),
            entries=tuple(shapes),
        )
