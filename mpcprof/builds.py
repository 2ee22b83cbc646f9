"""The runtimes: one frozen value per supported release, with all that they differ in.

Whatever differs between releases asks a `Build`; no other module names one. Importing
this loads no SPU: the options of a build stand here as a table, and a test holds the
table equal to the installed build.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal

from mpcprof.errors import UnknownNameError, UsageError, did_you_mean

Option = bool | int | str
# name -> SPU's default, whose type the option has; of an enum, the default stands first
OptionTable = Mapping[str, Option | tuple[str, ...]]
Dialect = Literal["hlo", "mhlo", "tensor"]

_SIGMOIDS = ("SIGMOID_DEFAULT", "SIGMOID_MM1", "SIGMOID_SEG3", "SIGMOID_REAL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A Python environment for packages that do not fit into mpcprof's own.

    Attributes:
        name: What `mpcprof runtime install` takes, such as "spu-0.3.1b0".
        python_version: Version of its Python, such as "3.8".
        packages: Pinned packages, as (name, version); none brings another one.
        built: Names of those that have no wheel and are built from their source.
        indexes: Addresses of package indexes to ask beside the usual one.
        check: Python statements that end well where the packages work.
        download_mb: Size of the packages on the line, in MB.
    """

    name: str
    python_version: str
    packages: tuple[tuple[str, str], ...]
    built: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    check: str
    download_mb: int

    @property
    def version(self) -> str:
        """Version of what the environment is for, such as "0.3.1b0"."""
        return self.name.partition("-")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One SPU release.

    Attributes:
        name: Value of `--runtime`, such as "spu-0.9.5"; profiles store it.
        protocols: Names of the protocols that mpcprof drives on this build.
        beavers: Sources of semi2k's triples; the first is SPU's default.
        beaver_problems: (source of triples, why mpcprof cannot drive it).
        has_beaver_field: Whether SPU's RuntimeConfig names the source of triples.
        program_rings: Ring widths in bits that can hold a compiled program's integers.
        fraction_bits: Fraction bits where none are asked for; 0 for SPU's own, which
            depend on the ring.
        emulations: Emulated networks that can carry its messages, the best one first.
        compiler_options: Options of SPU's compiler.
        runtime_options: Options of SPU's virtual machine.
        environment: Python environment of the build's own; None if the build lives in
            the Python of mpcprof.
        backend: Module of the party program that speaks to this build.
        dialect: Input of the compiler: serialised HLO, MHLO as text, or the tensor
            program of `mpcprof.engine.tensor_program`.
        counts_bytes: Whether the log has bytes and messages; if not, the relay counts.
        counts_paths: Whether messages can tell how deep they are, on any network.
        chunk_bytes: Size of the chunks that a long message is cut into; 0 if the sender
            never waits within a message.
        chunks_at_once: Number of chunks sent before the sender waits for an answer.
        slack: (workload or kind of workload, times its stated error that is accepted),
            where this build's approximation is worse.
        stray_share: Share of a primitive's entries that may be wrong by any amount.
        defects: (workload, why its result is wrong in every call), where it is known.
        first_call_limit_s: Seconds after which parties that have not finished their
            first program (a second or two) count as hung and are started again.
        spu: SPU release behind another program; empty where the name says it.
        has_drivers: Whether the parties are driven by a program that has a link of its
            own between them, beside SPU's.
    """

    name: str
    protocols: tuple[str, ...]
    beavers: tuple[str, ...]
    beaver_problems: tuple[tuple[str, str], ...] = ()
    has_beaver_field: bool = True
    program_rings: tuple[int, ...] = (32, 64, 128)
    fraction_bits: int = 0
    emulations: tuple[str, ...] = ("relay", "tun", "netem")
    compiler_options: OptionTable
    runtime_options: OptionTable
    environment: Environment | None = None
    backend: str
    dialect: Dialect = "hlo"
    counts_bytes: bool = True
    counts_paths: bool = False
    chunk_bytes: int = 0
    chunks_at_once: int = 0
    slack: tuple[tuple[str, float], ...] = ()
    stray_share: float = 0.0
    defects: tuple[tuple[str, str], ...] = ()
    first_call_limit_s: float = 3600.0
    spu: str = ""
    has_drivers: bool = False

    @property
    def title(self) -> str:
        """Name, and which SPU that is where the name does not say it."""
        return f"{self.name} (SPU {self.spu})" if self.spu else self.name

    @property
    def version(self) -> str:
        """Version of the release, such as "0.9.5"."""
        return self.name.partition("-")[2]

    @property
    def is_default(self) -> bool:
        """Whether commands use this build unless told otherwise."""
        return self is DEFAULT_BUILD

    @property
    def file_suffix(self) -> str:
        """End of the names of committed files, such as "-spu0.3.1b0"; or empty."""
        return "" if self.is_default else f"-{self.name.replace('-', '', 1)}"

    @property
    def has_pauses(self) -> bool:
        """Whether the sender of a long message waits for answers within it."""
        return self.chunk_bytes > 0

    def n_pauses(self, message_bytes: int) -> int:
        """Return how often the sender waits within one message; each is a round trip.

        Source: counted at the relay.
        """
        if not self.has_pauses:
            return 0
        n_chunks = -(-message_bytes // self.chunk_bytes)
        return max(n_chunks - 1, 0) // self.chunks_at_once

    def slack_of(self, workload: str, kind: str) -> float:
        """Return how many times a workload's stated error is accepted."""
        by_name = dict(self.slack)
        return by_name.get(workload, by_name.get(kind, 1.0))

    def defect_of(self, workload: str) -> str:
        """Return why the build has a workload wrong in every call; empty if not."""
        return dict(self.defects).get(workload, "")

    def stray_share_of(self, kind: str) -> float:
        """Return the share of a result's entries that may be wrong by any amount.

        0 for blocks and models, in which every later entry follows from a stray one.
        """
        return self.stray_share if kind == "primitive" else 0.0


