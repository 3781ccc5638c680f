"""The parts of SVG that a sanitised drawing may have: shapes, text, paint, filters, and animations
of them. What is not named here is removed, so a new feature of SVG is removed until it is added.
"""

from __future__ import annotations

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
XML = "http://www.w3.org/XML/1998/namespace"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ELEMENTS = _names(
    """a animate animateMotion animateTransform circle clipPath defs desc ellipse feBlend
    feColorMatrix feComponentTransfer feComposite feConvolveMatrix feDiffuseLighting
    feDisplacementMap feDistantLight feDropShadow feFlood feFuncA feFuncB feFuncG feFuncR
    feGaussianBlur feImage feMerge feMergeNode feMorphology feOffset fePointLight
    feSpecularLighting feSpotLight feTile feTurbulence filter g image line linearGradient marker
    mask mpath path pattern polygon polyline radialGradient rect set stop style svg switch symbol
    text textPath title tref tspan use view"""
)
ANIMATIONS = frozenset(("animate", "animateTransform", "set"))
"""Elements that change the attribute that `attributeName` names."""
PICTURE_ELEMENTS = frozenset(("image", "feImage"))
"""Elements that may contain a picture as a data URL."""

_PRESENTATION = _names(
    """alignment-baseline baseline-shift clip clip-path clip-rule color color-interpolation
    color-interpolation-filters color-rendering cursor direction display dominant-baseline
    enable-background fill fill-opacity fill-rule filter flood-color flood-opacity font
    font-family font-feature-settings font-kerning font-size font-size-adjust font-stretch
    font-style font-variant font-weight glyph-orientation-horizontal glyph-orientation-vertical
    image-rendering isolation kerning letter-spacing lighting-color line-height marker marker-end
    marker-mid marker-start mask mask-type mix-blend-mode opacity overflow paint-order
    pointer-events shape-rendering stop-color stop-opacity stroke stroke-dasharray
    stroke-dashoffset stroke-linecap stroke-linejoin stroke-miterlimit stroke-opacity stroke-width
    text-anchor text-decoration text-orientation text-overflow text-rendering transform
    transform-box transform-origin unicode-bidi vector-effect visibility white-space word-spacing
    writing-mode"""
)
_GEOMETRY = _names(
    """amplitude azimuth baseFrequency bias clipPathUnits cx cy d diffuseConstant divisor dx dy
    edgeMode elevation exponent filterRes filterUnits fr fx fy gradientTransform gradientUnits
    height in in2 intercept k1 k2 k3 k4 kernelMatrix kernelUnitLength lengthAdjust
    limitingConeAngle markerHeight markerUnits markerWidth maskContentUnits maskUnits method mode
    numOctaves offset operator order orient pathLength patternContentUnits patternTransform
    patternUnits points pointsAtX pointsAtY pointsAtZ preserveAlpha preserveAspectRatio
    primitiveUnits r radius refX refY result rotate rx ry scale seed side slope spacing
    specularConstant specularExponent spreadMethod startOffset stdDeviation stitchTiles
    surfaceScale tableValues targetX targetY textLength type values viewBox width x x1 x2
    xChannelSelector y y1 y2 yChannelSelector z zoomAndPan"""
)
_ANIMATION = _names(
    """accumulate additive attributeName attributeType begin by calcMode dur end fill from
    keyPoints keySplines keyTimes max min path repeatCount repeatDur restart to"""
)
_OTHER = _names(
    """baseProfile class contentStyleType id lang media requiredExtensions
    requiredFeatures role style systemLanguage tabindex version"""
)

ANIMATED = (_PRESENTATION | _GEOMETRY) - {"type"}
"""Attributes that an animation may change."""
ATTRIBUTES = _PRESENTATION | _GEOMETRY | _ANIMATION | _OTHER
XML_ATTRIBUTES = frozenset(("space", "lang"))

CSS_FUNCTIONS = _names(
    """blur brightness calc circle clamp color color-mix contrast cubic-bezier device-cmyk
    drop-shadow ellipse grayscale hsl hsla hue-rotate hwb icc-color inset invert lab lch linear
    matrix matrix3d max min not nth-child nth-last-child nth-last-of-type nth-of-type oklab oklch
    opacity path perspective polygon rect rgb rgba rotate rotate3d rotatex rotatey rotatez saturate
    scale scale3d scalex scaley scalez sepia skew skewx skewy steps translate translate3d
    translatex translatey translatez url var"""
)
"""Functions of values. `url` is allowed for parts of the drawing itself only."""
REFUSED_PROPERTIES = frozenset(("behavior", "-moz-binding"))
NESTED_RULES = frozenset(("media", "supports", "keyframes", "-webkit-keyframes"))
"""At-rules that contain rules; all other at-rules are removed."""
