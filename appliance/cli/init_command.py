"""``tandem init``: the settings file of a site, and its units of systemd."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder of tandem.toml, such as /etc/tandem.")
    ] = Path(),
    scans: Annotated[
        Path, typer.Option(help="Output folder of the scanner; never written to.")
    ] = Path("/mnt/scanner"),
    state: Annotated[
        Path, typer.Option(help="Folder of ledger and results: local disk, 2 GiB for each case.")
    ] = Path("/var/lib/tandem"),
    systemd: Annotated[
        bool, typer.Option("--systemd", help="Write units for the settings in --out, too.")
    ] = False,
) -> None:
    """Write a commented tandem.toml with every setting; with --systemd units of its services.

    A tandem.toml that is there stays as it is. Run it with --systemd once more after folders,
    destinations or secrets in it have changed, and copy the units again. Nothing is installed:
    the commands that do so are printed.
    """
    from appliance.operations.site_files import write_site

    written = write_site(out_dir, scans, state, systemd=systemd)
    there = "written" if written.made_config else "was there, left as it is"
    typer.echo(f"{written.config}: {there}")
    for unit in written.units:
        typer.echo(f"{unit}: written")
    if written.commands:
        where = ", on the daemon's machine" if written.worker_commands else ""
        typer.echo(
            "\nLook through tandem.toml. If you change it, write the units again, since they open "
            f"its folders\nand hand its secrets over:\n{written.again}\n\n"
            f"Then run as root{where}:\n"
        )
        typer.echo("\n".join(f"  {line}" for line in written.commands))
        if written.worker_commands:
            typer.echo(
                "\nThe daemon is on one machine. As root, on each machine that does steps, with "
                "the state\nfolder mounted; the user tandem needs the number that it has on the "
                "daemon's machine (id -u tandem):\n"
            )
            typer.echo("\n".join(f"  {line}" for line in written.worker_commands))
        typer.echo("\nThen: tandem doctor, as the user tandem (sudo -u tandem).")
    else:
        typer.echo("Look through it, then: tandem config check, tandem doctor, tandem run.")
