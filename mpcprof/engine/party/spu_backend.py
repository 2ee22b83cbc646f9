"""SPU 0.9.5 as a party sees it: link, runtime, shares, executables."""

from typing import Any, Dict, List, Tuple

import spu
import spu.libspu as libspu
from backend import Backend

_COLOCATED = "experimental_enable_colocated_optimization"
_OWNED = b"Priv2k"  # in the type of a share that is its owner's value


def make_runtime_config(settings: Dict[str, Any]) -> Any:
    """Make SPU's RuntimeConfig of `settings` by SPU's names; enums by member name."""
    config = libspu.RuntimeConfig()
    for name, value in settings.items():
        enum = type(getattr(config, name))
        members = getattr(enum, "__members__", None)
        setattr(config, name, members[value] if members else value)
    return config


def make_compiler_options(settings: Dict[str, Any]) -> Any:
    """Make SPU's CompilerOptions of `settings` by SPU's names."""
    options = libspu.CompilerOptions()
    for name, value in settings.items():
        setattr(options, name, value)
    return options


class Spu095Backend(Backend):
    """One party's link and virtual machine."""

    LINK = libspu.link
    EXECUTABLE = libspu.Executable
    WAITS_ALONE = True  # a thread that waits for a message lets the others run

    def start_runtime(self, header: Dict[str, Any]) -> None:
        """Make the virtual machine; protocols with keys exchange them here."""
        config = make_runtime_config(header["runtime_config"])
        self._is_colocated = config.experimental_enable_colocated_optimization
        self._runtime = spu.Runtime(self.link, config)

    @staticmethod
    def compile(header: Dict[str, Any], hlo: bytes) -> bytes:
        """Compile serialised HLO, all of whose inputs are secret, to an executable."""
        options = make_compiler_options(header["options"])
        secret = [libspu.Visibility.VIS_SECRET] * len(header["input_names"])
        source = libspu.CompilationSource(libspu.SourceIRType.XLA, hlo, secret)
        executable: bytes = libspu.Executable(
            name=header["name"],
            input_names=header["input_names"],
            output_names=header["output_names"],
            code=spu.compile(source, options),
        ).SerializeToString()
        return executable

    def store(self, names: List[str], n_chunks: List[int], blobs: List[bytes]) -> None:
        """Keep this party's shares of inputs: meta and chunks of each.

        Raises:
            ValueError: If they are of a kind that this runtime is not configured for:
                SPU takes them, and its hops are not those of the deployment.
        """
        position = 0
        for name, n_own in zip(names, n_chunks):
            if _OWNED in blobs[position] and not self._is_colocated:
                raise ValueError(
                    f"shares of {name} were made with an owner, under {_COLOCATED}, "
                    "which this runtime has off: expected shares made without an owner"
                )
            end = position + 1 + n_own
            self._runtime.set_var(name, _share(blobs[position:end]))
            position = end

    def fetch(self, case: str) -> Tuple[Dict[str, Any], List[bytes]]:
        """Return this party's shares of the outputs: meta and chunks of each."""
        blobs: List[bytes] = []
        n_chunks = []
        for name in self._executables[case].output_names:
            share = self._runtime.get_var(name)
            chunks = list(share.share_chunks)
            n_chunks.append(len(chunks))
            blobs += [share.meta, *chunks]
        return {"n_chunks": n_chunks}, blobs

    @staticmethod
    def split(
        header: Dict[str, Any], arrays: List[Any]
    ) -> Tuple[Dict[str, Any], List[List[bytes]]]:
        """Share arrays: for each rank the blobs (meta, chunks); chunks per array."""
        io = _make_io(header)
        blobs: List[List[bytes]] = [[] for _ in range(header["n_parties"])]
        n_chunks = []
        for array in arrays:
            shares = io.make_shares(array, libspu.Visibility.VIS_SECRET)
            n_chunks.append(len(shares[0].share_chunks))
            for own, share in zip(blobs, shares):
                own += [share.meta, *share.share_chunks]
        return {"n_chunks": n_chunks}, blobs

    @staticmethod
    def join(header: Dict[str, Any], blobs_by_rank: List[List[bytes]]) -> Any:
        """Join the shares (meta, chunks) that the ranks hold to an array."""
        return _make_io(header).reconstruct([_share(own) for own in blobs_by_rank])


def _make_io(header: Dict[str, Any]) -> Any:
    return spu.Io(header["n_parties"], make_runtime_config(header["runtime_config"]))


def _share(blobs: List[bytes]) -> Any:
    share = libspu.Share()
    share.meta, *share.share_chunks = blobs
    return share


BACKEND = Spu095Backend
