"""Parts that the destinations on the network share: TLS, proof by several ways, errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from appliance.delivery.destinations.contract import After, Answer, Before, Instance, Proof
from appliance.errors import DestinationRejectedError, DestinationUnavailableError
from appliance.settings.network import Network, WithSecret
from appliance.settings.secrets import handed_over
from appliance.settings.tls import OverTls
from dicom import dicomweb
from dicom.dicomweb import Secret, WebAddress
from dicom.errors import (
    ConnectionLostError,
    ObjectError,
    PacsRejectedError,
    PacsUnavailableError,
)
from dicom.result import Result, read_result
from dicom.status import MAX_LOST, Failed, Found, InstanceRef, Outcome, Said, Verdict
from dicom.tls import TlsFiles

Ask = Callable[[Sequence[InstanceRef]], Mapping[str, Said]]
"""Way of proof: returns, by SOP Instance UID, whether an instance is there; a text where the peer
answers neither. UIDs that the peer gives no answer on are left out."""
IN_ANOTHER_STUDY = "it has it in another study: compare patient and accession of its copy"
PROOFS: dict[Said, Proof] = {
    True: Proof.THERE,
    False: Proof.ABSENT,
    Found.ELSEWHERE: Proof.ELSEWHERE,
}


def tls_files(section: OverTls) -> TlsFiles:
    """Return the TLS files of a section of the settings."""
    return TlsFiles(
        ca=section.ca_file,
        certificate=handed_over(section.certificate),
        key=handed_over(section.key),
    )


def secret_of(section: WithSecret) -> Secret | None:
    """Return where the secret of a section is read; None where it names none."""
    if not section.has_secret:
        return None
    return Secret(file=handed_over(section.secret_file), variable=section.secret_env)


def web_address(section: WithSecret, url: str) -> WebAddress:
    """Return the web address of a section of the settings; `url` is the service's base."""
    return WebAddress(
        url=url,
        timeout_s=section.timeout_seconds,
        tls=tls_files(section),
        user=section.user,
        secret=secret_of(section),
        mib_s=section.bandwidth_mib_s if isinstance(section, Network) else None,
    )


def by_query(address: WebAddress) -> Ask:
    """Return the way of proof that queries QIDO-RS."""

    return partial(dicomweb.find_instances, address)


def prove_by(
    ways: Mapping[str, Ask], name: str, instances: Sequence[Instance]
) -> dict[str, Answer]:
    """Ask the ways in order, each for the instances that those before gave no answer on.

    `ways` are named for people, `name` is the destination's. An instance that no way answers is
    `Proof.FAILED` where a question about it failed, else `Proof.UNKNOWN`.

    Raises
    ------
    DestinationUnavailableError
        If no instance was answered and at least one way could not be reached.
    """
    left = [instance.ref for instance in instances]
    answers: dict[str, Answer] = {}
    troubles: list[str] = []
    unavailable, failed = False, set[str]()
    for way, ask in ways.items():
        try:
            said = ask(left)
        except (PacsUnavailableError, PacsRejectedError) as err:
            unavailable |= isinstance(err, PacsUnavailableError)
            troubles.append(str(err))
            continue
        words = {uid: there for uid, there in said.items() if not isinstance(there, str)}
        for uid, there in words.items():
            where = f": {IN_ANOTHER_STUDY}" if there is Found.ELSEWHERE else ""
            answers[uid] = Answer(PROOFS[there], f"by {way}{where}")
        failed |= {uid for uid, text in said.items() if isinstance(text, Failed)}
        left = [ref for ref in left if ref.sop_instance_uid not in words]
        if not left:
            return answers
        reasons = {text for text in said.values() if isinstance(text, str)}
        troubles += sorted(reasons) or [f"no word yet by {way}"]
    if unavailable and not answers:
        raise DestinationUnavailableError(f"'{name}': {'; '.join(troubles)}")
    why = f"{'; '.join(troubles)}. It is asked again."
    uids = [ref.sop_instance_uid for ref in left]
    proofs = {uid: Proof.FAILED if uid in failed else Proof.UNKNOWN for uid in uids}
    return answers | {uid: Answer(proof, why) for uid, proof in proofs.items()}


@dataclass(slots=True)
class LostInARow:
    """Connections to a destination that were lost in a row; any answer ends the row.

    The destination is away once several reports lost theirs: a report that alone is lost again and
    again may be what ends them, and is given up as others are.
    """

    times: int = 0
    reports: set[str] = field(default_factory=set)  # SOP Instance UIDs


def send_results(
    name: str,
    instances: Sequence[Instance],
    before: Before,
    after: After,
    send: Callable[[Result], Outcome],
    lost: LostInARow | None = None,
) -> None:
    """Send the result in each report by `send`, in order; `name` is the destination's.

    A report that is none, or whose result `send` refuses by ObjectError, is refused for good.
    `lost` is kept by a destination whose proof does not show that the system behind it is away.

    Raises
    ------
    DestinationUnavailableError
        If `send` raises PacsUnavailableError, or loses those of `MAX_LOST` reports in a row.
    """
    lost = lost or LostInARow()
    for instance in instances:
        try:
            result = read_result(instance.path)
        except ObjectError as err:
            after(instance, Outcome(verdict=Verdict.NEVER, text=str(err)))
            continue
        before(instance)
        with translated(name):
            try:
                outcome, lost.times = send(result), 0
                lost.reports.clear()
            except ConnectionLostError as err:
                lost.times += 1
                lost.reports.add(instance.ref.sop_instance_uid)
                if len(lost.reports) >= MAX_LOST:
                    raise PacsUnavailableError(f"{err}, {lost.times} times in a row") from err
                outcome = Outcome(verdict=Verdict.LATER, text=str(err))
            except ObjectError as err:
                outcome = Outcome(verdict=Verdict.NEVER, text=str(err))
        after(instance, outcome)


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Raise the errors of the wire as errors of the destination `name`.

    Raises
    ------
    DestinationUnavailableError, DestinationRejectedError
    """
    try:
        yield
    except PacsUnavailableError as err:
        raise DestinationUnavailableError(f"'{name}': {err}") from err
    except PacsRejectedError as err:
        raise DestinationRejectedError(f"'{name}': {err}") from err
