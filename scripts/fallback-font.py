"""Writes crates/report/assets/fallback-glyphs.z, the bitmap glyphs of figures that Roboto does not have.

Usage: python3 scripts/fallback-font.py UNIFONT.hex UNIFONT_UPPER.otf

Needs Pillow and fonttools. The inputs are GNU Unifont 15.0.01 (Debian's packages unifont and fonts-unifont). The file is
compressed with zlib. Inside, all numbers little-endian:

    u32 number of ranges; for each, u32 first character and u32 number of characters
    a byte for each character: 1 if 16 pixels wide (else 8), plus 2 if drawn over the character before
    for each character, 16 rows from the top, one bit a pixel, most significant bit left
"""

import struct
import sys
import unicodedata
import zlib
from pathlib import Path

from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

ASSETS = Path(__file__).parent.parent / "crates/report/assets"
# Pictographs and emoji; scripts beyond the basic plane are left out.
PICTOGRAPHS = range(0x1F000, 0x1FB00)


def glyphs_of_basic_plane(path):
    for line in Path(path).read_text().splitlines():
        code, bits = line.split(":")
        yield int(code, 16), bytes.fromhex(bits)


def pictographs(path):
    known = TTFont(path).getBestCmap()
    font = ImageFont.truetype(path, 16)
    for code in PICTOGRAPHS:
        if code in known:
            image = Image.new("1", (16, 16))
            ImageDraw.Draw(image).text((0, 0), chr(code), font=font, fill=1)
            yield code, image.tobytes()


def is_wanted(code, roboto):
    # Unassigned, private, surrogate and control characters have placeholders in Unifont.
    return code not in roboto and unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs", "Cc", "Cf")


def main(basic_plane, upper_planes):
    roboto = TTFont(ASSETS / "Roboto-Regular.ttf").getBestCmap()
    glyphs = sorted([*glyphs_of_basic_plane(basic_plane), *pictographs(upper_planes)])
    glyphs = [(code, bits) for code, bits in glyphs if is_wanted(code, roboto)]
    ranges = []
    for code, _ in glyphs:
        if ranges and sum(ranges[-1]) == code:
            ranges[-1][1] += 1
        else:
            ranges.append([code, 1])
    kinds = bytes(
        (len(bits) == 32) + 2 * (unicodedata.category(chr(code)) in ("Mn", "Me")) for code, bits in glyphs
    )
    data = struct.pack("<I", len(ranges))
    data += b"".join(struct.pack("<II", *each) for each in ranges)
    data += kinds + b"".join(bits for _, bits in glyphs)
    compressed = zlib.compress(data, 9)
    (ASSETS / "fallback-glyphs.z").write_bytes(compressed)
    print(f"{len(glyphs)} glyphs in {len(ranges)} ranges, {len(compressed)} bytes")


main(*sys.argv[1:])
