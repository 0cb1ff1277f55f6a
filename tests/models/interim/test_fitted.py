"""Weights of the interim reader: the command that trains them, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.interim_pairs import planted_bag, write_pairs
from typer.testing import CliRunner

from appliance.cli.main import app
from models.errors import DataSetError, ManifestError
from models.interim.fitted import load_interim
from models.interim.manifest import verify_interim
from models.interim.pairs import (
    PAIRS_NAME,
    PARTNERS,
    divided,
    load_partners,
    read_pairs,
    save_partners,
    tiles_of,
)
from models.mil.bag import Bag, load_bag, save_bag
from models.spec import CARD_NAME, MANIFEST_NAME, WEIGHTS_NAME

ENCODER = "e" * 64


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that the command trained on planted pairs."""
    folder = tmp_path_factory.mktemp("interim")
    given = ["--epochs", "6", "--rate", "6e-3", "--prompts", "8", "--data", "planted pairs"]
    pairs, out = write_pairs(folder / "pairs", 48), folder / "weights"
    done = CliRunner().invoke(
        app, ["train", "interim", "--pairs", str(pairs), "--out", str(out), *given]
    )
    assert done.exit_code == 0, done.output
    return out


def test_it_learns_a_planted_signal_and_its_card_says_of_what(weights: Path) -> None:
    spec = verify_interim(weights)
    assert spec.figures["W-AUC"] > 0.9 and spec.figures["judged_cases"] >= 12
    card = (weights / CARD_NAME).read_text()
    assert "planted pairs, 48 cases" in card and "never a" in card
    fitted = load_interim(weights)
    found = [int(fitted.answer(planted_bag(900 + k, k, ENCODER)).probabilities.argmax())
             for k in range(4)]  # fmt: skip
    assert found == [0, 1, 2, 3]


def test_any_order_of_a_bags_tiles_gives_the_same_bits(weights: Path) -> None:
    bag = planted_bag(1, 2, ENCODER)
    order = np.random.default_rng(0).permutation(len(bag))
    mixed = Bag(
        slide="mixed", encoder=ENCODER, vectors=bag.vectors[order], places=bag.places[order]
    )
    one, other = load_interim(weights).answer(bag), load_interim(weights).answer(mixed)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.attention, other.attention)


def test_what_is_damaged_or_of_another_kind_is_refused(weights: Path, tmp_path: Path) -> None:
    raw = json.loads((weights / MANIFEST_NAME).read_text())

    def refused(changed: dict[str, object], match: str) -> None:
        (tmp_path / MANIFEST_NAME).write_text(json.dumps(raw | changed))
        with pytest.raises(ManifestError, match=match):
            load_interim(tmp_path)

    (tmp_path / WEIGHTS_NAME).write_bytes((weights / WEIGHTS_NAME).read_bytes())
    refused({"version": "1.0"}, "version 1.0 .* Train them again")
    refused({"system": "abmil"}, "weights of abmil .* not of the interim reader")
    refused({"config": raw["config"] | {"heads": 7}}, "not a multiple of 7 heads")
    refused({"config": raw["config"] | {"width": 64}}, "weights do not fit the manifest")
    refused({"input": {"encoder": ENCODER, "dimension": 9}}, "contradict each other")
    (tmp_path / WEIGHTS_NAME).write_bytes(b"damaged")
    refused({}, "checksum")
    with pytest.raises(DataSetError, match="Encode both slides of every case by one encoder"):
        load_interim(weights).answer(planted_bag(1, 0, "f" * 64))


def train(pairs: Path, out: Path, *given: str) -> Any:
    command = ["train", "interim", "--pairs", str(pairs), "--out", str(out), "--epochs", "2"]
    return CliRunner().invoke(app, [*command, "--prompts", "8", *given])


