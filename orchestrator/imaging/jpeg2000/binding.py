"""OpenJPEG (libopenjp2.so.7) through cffi: its public structures and functions, declared once.

The declarations follow openjpeg.h of OpenJPEG 2.4 to 2.5. Its structures are the same in all of
these releases. `open_library` checks the version, the size of both parameter structures and their
known default values, because a wrong layout would corrupt memory.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import cffi

from orchestrator.errors import Unsupported
from orchestrator.exception_text import describe_error

log = logging.getLogger(__name__)

SONAME = "libopenjp2.so.7"
_OLDEST = (2, 4)
"""The first release that writes packet lengths (PLT)."""
_MAX_MESSAGES = 8
_GUARD_BYTES = 4096
_UNTOUCHED = b"\xa5"
_END = 2**64 - 1
"""What a read function returns at the end: (size_t) -1."""

CODEC_J2K, CODEC_JP2 = 0, 2
_SINCE_2_5 = frozenset(("opj_decoder_set_strict_mode",))
"""Functions that OpenJPEG 2.4 does not have. It always decodes strictly."""
COLOUR_SRGB, COLOUR_GRAY = 1, 2
PROGRESSION_RPCL = 2
CODING_STYLE_PRECINCTS = 1
STREAM_WRITE, STREAM_READ = 0, 1

DECLARATIONS = """
typedef int OPJ_BOOL;
typedef struct opj_codec opj_codec_t;
typedef struct opj_stream opj_stream_t;
typedef void (*opj_msg_callback)(const char *message, void *client_data);

typedef struct {
    uint32_t resno0, compno0, layno1, resno1, compno1, layno0, precno0, precno1;
    int prg1, prg;
    char progorder[5];
    uint32_t tile;
    int32_t tx0, tx1, ty0, ty1;
    uint32_t layS, resS, compS, prcS, layE, resE, compE, prcE, txS, txE, tyS, tyE, dx, dy;
    uint32_t lay_t, res_t, comp_t, prc_t, tx0_t, ty0_t;
} opj_poc_t;

typedef struct {
    OPJ_BOOL tile_size_on;
    int cp_tx0, cp_ty0, cp_tdx, cp_tdy;
    int cp_disto_alloc, cp_fixed_alloc, cp_fixed_quality;
    int *cp_matrice;
    char *cp_comment;
    int csty;
    int prog_order;
    opj_poc_t POC[32];
    uint32_t numpocs;
    int tcp_numlayers;
    float tcp_rates[100];
    float tcp_distoratio[100];
    int numresolution;
    int cblockw_init, cblockh_init;
    int mode;
    int irreversible;
    int roi_compno, roi_shift;
    int res_spec;
    int prcw_init[33], prch_init[33];
    char infile[4096], outfile[4096];
    int index_on;
    char index[4096];
    int image_offset_x0, image_offset_y0;
    int subsampling_dx, subsampling_dy;
    int decod_format, cod_format;
    OPJ_BOOL jpwl_epc_on;
    int jpwl_hprot_MH, jpwl_hprot_TPH_tileno[16], jpwl_hprot_TPH[16];
    int jpwl_pprot_tileno[16], jpwl_pprot_packno[16], jpwl_pprot[16];
    int jpwl_sens_size, jpwl_sens_addr, jpwl_sens_range, jpwl_sens_MH;
    int jpwl_sens_TPH_tileno[16], jpwl_sens_TPH[16];
    int cp_cinema;
    int max_comp_size;
    int cp_rsiz;
    char tp_on, tp_flag, tcp_mct;
    OPJ_BOOL jpip_on;
    void *mct_data;
    int max_cs_size;
    uint16_t rsiz;
} opj_cparameters_t;

typedef struct {
    uint32_t cp_reduce, cp_layer;
    char infile[4096], outfile[4096];
    int decod_format, cod_format;
    uint32_t DA_x0, DA_x1, DA_y0, DA_y1;
    OPJ_BOOL m_verbose;
    uint32_t tile_index, nb_tile_to_decode;
    OPJ_BOOL jpwl_correct;
    int jpwl_exp_comps, jpwl_max_tiles;
    unsigned int flags;
} opj_dparameters_t;

