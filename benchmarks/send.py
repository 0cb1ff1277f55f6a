"""Memory needed to send one large segmentation by C-STORE and by STOW-RS.

Makes an object of `--mb` MB, sends it to a peer in another process and prints the sender's peak
above the memory of its libraries. Usage: python benchmarks/send.py [--mb 200]
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from fixtures.instances import made_object
from fixtures.peer import Peer

from dicom import dicomweb, pacs
from dicom.association import PacsAddress
from dicom.dicomweb import WebAddress
from dicom.status import InstanceRef, Outcome, Verdict


class Sink(BaseHTTPRequestHandler):
    """HTTP handler that takes a STOW-RS request and discards it."""

    def do_POST(self) -> None:
        """Read the body in pieces."""
        left = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, 2**16)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


def serve(folder: Path, ports: Connection) -> None:
    """Run the peer's process until it is ended."""
    peer = Peer(folder).start()
    with HTTPServer(("127.0.0.1", 0), Sink) as web:
        ports.send((peer.port, web.server_address[1]))
        web.serve_forever()


def peak_mb() -> float:
    """Largest resident set of this process so far; ru_maxrss would include its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def send(way: str, port: int, path: Path, ref: InstanceRef, answer: Connection) -> None:
    """Run the sender's process: send one object, then answer with the peak."""
    outcomes: list[Outcome] = []
    hooks: dict[str, Any] = {
        "before": lambda _path: None,
        "after": lambda _path, outcome: outcomes.append(outcome),
    }
    before = peak_mb()
    if way == "C-STORE":
        peer = PacsAddress(host="127.0.0.1", port=port, called_aet="PEER", timeout_s=120)
        pacs.store(peer, [path], **hooks)
    else:
        address = WebAddress(url=f"http://127.0.0.1:{port}", timeout_s=120)
        dicomweb.stow(address, [(ref, path)], **hooks)
    if outcomes[0].verdict is not Verdict.STORED:
        raise SystemExit(outcomes[0].text)
    answer.send((before, peak_mb()))


def main() -> None:
    """Print a line per protocol."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=200)
    size_mb = parser.parse_args().mb
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.dcm"
        ref = made_object(path, size_bytes=size_mb * 10**6)
        ours, theirs = spawn.Pipe()
        server = spawn.Process(target=serve, args=(Path(folder) / "peer", theirs), daemon=True)
        server.start()
        for way, port in zip(("C-STORE", "STOW-RS"), ours.recv(), strict=True):
            sender = spawn.Process(target=send, args=(way, port, path, ref, theirs))
            sender.start()
            sender.join()
            before, peak = ours.recv()
            print(f"{way}, {size_mb} MB: {peak - before:.0f} MB above {before:.0f} MB of libraries")
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
