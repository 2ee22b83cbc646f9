"""Where and when something was measured."""

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path


def host_description() -> str:
    """Return processor, cores, memory and kernel; no name that identifies the host."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (
        f"{_processor()}, {os.cpu_count()} cores, {memory_bytes / 1e9:.0f} GB, "
        f"{platform.system()} {platform.release()}"
    )


def versions_text(of_parties: Mapping[str, str]) -> str:
    """Return versions as JSON text: ours, and what the parties said of theirs."""
    own = {"mpcprof": importlib.metadata.version("mpcprof")}
    own["jax"] = importlib.metadata.version("jax")
    return json.dumps({**own, **of_parties}, sort_keys=True)


def commit() -> str:
    """Return the commit of this source tree, `-dirty` if changed, or ''."""
    folder = Path(__file__).parent
    describe = ["describe", "--always", "--dirty", "--abbrev=12"]
    command = ["git", "-C", str(folder), *describe]
    # a hook's GIT_DIR is the repository of what called us
    other = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        done = subprocess.run(
            command, env=other, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def now_utc() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()