typedef struct {
    uint32_t dx, dy, w, h, x0, y0, prec, bpp, sgnd, resno_decoded, factor;
    int32_t *data;
    uint16_t alpha;
} opj_image_comp_t;

typedef struct {
    uint32_t x0, y0, x1, y1, numcomps;
    int color_space;
    opj_image_comp_t *comps;
    unsigned char *icc_profile_buf;
    uint32_t icc_profile_len;
} opj_image_t;

typedef struct {
    uint32_t dx, dy, w, h, x0, y0, prec, bpp, sgnd;
} opj_image_cmptparm_t;

const char *opj_version(void);
OPJ_BOOL opj_set_error_handler(opj_codec_t *codec, opj_msg_callback callback, void *client_data);
void opj_destroy_codec(opj_codec_t *codec);
OPJ_BOOL opj_codec_set_threads(opj_codec_t *codec, int threads);

typedef size_t (*opj_stream_read_fn)(void *buffer, size_t count, void *user_data);
typedef int64_t (*opj_stream_skip_fn)(int64_t count, void *user_data);
typedef OPJ_BOOL (*opj_stream_seek_fn)(int64_t position, void *user_data);
typedef void (*opj_stream_free_user_data_fn)(void *user_data);
opj_stream_t *opj_stream_create(size_t buffer, OPJ_BOOL is_read);
void opj_stream_set_read_function(opj_stream_t *stream, opj_stream_read_fn function);
void opj_stream_set_skip_function(opj_stream_t *stream, opj_stream_skip_fn function);
void opj_stream_set_seek_function(opj_stream_t *stream, opj_stream_seek_fn function);
void opj_stream_set_user_data(
    opj_stream_t *stream, void *user_data, opj_stream_free_user_data_fn function);
void opj_stream_set_user_data_length(opj_stream_t *stream, uint64_t length);
opj_stream_t *opj_stream_create_file_stream(const char *path, size_t buffer, OPJ_BOOL is_read);
void opj_stream_destroy(opj_stream_t *stream);

void opj_image_destroy(opj_image_t *image);
void opj_image_data_free(void *data);
opj_image_t *opj_image_tile_create(uint32_t count, opj_image_cmptparm_t *components, int space);

opj_codec_t *opj_create_decompress(int format);
void opj_set_default_decoder_parameters(opj_dparameters_t *parameters);
OPJ_BOOL opj_setup_decoder(opj_codec_t *codec, opj_dparameters_t *parameters);
OPJ_BOOL opj_decoder_set_strict_mode(opj_codec_t *codec, OPJ_BOOL is_strict);
OPJ_BOOL opj_read_header(opj_stream_t *stream, opj_codec_t *codec, opj_image_t **image);
OPJ_BOOL opj_set_decoded_resolution_factor(opj_codec_t *codec, uint32_t reduction);
OPJ_BOOL opj_set_decode_area(
    opj_codec_t *codec, opj_image_t *image,
    int32_t left, int32_t top, int32_t right, int32_t bottom);
OPJ_BOOL opj_decode(opj_codec_t *codec, opj_stream_t *stream, opj_image_t *image);

opj_codec_t *opj_create_compress(int format);
void opj_set_default_encoder_parameters(opj_cparameters_t *parameters);
OPJ_BOOL opj_setup_encoder(opj_codec_t *codec, opj_cparameters_t *parameters, opj_image_t *image);
OPJ_BOOL opj_encoder_set_extra_options(opj_codec_t *codec, const char *const *options);
OPJ_BOOL opj_start_compress(opj_codec_t *codec, opj_image_t *image, opj_stream_t *stream);
OPJ_BOOL opj_write_tile(
    opj_codec_t *codec, uint32_t tile, unsigned char *data, uint32_t size, opj_stream_t *stream);
