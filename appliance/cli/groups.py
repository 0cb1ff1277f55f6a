"""Groups of commands in which one command needs no name."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


def unless_named(default: str) -> type[TyperGroup]:
    """Return a group in which ``tandem GROUP ARGUMENTS`` means ``tandem GROUP default ARGUMENTS``
    where the first argument names no command of the group."""

    class _UnlessNamed(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            """Insert `default` before arguments that name no command."""
            if args and args[0] not in (*self.commands, "--help"):
                args = [default, *args]
            return super().parse_args(ctx, args)

    return _UnlessNamed
