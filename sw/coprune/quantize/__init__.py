"""From a float network and some images to the integer graph that the accelerator runs."""

from coprune.quantize.calibration import OBSERVERS
from coprune.quantize.error_report import LayerError, measure_errors
from coprune.quantize.quantizer import Quantization, quantize, quantize_traced

__all__ = [
    "OBSERVERS",
    "LayerError",
    "Quantization",
    "measure_errors",
    "quantize",
    "quantize_traced",
]
