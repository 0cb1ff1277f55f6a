"""torchmil as a peer: ``python benchmarks/peer_torchmil.py JOB``, by its own environment's Python.

It trains torchmil's ABMIL or TransMIL on the bags of the job and answers for the test bags. Sizes
are those of Tandem's aggregators, and so are optimizer, rate, class weights, tiles per step and
early stopping.

::

    job       system: abmil or transmil; train, validation, test: paths of bags; labels of the
              first two, 0 or 1; recipe: the numbers of `models.mil.fitting.Recipe`; seed
    answer    probabilities of class 1 of the test bags; cpu_s; epochs; package, name and version
"""

from __future__ import annotations

import copy
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from torch.nn import functional
from torchmil.models import ABMIL, TransMIL

WIDTH, INNER, DROPOUT = 256, 128, 0.25
TOKENS, HEADS, LANDMARKS = 128, 4, 32


def main(job_path: str) -> None:
    """Run the job and print the answer."""
    job = json.loads(Path(job_path).read_text())
    torch.set_num_threads(1)
    torch.manual_seed(job["seed"])
    began = time.process_time()
    bags = {part: [vectors(path) for path in job[part]] for part in ("train", "validation", "test")}
    network = build(job["system"], bags["train"][0].shape[1])
    epochs = learn(network, bags, job)
    answer = {
        "probabilities": torch.sigmoid(logits(network, bags["test"])).tolist(),
        "cpu_s": round(time.process_time() - began, 1),
        "epochs": epochs,
        "package": f"torchmil {version('torchmil')}, torch {torch.__version__}",
    }
    print(json.dumps(answer))


def vectors(path: str) -> torch.Tensor:
    """Return the vectors of a bag, (n, D)."""
    return torch.from_numpy(load_file(path)["vectors"])


def build(name: str, dimension: int) -> torch.nn.Module:
    """Return torchmil's network with the sizes of Tandem's."""
    norm = torch.nn.LayerNorm(dimension)
    if name == "transmil":
        return TransMIL(
            in_shape=(dimension,), att_dim=TOKENS, n_heads=HEADS, n_landmarks=LANDMARKS,
            feat_ext=norm, dropout=0.1,
        )  # fmt: skip
    layers = (norm, torch.nn.Linear(dimension, WIDTH), torch.nn.ReLU(), torch.nn.Dropout(DROPOUT))
    return ABMIL(
        in_shape=(dimension,), att_dim=INNER, gated=True, feat_ext=torch.nn.Sequential(*layers)
    )


def learn(
    network: torch.nn.Module, bags: dict[str, list[torch.Tensor]], job: dict[str, Any]
) -> int:
    """Train as `models.mil.fitting` does; return the number of epochs."""
    recipe = job["recipe"]
    labels = {part: torch.tensor(job["labels"][part]).float() for part in ("train", "validation")}
    positive = float(labels["train"].mean())
    weights = torch.tensor([1 / (2 * (1 - positive)), 1 / (2 * positive)])
    optimizer = torch.optim.Adam(
        network.parameters(), lr=recipe["learning_rate"], weight_decay=recipe["weight_decay"]
    )
    best, kept, state, epoch = float("inf"), -1, copy.deepcopy(network.state_dict()), 0
    for epoch in range(recipe["epochs"]):
        rng = np.random.default_rng([job["seed"], epoch])
        network.train()
        for number in rng.permutation(len(bags["train"])).tolist():
            given, most = bags["train"][number], recipe["tiles_per_step"]
            if len(given) > most:
                given = given[np.sort(rng.choice(len(given), most, replace=False))]
            said = network(given.float()[None]).reshape(1)
            label = labels["train"][number : number + 1]
            loss = weights[int(label)] * functional.binary_cross_entropy_with_logits(said, label)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        wanted = labels["validation"]
        judged = float(
            functional.binary_cross_entropy_with_logits(
                logits(network, bags["validation"]), wanted, weight=weights[wanted.long()]
            )
        )
        if judged < best:
            best, kept, state = judged, epoch, copy.deepcopy(network.state_dict())
        elif epoch + 1 >= recipe["fewest_epochs"] and epoch - kept >= recipe["patience"]:
            break
    network.load_state_dict(state)
    return epoch + 1


def logits(network: torch.nn.Module, bags: list[torch.Tensor]) -> torch.Tensor:
    """Return the logits of whole bags, (n,)."""
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(bag.float()[None]).reshape(1) for bag in bags])


if __name__ == "__main__":
    main(sys.argv[1])
