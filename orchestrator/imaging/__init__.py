"""Decoding, rendering and conversion of pictures: the only importer of pyvips and cffi.

`pool.ImagingPool` is the entry point; `recipes` defines its arguments and results. `import
orchestrator.imaging` imports only these values. libvips is loaded when the pool is imported.
"""

from orchestrator.imaging.recipes import (
    FAST_HIGHER,
    FAST_LOSSY,
    FASTEST,
    JPEG2000_LOSSLESS,
    JPEG2000_LOSSY,
    MAX_QUALITY,
    POLICIES,
    Capabilities,
    ConversionPolicy,
    Encoder,
    Probe,
    Recipe,
)

__all__ = [
    "FASTEST",
    "FAST_HIGHER",
    "FAST_LOSSY",
    "JPEG2000_LOSSLESS",
    "JPEG2000_LOSSY",
    "MAX_QUALITY",
    "POLICIES",
    "Capabilities",
    "ConversionPolicy",
    "Encoder",
    "Probe",
    "Recipe",
]
