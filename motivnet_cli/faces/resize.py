"""Pictures made smaller or larger for those who look at them: detectors, and measures of quality.

What the network sees is resized by its recipe (`faces.crop`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody reads

if TYPE_CHECKING:
    from numpy.typing import NDArray


def resized(rgb: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Bilinear with antialiasing: uint8 [rows, columns, 3]."""
    if rgb.shape[:2] == (rows, columns):
        return rgb
    image = torch.from_numpy(np.require(rgb, np.uint8, ["C", "W"])).permute(2, 0, 1)[None]  # [1, 3, H, W]
    smooth = F.interpolate(image, size=(rows, columns), mode="bilinear", align_corners=False, antialias=True)
    return smooth[0].permute(1, 2, 0).numpy()  # [rows, columns, 3]
