"""Rounds of correlated oblivious transfers, as SPU's Cheetah and Ferret make them.

A round spends transfers of the one before on `t` trees of `2**depth` leaves, and makes
`n` new ones from them by local work, of which it keeps what the next round needs.

Source: Yang, Weng, Lan, Zhang, Wang, "Ferret", CCS 2020 (eprint 2020/924), semi-honest;
Guo, Yang, Wang, Zhang, Xie, Liu, Zhao, "Half-Tree", EUROCRYPT 2023, for the trees. As
in `MpCotRNSend` and `GywzOtExtSend_ferret` of YACL, with the sizes of
`YaclFerretOTeAdapter` in `libspu/mpc/cheetah/ot/yacl` of SPU 0.9.5.
"""

from typing import Final, NamedTuple

_BLOCK_BYTES: Final = 16
_SEED_BYTES: Final = 19  # a block as YACL serializes it
# `InitOTState` in `libspu/mpc/cheetah/state.cc`: entries that a thread takes at least
THREAD_ENTRIES: Final = 2048
PRIMED_THREADS: Final = 4  # at most, before any call; a thread's stocks are 335 MB


class TransferRound(NamedTuple):
    """Sizes of a round, and what it costs.

    Attributes:
        n: Transfers that a round makes.
        t: Trees, each of which hides one error.
        k: Transfers that seed the local work of the next round.
        depth: Levels of a tree; each takes a transfer.
    """

    n: int = 10_485_760
    t: int = 1_280
    k: int = 452_000
    depth: int = 13

    @property
    def n_usable(self) -> int:
        """Transfers of a round that the next one does not need."""
        return self.n - self.t * self.depth - self.k

    @property
    def bytes_sent(self) -> int:
        """Bytes of the sender: a block for each level of each tree, and a seed."""
        return self.t * self.depth * _BLOCK_BYTES + _SEED_BYTES

    @property
    def hops(self) -> int:
        """Hops of a round: the receiver's choices are those of the last round."""
        return 1


TRANSFER_ROUND: Final = TransferRound()
