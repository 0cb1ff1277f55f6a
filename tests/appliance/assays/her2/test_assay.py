"""Facts of the HER2 assay."""

from __future__ import annotations

import numpy as np

from appliance.assays.her2.assay import HER2_ASSAY

CLASS_COLORS = [named.color for named in HER2_ASSAY.classes]


def test_class_colors_stay_apart_for_color_blind_readers() -> None:
    # Viénot, Brettel & Mollon 1999: linear RGB as a protanope and a deuteranope see it.
    lms = np.array(
        [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]]
    )
    protan = np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]])
    deutan = np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]])
    linear = (np.array(CLASS_COLORS) / 255) ** 2.2
    for sight in (np.eye(3), protan, deutan):
        seen = linear @ (np.linalg.inv(lms) @ sight @ lms).T
        seen = np.clip(seen, 0, 1) ** (1 / 2.2)
        distance = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + np.eye(4)
        assert distance.min() > 0.25