def test_a_training_that_ends_with_an_error_leaves_the_weights_of_before(
    weights: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(weights, tmp_path / "weights"))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    pairs = write_pairs(tmp_path / "pairs", 48)
    held = divided(read_pairs(pairs), 0)[1]
    held[-1].he.write_bytes(b"no bag")
    refused = train(pairs, out, "--seed", "0")
    assert refused.exit_code == 1 and held[-1].he.name in str(refused.exception)
    save_bag(planted_bag(1, 0, "f" * 64), held[-1].he)
    refused = train(pairs, out, "--seed", "0")
    assert refused.exit_code == 1 and "epoch" not in refused.output
    assert str(refused.exception).startswith(f"{held[-1].he}: its tiles were encoded by ffff")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_ihc_names_parts_where_partners_are_known(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", 48)
    refused = train(pairs, tmp_path / "refused", "--part-weight", "6")
    assert refused.exit_code == 1 and "table of partners" in str(refused.exception)
    with (pairs / PAIRS_NAME).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row[PARTNERS] = f"{row['case']}.csv" if row["ihc"] else ""
        if row["ihc"]:
            places = load_bag(pairs / row["he"]).places
            save_partners(pairs / row[PARTNERS], places[:9], places[3:])
    with (pairs / PAIRS_NAME).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    refused = train(pairs, tmp_path / "refused", "--part-weight", "6", "--prompts", "0")
    assert refused.exit_code == 1 and "--prompts 256" in str(refused.exception)
    for name, weight in (("plain", "0"), ("parts", "6")):
        done = train(pairs, tmp_path / name, "--part-weight", weight)
        assert done.exit_code == 0, done.output
    weights = [(tmp_path / name / WEIGHTS_NAME).read_bytes() for name in ("plain", "parts")]
    assert weights[0] != weights[1]
    assert "part_weight 6" in (tmp_path / "parts" / CARD_NAME).read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("he_column,he_row,ihc_column\n1,1,1\n", "it needs the columns"),
        ("he_column,he_row,ihc_column,ihc_row\n1,1,one,1\n", "whole numbers"),
        ("he_column,he_row,ihc_column,ihc_row\n1,1\n", "whole numbers"),
        ("he_column,he_row,ihc_column,ihc_row\n1,1,1,1\n1,99,1,1\n", "line 3: a bag has no such"),
        ("he_column,he_row,ihc_column,ihc_row\n1,1,-1,1\n", "line 2: a bag has no such"),
        ("\0\xff", "it needs the columns"),
    ],
)
def test_a_table_of_partners_that_cannot_be_used_is_told(
    tmp_path: Path, text: str, said: str
) -> None:
    tiles = tiles_of(planted_bag(1, 0, ENCODER), ENCODER)
    table = tmp_path / "partners.csv"
    table.write_text(text, encoding="latin-1")
    with pytest.raises(DataSetError, match=said):
        load_partners(table, tiles, tiles)
    table.write_text("he_column,he_row,ihc_column,ihc_row\n1,0,2,0\n")
    assert load_partners(table, tiles, tiles).tolist() == [-1, 2, *[-1] * 10]


def test_no_patient_trains_and_judges(tmp_path: Path) -> None:
    pairs = read_pairs(write_pairs(tmp_path, 48))
    train, held = divided(pairs, seed=3)
    assert not {p.patient for p in train} & {p.patient for p in held}
    assert len(held) == pytest.approx(0.3 * 48, abs=1) and {p.label for p in held} == {0, 1, 2, 3}
    assert divided(pairs, seed=3) == (train, held) != divided(pairs, seed=4)
    with pytest.raises(DataSetError, match="9 patients"):
        divided(pairs[:9], seed=3)
    with pytest.raises(DataSetError, match=r"no case of 3\+"):
        divided([p for p in pairs if p.label < 3], seed=3)


def test_a_table_that_cannot_be_meant_is_told_with_its_line(tmp_path: Path) -> None:
    write_pairs(tmp_path, 3)
    with (tmp_path / PAIRS_NAME).open(newline="") as stream:
        head, *rows = list(csv.reader(stream))

    def refused(changed: list[list[str]], match: str) -> None:
        with (tmp_path / PAIRS_NAME).open("w", newline="") as stream:
            csv.writer(stream).writerows(changed)
        with pytest.raises(DataSetError, match=match):
            read_pairs(tmp_path)

    refused([head], "no rows")
    refused([head[:-1], rows[0][:-1]], "no column ihc")
    refused([head, rows[0], rows[0]], "line 3: case 'case 0' is there twice")
    refused([head, rows[0], [rows[1][0], "p0", *rows[1][2:]]], "patients 'P0' and 'p0' differ in")
    refused([head, [*rows[0][:2], "4+", *rows[0][3:]]], r"line 2: her2 '4\+' is none of")
    shared = [*rows[1][:3], rows[0][3], *rows[1][4:]]
    refused([head, rows[0], shared], "is named for the cases 'case 0' and 'case 1'")
    refused([head, [*rows[0][:3], "away.safetensors", ""]], "away.safetensors is missing")
    with (tmp_path / PAIRS_NAME).open("w", newline="") as stream:
        csv.writer(stream).writerows([head, rows[0], [rows[1][0], " P0 ", *rows[1][2:]]])
    assert [pair.patient for pair in read_pairs(tmp_path)] == ["P0", "P0"]
    with (tmp_path / PAIRS_NAME).open("w", newline="") as stream:  # two IHC slides of one H&E slide
        second = [rows[1][0], rows[0][1], rows[0][2], rows[0][3], *rows[1][4:]]
        csv.writer(stream).writerows([head, rows[0], second])
    assert len({pair.he for pair in read_pairs(tmp_path)}) == 1
