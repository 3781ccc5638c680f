"""Pictures: the only importer of pyvips. `pool.ImagingPool` is the way in; `recipes` are the values
that go through it.

Nothing here is imported on `import orchestrator.imaging` but values, so that the serving process
stays light until a pool is made.
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
