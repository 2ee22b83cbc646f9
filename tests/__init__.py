"""The tests, laid out as the packages are; what several of them need stands here."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
PROFILES = ROOT / "profiles"
DATA = ROOT / "tests" / "data"