DEFAULT_BUILD: Final = Build(
    name="spu-0.9.5",
    protocols=("semi2k", "cheetah", "aby3", "securenn"),
    beavers=("TrustedFirstParty", "TrustedThirdParty", "MultiParty"),
    beaver_problems=(
        ("TrustedThirdParty", "SPU asks for a server that cannot be named here"),
        ("MultiParty", "SPU 0.9.5 has the name, and no such triples"),
    ),
    program_rings=(64, 128),
    compiler_options=MappingProxyType(
        {
            "disable_deallocation_insertion": False,
            "disable_div_sqrt_rewrite": False,
            "disable_maxpooling_optimization": False,
            "disable_partial_sort_optimization": False,
            "disable_reduce_truncation_optimization": False,
            "disable_select_optimization": False,
            "disable_sqrt_plus_epsilon_rewrite": False,
            "disallow_mix_types_opts": False,
            "enable_optimize_denominator_with_broadcast": False,
        }
    ),
    runtime_options=MappingProxyType(
        {
            "enable_lower_accuracy_rsqrt": False,
            "experimental_disable_mmul_split": False,
            "experimental_disable_vectorization": False,
            "experimental_enable_colocated_optimization": False,
            "experimental_enable_exp_prime": False,
            "experimental_exp_prime_disable_lower_bound": False,
            "experimental_exp_prime_enable_upper_bound": False,
            "experimental_exp_prime_offset": 0,
            "fxp_div_goldschmidt_iters": 2,
            "fxp_exp_iters": 8,
            "fxp_exp_mode": ("EXP_DEFAULT", "EXP_PADE", "EXP_TAYLOR", "EXP_PRIME"),
            "fxp_log_iters": 3,
            "fxp_log_mode": ("LOG_DEFAULT", "LOG_PADE", "LOG_NEWTON", "LOG_MINMAX"),
            "fxp_log_orders": 8,
            "max_concurrency": 0,
            "public_random_seed": 0,
            "quick_sort_threshold": 32,
            "share_max_chunk_size": 134217728,
            "sigmoid_mode": _SIGMOIDS,
            "sine_cosine_iters": 10,
            "sort_method": ("SORT_DEFAULT", "SORT_RADIX", "SORT_QUICK", "SORT_NETWORK"),
            "trunc_allow_msb_error": False,
        }
    ),
    backend="spu_backend",
)
PAPER_BUILD: Final = Build(
    name="spu-0.3.1b0",
    protocols=("semi2k", "cheetah", "aby3"),
    beavers=("TrustedFirstParty",),
    has_beaver_field=False,  # one way to make triples, and no name for it
    compiler_options=MappingProxyType({}),
    runtime_options=MappingProxyType(
        {  # the messages say 0, which stands for these
            "fxp_div_goldschmidt_iters": 2,
            "fxp_exp_iters": 8,
            "fxp_exp_mode": ("EXP_DEFAULT", "EXP_PADE", "EXP_TAYLOR"),
            "fxp_log_iters": 3,
            "fxp_log_mode": ("LOG_DEFAULT", "LOG_PADE", "LOG_NEWTON"),
            "fxp_log_orders": 8,
            "public_random_seed": 0,
            "sigmoid_mode": _SIGMOIDS,
        }
    ),
    environment=Environment(
        name="spu-0.3.1b0",
        python_version="3.8",
        # The part of SPU's requirements that a party loads. The rest (JAX, its
        # compiler, gRPC) is for tracing and for a scheduler; the tool's own JAX traces.
        # SPU pins protobuf 3.19.4, which reads the same messages as this one, the last
        # below 4.
        packages=(
            ("spu", "0.3.1b0"),
            ("protobuf", "3.20.3"),
            ("numpy", "1.24.4"),
            ("cachetools", "5.5.2"),
        ),
        check="import spu; from spu.binding.api import Io; print(spu.__version__)",
        download_mb=60,
    ),
    backend="spu_0_3_1_backend",
    dialect="mhlo",
    counts_bytes=False,
    chunk_bytes=32768,
    chunks_at_once=10,
    # tanh is off by 0.012 at 5.5, and GeLU of 4 by twice that; a model, whose
    # reciprocals stray a little, by 0.04 of a logit instead of 0.03
    slack=(("gelu_tanh", 4.0), ("model", 1.5)),
    # Truncation takes no message: each share is shifted by itself, which fails for one
    # product of size x in 2**(63 - 36) / x, by orders of magnitude; gelu_tanh has about
    # 20 products
    stray_share=1e-3,
    defects=(
        ("attn.xnorm", "rsqrt of small lengths leaves it 1 to 4 % off in every call"),
    ),
    # Cheetah's first product expands keys in two threads, each over its own link and
    # under one lock: where one party's first thread holds the lock and the other's
    # second, each waits for the other for good
    first_call_limit_s=30.0,
)
NEXT_BUILD: Final = replace(
    DEFAULT_BUILD,
    name="spu-0.10.0.dev20251211",
    environment=Environment(
        name="spu-0.10.0.dev20251211",
        python_version="3.11",
        packages=(
            ("spu", "0.10.0.dev20251211"),
            ("numpy", "2.3.5"),
            ("jax", "0.8.0"),  # which `import spu` loads; the tool's own JAX traces
            ("jaxlib", "0.8.0"),
            ("ml_dtypes", "0.6.0"),
            ("opt_einsum", "3.4.0"),
            ("scipy", "1.17.1"),
            ("cachetools", "8.0.2"),
            ("cloudpickle", "3.1.3"),
            ("multiprocess", "0.70.19"),
            ("dill", "0.4.1"),
            ("termcolor", "3.3.0"),
        ),
        check="import spu; spu.libspu.link.IChannel; print(spu.__version__)",
        download_mb=185,
    ),
    backend="spu_0_10_backend",
    counts_paths=True,
)
CRYPTEN: Final = Build(
    name="crypten-0.4.1",
    protocols=("crypten",),
    beavers=("TrustedFirstParty",),
    program_rings=(64,),
    fraction_bits=16,
    emulations=("tun", "netem"),  # gloo listens on ports that nobody else chooses
    compiler_options=MappingProxyType({}),
    runtime_options=MappingProxyType(
        {
            "erf_iterations": 8,
            "exp_iterations": 8,
            "max_method": (
                *("log_reduction", "double_log_reduction"),
                *("accelerated_cascade", "pairwise"),
            ),
            "reciprocal_method": ("NR", "log"),
            "reciprocal_nr_iters": 10,
            "sigmoid_tanh_method": ("reciprocal", "chebyshev"),
            "sigmoid_tanh_terms": 32,
            "sqrt_nr_iters": 3,
            "trig_iterations": 10,
        }
    ),
    environment=Environment(
        name="crypten-0.4.1",
        python_version="3.11",
        packages=(
            ("crypten", "0.4.1"),  # `pip install crypten` stops at its sklearn
            ("torch", "2.13.0"),
            ("numpy", "2.3.5"),
            ("omegaconf", "2.3.0"),
            ("antlr4-python3-runtime", "4.9.3"),
            ("PyYAML", "6.0.4"),
            ("typing_extensions", "4.16.0"),
        ),
        built=("antlr4-python3-runtime",),
        indexes=("https://download.pytorch.org/whl/cpu",),
        check="import torch, omegaconf; print(torch.distributed.is_gloo_available())",
        download_mb=220,
    ),
    backend="crypten_backend",
    dialect="tensor",
    # rsqrt is 0.5 % off at 0.1, where its three Newton steps have not converged;
    # sigmoid by 0.0027 of 1
    slack=(("rsqrt", 8.0), ("sigmoid", 2.0)),
)
_SECRETFLOW_SPU: Final = "0.9.4.dev20250618"  # that secretflow 1.14.0b0 pins
_SECRETFLOW_PACKAGES: Final = f"""
    secretflow==1.14.0b0 spu=={_SECRETFLOW_SPU} sf-heu==0.6.0.dev20250514
    sf-sml==0.1.0.dev20250623 secretflow-serving-lib==0.10.0.dev20250414
    secretflow-dataproxy==0.5.0.dev20250416 secretflow-spec==1.1.0b0 kuscia==0.0.3b0
    jax==0.4.26 jaxlib==0.4.26 numpy==1.26.4 scipy==1.15.3 pandas==1.5.3
    pyarrow==14.0.2 duckdb==1.0.0 scikit-learn==1.5.2 sqlglot==25.5.1 grpcio==1.56.2
    protobuf==4.25.9 requests==2.32.3 aiohttp==3.14.5 aiobotocore==2.17.0
    s3fs==2024.2.0 fsspec==2024.2.0 botocore==1.35.93 multiprocess==0.70.18 dill==0.4.1
    aiohappyeyeballs==2.7.1 aioitertools==0.13.0 aiosignal==1.4.0 async-timeout==5.0.1
    attrs==26.1.0 cachetools==7.3.3 certifi==2026.10.19.post1 charset-normalizer==3.5.3
    cloudpickle==3.1.3 frozenlist==1.8.0 idna==3.20 jmespath==1.1.0 joblib==1.6.0
    ml_dtypes==0.5.4 multidict==6.9.1 opt_einsum==3.4.0 propcache==0.5.4
    python-dateutil==2.9.0.post0 pytz==2026.6 six==1.17.0 termcolor==3.3.0
    threadpoolctl==3.8.0 typing_extensions==4.16.0 urllib3==2.8.0 wrapt==1.17.3
    yarl==1.25.1
"""
# Without Ray, of which secretflow 1.14 has no part, and without sdc-apis and sdc-sdk,
# which it requires in a version that no index has, for its device of trusted hardware.
SECRETFLOW: Final = Environment(
    name="secretflow-1.14",
    python_version="3.10",
    packages=tuple(
        (name, version)
        for name, _, version in (
            pin.partition("==") for pin in _SECRETFLOW_PACKAGES.split()
        )
    ),
    check="import secretflow; print(secretflow.__version__)",
    download_mb=410,
)
SECRETFLOW_BUILD: Final = replace(
    DEFAULT_BUILD,
    name=SECRETFLOW.name,
    environment=SECRETFLOW,
    protocols=("semi2k", "cheetah", "aby3"),  # that SecretFlow's SPU device knows
    backend="secretflow_backend",
    spu=_SECRETFLOW_SPU,
    has_drivers=True,
)
# the same SPU without SecretFlow, to see what SecretFlow adds
BARE_SECRETFLOW_BUILD: Final = replace(
    DEFAULT_BUILD, name=f"spu-{_SECRETFLOW_SPU}", environment=SECRETFLOW
)
BUILDS: Final[Mapping[str, Build]] = MappingProxyType(
    {
        build.name: build
        for build in (
            *(DEFAULT_BUILD, PAPER_BUILD, NEXT_BUILD, CRYPTEN),
            *(SECRETFLOW_BUILD, BARE_SECRETFLOW_BUILD),
        )
    }
)
# of builds, and of what is no build
ENVIRONMENTS: Final[Mapping[str, Environment]] = MappingProxyType(
    {
        build.environment.name: build.environment
        for build in BUILDS.values()
        if build.environment
    }
)

