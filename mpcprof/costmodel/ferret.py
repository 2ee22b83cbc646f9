"""Ferret: correlated oblivious transfers (COTs) made in rounds of ten million.

A round spends COTs of the one before on `t` puncturable trees of `2**depth` leaves, and
makes `n` new ones from them by local work, of which it keeps what the next round needs.

Source: Yang, Weng, Lan, Zhang, Wang, "Ferret: Fast Extension for Correlated OT with
Small Communication", CCS 2020 (eprint 2020/924), semi-honest; constants
`ferret_b13` of `emp-ot/ferret/constants.h` (EMP 0.2), which SPU's Cheetah links.
"""

from typing import Final, NamedTuple

_BLOCK_BYTES: Final = 16


class Ferret(NamedTuple):
    """Parameters of a round, and what it costs.

    Attributes:
        n: COTs that a round makes.
        t: Trees, each of which hides one error.
        k: COTs that seed the local work of the next round.
        depth: Levels of a tree; each takes a COT.
    """

    n: int = 10_485_760
    t: int = 1_280
    k: int = 452_000
    depth: int = 13

    @property
    def n_usable(self) -> int:
        """COTs of a round that the next one does not need."""
        return self.n - self.t * self.depth - self.k - 128

    @property
    def sender_bytes(self) -> int:
        """Bytes from the sender: two blocks a level of each tree, and one a tree."""
        return self.t * (2 * self.depth + 1) * _BLOCK_BYTES

    @property
    def receiver_bytes(self) -> int:
        """Bytes from the receiver: a byte for its choice at each level of each tree."""
        return self.t * self.depth

    @property
    def hops(self) -> int:
        """Hops of a round: the choices, then the trees."""
        return 2


FERRET: Final = Ferret()
