"""Vision Transformers with heterogeneous attention, and the supernet they come from."""

from mpcvit.models.algebra import TorchAlgebra
from mpcvit.models.patches import to_patches, to_patches_numpy
from mpcvit.models.regularization import NONE, DropPath, Regularization
from mpcvit.models.supernet import Supernet
from mpcvit.models.vit import VisionTransformer, check_weights

__all__ = [
    "NONE",
    "DropPath",
    "Regularization",
    "Supernet",
    "TorchAlgebra",
    "VisionTransformer",
    "check_weights",
    "to_patches",
    "to_patches_numpy",
]
