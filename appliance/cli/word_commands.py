"""Commands of a person's word: ``set``, ``pair``, ``unpair``, ``exclude``, ``keep``, ``retry``."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli.options import ConfigOption, settings_with_logging

SlideArgument = Annotated[
    str, typer.Argument(metavar="SLIDE", help="slide-3, 3, or the path of its file.")
]
CaseArgument = Annotated[str, typer.Argument(metavar="CASE", help="case-1 or 1, see status.")]
AnyArgument = Annotated[
    str, typer.Argument(metavar="SLIDE|CASE", help="slide-3, 3, a path, or case-1.")
]
ByOption = Annotated[str, typer.Option("--by", help="Who says so.")]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, for the record.")]
_BYTES = "from tandem status --json. Another one is refused."
SeenOption = Annotated[
    str, typer.Option("--seen", metavar="BYTES", help=f"The slide as you looked at it, {_BYTES}")
]


def set_(
    slide: SlideArgument,
    by: ByOption,
    why: WhyOption,
    accession: Annotated[str, typer.Option(help="Its accession.")] = "",
    block: Annotated[str, typer.Option(help="Its tissue block, such as A1.")] = "",
    stain: Annotated[str, typer.Option(help="The code of its stain, such as HE.")] = "",
    organ: Annotated[str, typer.Option(help="The organ, which chooses the guideline.")] = "",
    specimen: Annotated[str, typer.Option(help="resection or biopsy.")] = "",
    seen: SeenOption = "",
    config: ConfigOption = None,
) -> None:
    """Say whose slide it is, at any state; reports that were delivered are corrected."""
    settings = settings_with_logging(config)
    from appliance.operations.audited import Word
    from appliance.operations.word import SlideWords, say_slide

    words = SlideWords(
        accession=accession, block=block, stain=stain, organ=organ, specimen=specimen
    )
    typer.echo(say_slide(settings, slide, words, Word(by=by, why=why), seen=seen))


def pair(
    he: Annotated[str, typer.Argument(metavar="HE", help="The H&E slide: slide-3, 3 or a path.")],
    ihc: Annotated[str, typer.Argument(metavar="IHC", help="The other slide of the pair.")],
    by: ByOption,
    why: WhyOption,
    seen_he: Annotated[
        str, typer.Option(metavar="BYTES", help=f"The H&E slide as you looked at it, {_BYTES}")
    ] = "",
    seen_ihc: Annotated[
        str, typer.Option(metavar="BYTES", help=f"The other slide as you looked at it, {_BYTES}")
    ] = "",
    config: ConfigOption = None,
) -> None:
    """Say that two slides are a pair, whatever their names are."""
    settings = settings_with_logging(config)
    from appliance.operations.audited import Word
    from appliance.operations.word import pair_slides

    typer.echo(pair_slides(settings, he, ihc, Word(by=by, why=why), seen=(seen_he, seen_ihc)))


def unpair(case: CaseArgument, by: ByOption, why: WhyOption, config: ConfigOption = None) -> None:
    """Say that the two slides of a case do not belong together; the case is held."""
    settings = settings_with_logging(config)
    from appliance.operations.audited import Word
    from appliance.operations.word import unpair_case

    typer.echo(unpair_case(settings, case, Word(by=by, why=why)))


def exclude(
    slide: SlideArgument,
    by: ByOption,
    why: WhyOption,
    seen: SeenOption = "",
    config: ConfigOption = None,
) -> None:
    """Leave a slide out of every case."""
    settings = settings_with_logging(config)
    from appliance.operations.audited import Word
    from appliance.operations.word import exclude_slide

    typer.echo(exclude_slide(settings, slide, Word(by=by, why=why), seen=seen))


def keep(
    subject: AnyArgument,
    by: ByOption,
    why: WhyOption,
    seen: Annotated[
        str,
        typer.Option(
            metavar="BYTES|HELD",
            help=f"The slide as you looked at it, or what held the case, {_BYTES}",
        ),
    ] = "",
    config: ConfigOption = None,
) -> None:
    """Keep a slide before other scans of it, or let a held case go on."""
    settings = settings_with_logging(config)
    from appliance.operations.audited import Word
    from appliance.operations.word import keep as keep_subject

    typer.echo(keep_subject(settings, subject, Word(by=by, why=why), seen=seen))


def retry(subject: AnyArgument, by: ByOption, why: WhyOption, config: ConfigOption = None) -> None:
    """Try a slide or case again, at any state."""
    settings = settings_with_logging(config)
    from appliance.operations.audited import Word
    from appliance.operations.retry_word import retry as retry_subject

    typer.echo(retry_subject(settings, subject, Word(by=by, why=why)))
