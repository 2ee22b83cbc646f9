"""What the shell may complete: names that a command knows, beside the user's files.

click makes the scripts themselves: see docs/commands.md. Nothing heavy is imported
until somebody presses the key.
"""

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

Offer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def offering(*places: str, has_files: bool = False) -> Offer:
    """Return what completes an option by names.

    Args:
        places: Where the names stand, as `mpcprof.network:NETWORKS`.
        has_files: Whether a file may be given as well.
    """

    def offer(
        ctx: click.Context, parameter: click.Parameter, typed: str
    ) -> list[CompletionItem]:
        names = sorted(name for place in places for name in _names(place))
        items = [CompletionItem(typed, type="file")] if has_files else []
        return items + [CompletionItem(n) for n in names if n.startswith(typed)]

    return offer


def offer_profiles(
    ctx: click.Context, parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Return the packaged profiles and those of this folder, and any file."""
    from mpcprof.profile.io import packaged_names

    names = [*packaged_names(), *sorted(path.name for path in Path().glob("*.parquet"))]
    items = [CompletionItem(name) for name in names if name.startswith(typed)]
    return [CompletionItem(typed, type="file"), *items]


def _names(place: str) -> Iterable[str]:
    module, _, attribute = place.partition(":")
    names: Iterable[str] = getattr(importlib.import_module(module), attribute)
    return names
