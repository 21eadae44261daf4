"""From a float network and some images to the integer graph that the accelerator runs."""

from coprune.quantize.calibration import OBSERVERS
from coprune.quantize.quantizer import quantize

__all__ = ["OBSERVERS", "quantize"]
