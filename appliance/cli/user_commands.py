"""Commands on the users of the dashboard: ``tandem users add``, ``list``, ``role``, …"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from appliance.cli.options import ConfigOption, settings_with_logging

users_app = typer.Typer(
    no_args_is_help=True,
    help="Users who sign in to the dashboard. Roles: viewer sees; operator also puts slides right "
    "and reruns; pathologist also confirms and corrects; admin may do all.",
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name to sign in by: a.meyer.")]
RoleText = "viewer, operator, pathologist or admin."
StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, one line.")
]


@users_app.command()
def add(
    name: NameArgument,
    role: Annotated[str, typer.Option(help=RoleText)],
    person: Annotated[
        str, typer.Option(help="Name beside actions and in reports: Meyer^Anna. Default: NAME.")
    ] = "",
    password_stdin: StdinOption = False,
    config: ConfigOption = None,
) -> None:
    """Add a user; the password is asked for twice."""
    settings = settings_with_logging(config)
    from appliance.operations.users import Users, role_of

    role_of(role)  # before a password is typed
    user = Users(settings).add(name, role, person, _password(password_stdin))
    typer.echo(f"{user.name}: {user.role}, {user.person}.")


@users_app.command("list")
def list_(config: ConfigOption = None) -> None:
    """List names, roles and persons."""
    settings = settings_with_logging(config)
    from appliance.operations.users import Users

    users = Users(settings).all().values()
    for user in users:
        typer.echo(f"{user.name}\t{user.role}\t{user.person}")
    if not users:
        typer.echo("No user yet. Add one: tandem users add NAME --role pathologist")


@users_app.command()
def role(
    name: NameArgument,
    role: Annotated[str, typer.Argument(metavar="ROLE", help=RoleText)],
    config: ConfigOption = None,
) -> None:
    """Give a user another role; open sessions have it at once."""
    settings = settings_with_logging(config)
    from appliance.operations.users import Users

    Users(settings).set_role(name, role)
    typer.echo(f"{name}: {role}.")


@users_app.command()
def password(
    name: NameArgument, password_stdin: StdinOption = False, config: ConfigOption = None
) -> None:
    """Give a user another password; it is asked for twice, and ends the user's sessions."""
    settings = settings_with_logging(config)
    from appliance.operations.users import Users

    Users(settings).set_password(name, _password(password_stdin))
    typer.echo(f"{name}: another password; sign in again.")


@users_app.command()
def remove(name: NameArgument, config: ConfigOption = None) -> None:
    """Remove a user, and end the user's sessions; the record keeps the person."""
    settings = settings_with_logging(config)
    from appliance.operations.users import Users

    Users(settings).remove(name)
    typer.echo(f"{name}: removed.")


def _password(from_stdin: bool) -> str:
    if from_stdin:
        # As bytes: what is not in UTF-8 is told where passwords are checked.
        line = sys.stdin.buffer.readline()
        return line.decode("utf-8", "surrogateescape").rstrip("\r\n")
    asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return asked