OPJ_BOOL opj_end_compress(opj_codec_t *codec, opj_stream_t *stream);
"""

_DECODER_DEFAULTS = {"cp_reduce": 0, "cp_layer": 0, "decod_format": -1, "cod_format": -1}
_ENCODER_DEFAULTS = {
    "tile_size_on": 0,
    "numresolution": 6,
    "cblockw_init": 64,
    "cblockh_init": 64,
    "irreversible": 0,
    "roi_compno": -1,
    "subsampling_dx": 1,
    "subsampling_dy": 1,
    "decod_format": -1,
    "cod_format": -1,
}


class CodestreamError(Exception):
    """OpenJPEG refused the codestream; the text is OpenJPEG's own and for the log only."""


class UnsupportedOpenJpeg(Exception):
    """The installed OpenJPEG does not match the declarations of this module."""


class InputSource(Protocol):
    """The bytes that OpenJPEG reads as one stream."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def read_into(self, buffer: Any) -> int:
        """Fill `buffer` with the next bytes; how many there were, 0 at the end. Raises OSError."""

    def seek(self, position: int) -> bool:
        """Set the position. False if it is outside the stream."""

    def skip(self, count: int) -> int:
        """Move on by `count` bytes, at most to the end; by how many, -1 if already there."""


class OpenJpeg:
    """The loaded library: `lib` has its functions, `ffi` its types, `version` is (2, 5)."""

    def __init__(self, ffi: cffi.FFI, lib: Any, version: tuple[int, ...]) -> None:
        """Made by `open_library`."""
        self.ffi = ffi
        self.lib = lib
        self.version = version
        self._on_error = ffi.callback("opj_msg_callback", self._record_error)
        self._read = ffi.callback("opj_stream_read_fn", self._read_input, error=_END)
        self._skip = ffi.callback("opj_stream_skip_fn", self._skip_input, error=-1)
        self._seek = ffi.callback("opj_stream_seek_fn", self._seek_input, error=0)

    def decoder_parameters(self) -> Any:
        """A new opj_dparameters_t with OpenJPEG's default values."""
        parameters = self.ffi.new("opj_dparameters_t *")
        self.lib.opj_set_default_decoder_parameters(parameters)
        return parameters

    def encoder_parameters(self) -> Any:
        """A new opj_cparameters_t with OpenJPEG's default values."""
        parameters = self.ffi.new("opj_cparameters_t *")
        self.lib.opj_set_default_encoder_parameters(parameters)
        return parameters

    def require_strict_decoding(self, codec: Any) -> None:
        """Let the decoder `codec` fail on incomplete data. OpenJPEG 2.4 always does."""
        if self.version >= (2, 5):
            self.lib.opj_decoder_set_strict_mode(codec, 1)

    def collect_errors(self, codec: Any) -> ErrorMessages:
        """The errors that OpenJPEG reports for `codec` from now on. The caller must keep the
        object as long as the codec.
        """
        texts: list[str] = []
        handle = self.ffi.new_handle(texts)
        self.lib.opj_set_error_handler(codec, self._on_error, handle)
        return ErrorMessages(texts, handle)

    def open_stream(self, source: InputSource, buffer: int) -> tuple[Any, Any]:
        """(a stream that reads `source`, a handle that must live as long as the stream). `buffer`
        is the size of OpenJPEG's buffer in bytes. Raises MemoryError.
        """
        lib, handle = self.lib, self.ffi.new_handle(source)
        stream = lib.opj_stream_create(buffer, 1)
        if not stream:
            raise MemoryError
        lib.opj_stream_set_user_data(stream, handle, self.ffi.NULL)
        lib.opj_stream_set_user_data_length(stream, source.size)
        lib.opj_stream_set_read_function(stream, self._read)
        lib.opj_stream_set_skip_function(stream, self._skip)
        lib.opj_stream_set_seek_function(stream, self._seek)
        return stream, handle

    def _record_error(self, message: Any, handle: Any) -> None:
        texts = self.ffi.from_handle(handle)
        if len(texts) < _MAX_MESSAGES:
            texts.append(self.ffi.string(message).decode(errors="replace").strip())

    def _read_input(self, buffer: Any, count: int, handle: Any) -> int:
        try:
            read = self.ffi.from_handle(handle).read_into(self.ffi.buffer(buffer, count))
        except (OSError, EOFError):  # OpenJPEG then reports that the data ends
            return _END
        return int(read) or _END

    def _skip_input(self, count: int, handle: Any) -> int:
        return int(self.ffi.from_handle(handle).skip(count))

    def _seek_input(self, position: int, handle: Any) -> int:
        return int(self.ffi.from_handle(handle).seek(position))