_WHY_NOT = {
    "it is a field of the deployment": "beaver_type field fxp_fraction_bits protocol",
    "it is a structure, not a number or a name": "cheetah_2pc_config ttp_beaver_config",
    "it gives secrets away": "reveal_secret_condition reveal_secret_indicies",
    "it changes what SPU prints, not what it computes": """
        enable_action_trace enable_hal_profile enable_pphlo_profile enable_pphlo_trace
        enable_pretty_print enable_processor_dump enable_runtime_snapshot
        enable_type_checker pretty_print_dump_dir processor_dump_dir snapshot_dump_dir
        xla_pp_kind""",
    "SPU counts bytes wrongly when operations run in parallel": """
        experimental_enable_inter_op_par experimental_enable_intra_op_par
        experimental_inter_op_concurrency""",
}
NOT_OPTIONS: Final = MappingProxyType(  # SPU's fields that no option sets, and why
    {name: reason for reason, names in _WHY_NOT.items() for name in names.split()}
)


def get_build(name: str) -> Build:
    """Return the build of that name, or the only one that begins so.

    >>> get_build("spu-0.3").name
    'spu-0.3.1b0'

    Raises:
        UnknownNameError: If there is none.
    """
    return BUILDS[_whole_name(name, [*BUILDS])]


def get_environment(name: str) -> Environment:
    """Return the environment of that name, or the only one that begins so.

    Raises:
        UnknownNameError: If there is none.
        UsageError: If it is a build that lives in the Python of mpcprof.
    """
    whole = _whole_name(name, [*BUILDS, *ENVIRONMENTS])
    if whole not in ENVIRONMENTS:
        raise UsageError(
            f"runtime {name!r}: {whole} is in mpcprof's own Python; expected one with "
            f"an environment to install: {', '.join(ENVIRONMENTS)}"
        )
    return ENVIRONMENTS[whole]


def _whole_name(begin: str, names: Sequence[str]) -> str:
    """Return the only name of which `begin` is the whole, or all up to a - or a dot."""
    known = dict.fromkeys(names)
    meant = [name for name in known if name.startswith((f"{begin}-", f"{begin}."))]
    meant = [name for name in meant if ".dev" not in name] or meant  # a release first
    if begin in known or len(meant) != 1:
        meant = [begin]
    if meant[0] not in known:
        raise UnknownNameError(f"no runtime {begin!r}; {did_you_mean(begin, [*known])}")
    return meant[0]
