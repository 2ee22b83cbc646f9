"""Coefficients in the profile that they were fitted to."""

import json

from mpcprof.costmodel.heldout import fit_cost_model
from mpcprof.costmodel.model import MODEL_VERSION, CostModel
from mpcprof.costmodel.observations import digest, primitive_records
from mpcprof.errors import ProfileError
from mpcprof.profile.record import Profile

_KEY = "cost_model"


def attach(profile: Profile, model: CostModel) -> Profile:
    """`profile` with the coefficients of `model` in its extras.

    Raises:
        ProfileError: If the model was fitted to other records.
    """
    if model.records_digest != digest(primitive_records(profile)):
        raise ProfileError(
            "the cost model was fitted to other records than this profile's; "
            "fit it anew with `mpcprof fit PROFILE --save`"
        )
    extras = {**json.loads(profile.extra), _KEY: json.loads(model.to_json())}
    return Profile(
        deployment=profile.deployment,
        records=profile.records,
        extra=json.dumps(extras),
    )


def load_cost_model(profile: Profile) -> CostModel:
    """The stored model if it is of exactly these records, else one fitted now.

    Raises:
        MissingEntryError: If there is no record of a primitive.
        ProfileError: If the stored one is of these records and damaged.
    """
    stored = json.loads(profile.extra).get(_KEY)
    if isinstance(stored, dict):
        is_of_these = stored.get("records_digest") == digest(primitive_records(profile))
        if is_of_these and stored.get("version") == MODEL_VERSION:
            return CostModel.from_json(json.dumps(stored), profile)
    return fit_cost_model(profile)
