"""The result of a search: alpha, beta, and the costs they were learnt under.

`search.json` holds the model, the space and the costs; `search.safetensors` alpha,
beta and the supernet's weights. Both are read without torch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors

from mpcprof.errors import UsageError
from mpcprof.files import replace_file
from mpcprof.nn.architecture import parse_model
from mpcprof.nn.preset import ModelPreset
from mpcvit.search.alpha.cost import SearchCost
from mpcvit.search.alpha.space import Numbers, SearchSpace
from mpcvit.search.layers.result import is_layer_search

SCHEMA_VERSION: Final = 1
SETTINGS: Final = "search.json"
TENSORS: Final = "search.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchResult:
    """A finished search.

    Attributes:
        dataset: Name of the data set.
        network: Network that the seconds are for.
        profile: Name of the file that the seconds come from.
        records_digest: Digest of that file's records.
        cost: Cost in the form of the search; `for_heads` gives the other.
        target_s: Expected seconds that were aimed at; None without a target.
        alpha: Shares in [0, 1], of the space's `alpha_shape`.
        beta: Shares in [0, 1], of the space's `beta_shape`; None where that is None.
        expected_latency_s: Seconds of the relaxed model at the end.
        accuracy: Accuracy of the supernet on the test images at the end.
    """

    model: ModelPreset
    space: SearchSpace
    dataset: str
    network: str
    profile: str
    records_digest: str
    cost: SearchCost
    target_s: float | None
    alpha: Numbers
    beta: Numbers | None
    lambda_per_s: float
    eta_per_s: float
    expected_latency_s: float
    accuracy: float
    n_epochs: int
    duration_s: float

    def __post_init__(self) -> None:
        for name, given, shape in (
            ("alpha", self.alpha, self.space.alpha_shape(self.model)),
            ("beta", self.beta, self.space.beta_shape(self.model)),
        ):
            if (None if given is None else given.shape) != shape:
                raise UsageError(
                    f"{name}: expected shape {shape} of a search by "
                    f"{self.space.granularity} and {self.space.activation}"
                )

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return all but alpha and beta, as it stands in `search.json`."""
        sizes = self.model.to_json()
        values = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("alpha", "beta")
        }
        return values | {
            "schema_version": SCHEMA_VERSION,
            "model": {"name": sizes.pop("model"), **sizes},
            "space": asdict(self.space),
            "cost": self.cost.to_json(),
        }

    def report_json(self) -> dict[str, Any]:  # Any: JSON
        """Return all of it, alpha and beta as lists."""
        beta = None if self.beta is None else self.beta.tolist()
        return self.to_json() | {"alpha": self.alpha.tolist(), "beta": beta}


def write_settings(folder: Path, result: SearchResult) -> None:
    """Write `search.json`, the last file of a search: where it is, all are."""
    text = json.dumps(result.to_json(), indent=2) + "\n"
    replace_file(folder / SETTINGS, text)


def read_result(folder: Path) -> SearchResult:
    """Return the finished search in a run's folder.

        >>> mpcvit.read_result(folder / "search").alpha.shape
        (3, 4)

    Raises:
        UsageError: If there is none, it is not finished, or it is damaged.
    """
    settings, tensors = folder / SETTINGS, folder / TENSORS
    try:
        values = json.loads(settings.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise UsageError(f"{SETTINGS} holds {values!r:.40}: expected an object")
        arrays = _read_choices(tensors)
    except FileNotFoundError as error:
        if is_layer_search(folder):
            raise UsageError(
                f"{str(folder)!r} holds a search over layers: expected one of the "
                "space mpcvit or mpcvit+"
            ) from None
        raise UsageError(
            f"{str(folder)!r} has no {Path(error.filename or TENSORS).name}: expected "
            "a folder in which `mpcvit search` has finished"
        ) from None
    except (OSError, ValueError, RecursionError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot read the search in {str(folder)!r}: {reason}; search again"
        ) from None
    if values.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(
            f"{settings}: schema_version={values.get('schema_version')!r}, expected "
            f"{SCHEMA_VERSION}"
        )
    try:
        return _parse(values, arrays)
    except UsageError as error:
        raise type(error)(f"{folder}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{settings} is damaged ({type(error).__name__}: {error}); search again"
        ) from None


def _read_choices(path: Path) -> dict[str, Numbers]:
    file: Any  # Any: the handle has no stubs
    with safetensors.safe_open(path, framework="np") as file:
        names = [name for name in ("alpha", "beta") if name in file.keys()]  # noqa: SIM118
        return {name: file.get_tensor(name).astype(np.float64) for name in names}


def _parse(values: dict[str, Any], arrays: Mapping[str, Numbers]) -> SearchResult:
    sizes = dict(values["model"])
    kept = {key: value for key, value in values.items() if key != "schema_version"}
    return SearchResult(
        **kept
        | {
            "model": parse_model({"model": sizes.pop("name"), **sizes}),
            "space": SearchSpace(**values["space"]),
            "cost": SearchCost.from_json(values["cost"]),
            "alpha": arrays["alpha"],
            "beta": arrays.get("beta"),
        }
    )