@dataclass(frozen=True, slots=True)
class ErrorMessages:
    """The first errors that OpenJPEG reported for one codec."""

    texts: list[str]
    handle: Any
    """Keeps `texts` alive for OpenJPEG. It refers to the list and not to this object, so that no
    reference cycle delays the release of a codec.
    """

    def check(self, result: Any) -> None:
        """Raises CodestreamError if `result`, which an OpenJPEG function returned, is false or
        NULL.
        """
        if not result:
            raise CodestreamError("; ".join(self.texts) or "OpenJPEG failed without a message")


def require() -> OpenJpeg:
    """The installed OpenJPEG. Raises Unsupported if there is none."""
    openjpeg = load()
    if openjpeg is None:
        raise Unsupported(
            "JPEG2000 files are not supported by this server, because it has no OpenJPEG. "
            "Install libopenjp2 2.4 or later, or convert the file to TIFF."
        )
    return openjpeg


@cache
def load() -> OpenJpeg | None:
    """The installed OpenJPEG, loaded once for the process. None if it is missing or unsupported:
    then JPEG2000 is neither read nor written.
    """
    try:
        return open_library(SONAME)
    except OSError:
        return None
    except UnsupportedOpenJpeg as error:
        log.warning("openjpeg not used", extra={"reason": describe_error(error)})
        return None


def open_library(name: str, declarations: str = DECLARATIONS) -> OpenJpeg:
    """OpenJPEG from the shared library `name` (a soname or a path).

    Raises OSError if it cannot be loaded, UnsupportedOpenJpeg if it fails a check.
    """
    ffi = cffi.FFI()
    ffi.cdef(declarations)
    lib = ffi.dlopen(name)
    _check_functions(lib)
    version = ffi.string(lib.opj_version()).decode()
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if not _OLDEST <= numbers < (3,):
        raise UnsupportedOpenJpeg(f"OpenJPEG {version} is not supported. Install 2.4 or later 2.x.")
    checks = (
        ("opj_dparameters_t", lib.opj_set_default_decoder_parameters, _DECODER_DEFAULTS),
        ("opj_cparameters_t", lib.opj_set_default_encoder_parameters, _ENCODER_DEFAULTS),
    )
    for structure, set_defaults, defaults in checks:
        _check_layout(ffi, f"{structure} of OpenJPEG {version}", structure, set_defaults, defaults)
    return OpenJpeg(ffi, lib, numbers)


def _check_functions(lib: Any) -> None:
    """Look up every declared function now. cffi looks up a function only when it is first used."""
    try:
        for name in dir(lib):
            if name not in _SINCE_2_5:
                getattr(lib, name)
    except AttributeError as error:
        raise UnsupportedOpenJpeg(f"OpenJPEG lacks a function: {error}") from error


def _check_layout(
    ffi: cffi.FFI, title: str, structure: str, set_defaults: Any, defaults: dict[str, int]
) -> None:
    """Compare a structure with what the library writes.

    The library clears the whole structure before it sets default values. So the last byte that
    changes in a larger buffer shows the size that the library was compiled with.
    """
    declared = ffi.sizeof(structure)
    buffer = bytearray(_UNTOUCHED * (declared + _GUARD_BYTES))
    parameters = ffi.cast(f"{structure} *", ffi.from_buffer(buffer))
    set_defaults(parameters)
    size = len(buffer.rstrip(_UNTOUCHED))
    if size != declared:
        raise UnsupportedOpenJpeg(f"{title} has {size} bytes, {declared} are expected.")
    for name, expected in defaults.items():
        value = getattr(parameters, name)
        if value != expected:
            raise UnsupportedOpenJpeg(
                f"{title} has the default {name} = {value}, {expected} is expected."
            )
