"""What the decoder makes of every kind of image, by value."""

from __future__ import annotations

import os
import struct
import zlib

import pytest
import torch
from PIL import Image

from foveate.data.decode import NEARLY_BLACK, PIXEL_LIMIT, UnusableImageError, decode, shorter_side

BILINEAR = Image.Resampling.BILINEAR
# 16 bits to 8: full scale to full scale, and no value lies half-way, as 257 is odd
DEEP_VALUES = torch.arange(65536, dtype=torch.int32).reshape(256, 256)
DEEP_EXPECTED = (DEEP_VALUES.double() / 257).round().to(torch.uint8)


def raw(values: torch.Tensor, kind: str, order: str = "<") -> bytes:
    flat = values.flatten().tolist()
    return struct.pack(f"{order}{len(flat)}{kind}", *flat)


def grey(pixels: torch.Tensor) -> torch.Tensor:
    assert torch.equal(pixels[0], pixels[1])
    assert torch.equal(pixels[0], pixels[2])
    return pixels[0]


def colour(pixels: torch.Tensor, row: int, column: int) -> tuple[int, ...]:
    return tuple(pixels[:, row, column].tolist())


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "big_endian.tif", "deep.pgm"])
def test_16_bit_grey_is_scaled_not_clipped(folder, name):
    if name == "deep.pgm":
        path = folder.put(name, b"P5 256 256 65535\n" + raw(DEEP_VALUES, "H", ">"))
    elif name == "big_endian.tif":
        path = folder.put(name, Image.frombytes("I;16B", (256, 256), raw(DEEP_VALUES, "H", ">")))
    else:
        path = folder.put(name, Image.frombytes("I;16", (256, 256), raw(DEEP_VALUES, "H")))
    decoded = decode(path, 256)
    assert torch.equal(grey(decoded.pixels), DEEP_EXPECTED)
    assert decoded.changes == ("16-bit grey scaled to 8 bits",)


def test_16_bit_colour_is_scaled_by_pillow(folder):
    row = b"\0" + struct.pack(">6H", 0x80FF, 0, 0xFFFF, 0x0100, 0x00FF, 0x4000)
    data = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in [
            (b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(row + row)),
            (b"IEND", b""),
        ]
    )
    pixels = decode(folder.put("a.png", b"\x89PNG\r\n\x1a\n" + data), 2).pixels
    # the high byte: at most one level away from rounding
    assert colour(pixels, 0, 0) == (128, 0, 255)
    assert colour(pixels, 1, 1) == (1, 0, 64)


def test_12_bit_values_in_16_bits_are_pointed_out(folder):
    path = folder.put("a.png", Image.frombytes("I;16", (16, 16), raw(DEEP_VALUES[:1] * 16 + 15, "H")))
    assert decode(path, 16).changes == (NEARLY_BLACK,)
    assert int(decode(path, 16).pixels.max()) == 16  # 4095 / 257


@pytest.mark.parametrize(("low", "high"), [(-1, 5), (0, 65536)])
def test_32_bit_values_without_a_scale_are_refused(folder, low, high):
    values = torch.tensor([[low, high], [0, 1]], dtype=torch.int32)
    path = folder.put("a.tif", Image.frombytes("I", (2, 2), raw(values, "i")))
    with pytest.raises(UnusableImageError, match=f"from {low} to {high}.*save it as 8 or 16 bits"):
        decode(path, 2)


@pytest.mark.parametrize(
    ("values", "expected", "change"),
    [
        ([0.0, 0.25, 0.5, 1.0], [0, 64, 128, 255], "floats of 0 to 1 to 8 bits"),
        ([0.0, 0.4, 99.6, 255.0], [0, 0, 100, 255], "floats of 0 to 255 to 8 bits"),
    ],
)
def test_floats_are_scaled_and_rounded(folder, values, expected, change):
    path = folder.put("a.tif", Image.frombytes("F", (2, 2), struct.pack("<4f", *values)))
    decoded = decode(path, 2)
    assert grey(decoded.pixels).flatten().tolist() == expected
    assert decoded.changes == (change,)


@pytest.mark.parametrize("wrong", [-0.1, 255.5, float("nan"), float("inf")])
def test_floats_without_a_scale_are_refused(folder, wrong):
    path = folder.put("a.tif", Image.frombytes("F", (2, 2), struct.pack("<4f", 0.5, 0.5, wrong, 0.5)))
    with pytest.raises(UnusableImageError, match="float values"):
        decode(path, 2)


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_cmyk(folder, name):
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    options = {"quality": 100} if name == "a.jpg" else {}
    decoded = decode(folder.put(name, image, **options), 16)
    red = torch.tensor([255, 0, 0]).reshape(3, 1, 1)
    # a plain colour at quality 100: each of the four components is off by one level at most, two after mixing
    assert (decoded.pixels.int() - red).abs().max() <= (2 if name == "a.jpg" else 0)
    assert decoded.changes == ("CMYK to RGB",)


def test_palette_and_one_bit(folder):
    palette = Image.new("P", (2, 2))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    decoded = decode(folder.put("palette.png", palette), 2)
    assert colour(decoded.pixels, 0, 0) == (10, 20, 30)
    assert colour(decoded.pixels, 0, 1) == (200, 100, 50)
    assert decoded.changes == ("palette to RGB",)

    bits = Image.new("1", (2, 2))
    bits.putpixel((1, 0), 1)
    decoded = decode(folder.put("bits.png", bits), 2)
    assert grey(decoded.pixels).tolist() == [[0, 255], [0, 0]]
    assert decoded.changes == ("1-bit to RGB",)


@pytest.mark.parametrize(
    ("image", "options", "expected"),
    [
        (Image.new("RGBA", (4, 4), (9, 8, 7, 0)), {}, (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (0, 0, 0, 128)), {}, (127, 127, 127)),  # 255 · (1 - 128 / 255)
        (Image.new("LA", (4, 4), (60, 0)), {}, (255, 255, 255)),
        (Image.new("L", (4, 4), 90).convert("P"), {"transparency": 90}, (255, 255, 255)),
        (Image.new("RGB", (4, 4), (1, 2, 3)), {"transparency": (1, 2, 3)}, (255, 255, 255)),
    ],
    ids=["hidden", "half", "grey", "palette", "colour key"],
)
def test_transparency_shows_white(folder, image, options, expected):
    decoded = decode(folder.put("a.png", image, **options), 4)
    assert colour(decoded.pixels, 1, 2) == expected
    assert decoded.changes == ("transparency laid on white",)


def test_an_opaque_alpha_channel_changes_nothing(folder):
    decoded = decode(folder.put("a.png", Image.new("RGBA", (4, 4), (9, 8, 7, 255))), 4)
    assert colour(decoded.pixels, 0, 0) == (9, 8, 7)
    assert decoded.changes == ("RGBA to RGB",)


# where EXIF says that the upright image's top left and top right corners are stored: (row, column) from 0 to 1
CORNERS = {
    1: ((0, 0), (0, 1)),
    2: ((0, 1), (0, 0)),
    3: ((1, 1), (1, 0)),
    4: ((1, 0), (1, 1)),
    5: ((0, 0), (1, 0)),
    6: ((1, 0), (0, 0)),
    7: ((1, 1), (0, 1)),
    8: ((0, 1), (1, 1)),
}


@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
@pytest.mark.parametrize("orientation", CORNERS)
def test_exif_orientation_puts_the_corners_right(folder, orientation, ending):
    stored = Image.new("RGB", (32, 32), "black")
    for (row, column), mark in zip(CORNERS[orientation], ("red", "lime"), strict=True):
        stored.paste(mark, (16 * column, 16 * row, 16 * column + 16, 16 * row + 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if ending == "jpg" else {}
    decoded = decode(folder.put(f"a.{ending}", stored, exif=exif, **options), 32)
    expected = torch.zeros(3, 32, 32, dtype=torch.int32)
    expected[0, :16, :16] = 255
    expected[1, :16, 16:] = 255
    # 16 × 16 blocks of plain colour fill whole JPEG blocks: only rounding in the colour transform is left
    assert (decoded.pixels.int() - expected).abs().max() <= (2 if ending == "jpg" else 0)
    assert decoded.changes == (("turned as EXIF says",) if orientation > 1 else ())


def test_a_turned_image_is_cropped_after_turning(folder):
    """Stored 20×60, upright 60×20 with green in the middle."""
    stored = Image.new("RGB", (20, 60))
    for index, mark in enumerate(("red", "lime", "blue")):
        stored.paste(mark, (0, 20 * index, 20, 20 * index + 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode(folder.put("a.png", stored, exif=exif), 20).pixels
    assert torch.equal(pixels, torch.tensor([0, 255, 0], dtype=torch.uint8).reshape(3, 1, 1).expand(3, 20, 20))


@pytest.mark.parametrize(("width", "height", "size"), [(60, 20, 10), (20, 60, 34), (47, 91, 47)])
def test_the_centre_square_is_that_of_the_resized_image(folder, width, height, size):
    """Sizes at which the longer side and its margins come out whole, so that both ways sample the same points."""
    image = Image.effect_noise((width, height), 90).convert("RGB")
    resized = image.resize((width * size // min(width, height), height * size // min(width, height)), BILINEAR)
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    square = resized.crop((left, top, left + size, top + size))
    expected = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).reshape(size, size, 3)
    pixels = decode(folder.put("a.png", image), size).pixels
    # the filter's weights come from positions computed in another order: the last bit of a rounded value may differ
    assert (pixels.int() - expected.permute(2, 0, 1)).abs().max() <= 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_cost_the_image(folder, encoded):
    content = encoded(Image.new("RGB", (8, 8), (10, 20, 30)), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert colour(decode(folder.put("a.png", content), 8).pixels, 0, 0) == (10, 20, 30)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP", "MPO"])
def test_the_first_of_several_frames(folder, encoded, kind):
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    options = {"lossless": True} if kind == "WEBP" else {}
    path = folder.put("a", encoded(first, kind, save_all=True, append_images=[second], **options))
    decoded = decode(path, 8)
    red = torch.tensor([255, 0, 0])
    # MPO is JPEG inside: off by rounding in its colour transform
    assert (decoded.pixels[:, 4, 4].int() - red).abs().max() <= (2 if kind == "MPO" else 0)
    assert "first of several frames taken" in decoded.changes


def test_one_pixel_becomes_a_plain_image(folder):
    decoded = decode(folder.put("a.png", Image.new("RGB", (1, 1), (1, 2, 3))), 32)
    assert torch.equal(decoded.pixels, torch.tensor([1, 2, 3], dtype=torch.uint8).reshape(3, 1, 1).expand(3, 32, 32))
    assert decoded.changes == ("enlarged to 32×32",)


def test_a_line_of_pixels_does_not_explode(folder):
    """Resizing the shorter side first would make 32 × 1,600,000 pixels of it."""
    image = Image.new("RGB", (50_001, 1), "red")
    image.putpixel((25_000, 0), (0, 0, 255))
    # sampled 1/64 from the middle of the blue pixel, so mixed with 1/64 of its neighbour: 251.0
    assert colour(decode(folder.put("a.png", image), 32).pixels, 5, 15) == (4, 0, 251)


def test_a_large_jpeg_is_reduced_as_exactly_as_it_can_be_stored(folder):
    """A ramp along x, decoded at a fraction: pixel j covers the columns 16j to 16j + 15, mean 16j + 7.5."""
    ramp = Image.linear_gradient("L").rotate(90).resize((512, 512), BILINEAR)
    means = torch.tensor([sum(ramp.getpixel((16 * j + k, 0)) for k in range(16)) / 16 for j in range(32)])
    pixels = decode(folder.put("a.jpg", ramp.convert("RGB"), quality=95), 32).pixels
    # one level of quantisation, one of rounding; the outermost pixels have nothing to mix with on one side
    assert (grey(pixels)[16, 1:-1] - means[1:-1]).abs().max() <= 2
    assert means[1] - means[30] > 200 or means[30] - means[1] > 200


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 9) + b"IDAT" + bytes(13)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", r"is empty \(0 bytes\)"),
        ("text.png", b"this is not an image at all", "is not an image that can be read here"),
        ("postscript.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image that can be read"),
        ("bomb.png", png_header(60_000, 60_000), "decompression bomb"),
        ("huge.png", png_header(10_001, 10_001), "has 10,001×10,001 pixels, more than the 100,000,000"),
    ],
    ids=["empty", "text", "postscript", "bomb", "huge"],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_headers_that_are_refused(folder, name, content, reason):
    path = folder.put(name, content)
    with pytest.raises(UnusableImageError, match=reason):
        shorter_side(path)
    with pytest.raises(UnusableImageError, match=reason):
        decode(path, 32)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_pixel_limit_is_inclusive(folder):
    assert PIXEL_LIMIT == 100_000_000
    assert shorter_side(folder.put("a.png", png_header(10_000, 10_000))) == 10_000


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP"])
def test_truncated_files_are_refused(folder, encoded, kind):
    content = encoded(Image.effect_noise((64, 64), 90).convert("RGB"), kind)
    path = folder.put("a", content[: len(content) * 2 // 3])
    with pytest.raises(UnusableImageError, match=r"is (truncated or damaged|not an image)"):
        decode(path, 32)


def test_what_is_no_file_is_refused_without_waiting(folder):
    folder.put("b.txt", b"")
    missing, circle, pipe = (folder.root / name for name in ("missing.jpg", "circle.jpg", "pipe.jpg"))
    missing.symlink_to("nowhere.jpg")
    circle.symlink_to("circle.jpg")
    os.mkfifo(pipe)
    for path, reason in [
        (missing, "is a link that leads nowhere"),
        (circle, "is a link that leads nowhere"),
        (pipe, "is not a regular file"),
        (folder.root / "gone.jpg", "cannot be found"),
    ]:
        with pytest.raises(UnusableImageError, match=reason):
            shorter_side(path)


def test_a_file_that_may_not_be_read(folder, monkeypatch, picture):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refused)  # tests may run as root, who is never refused
    with pytest.raises(UnusableImageError, match="may not be read: check its permissions"):
        decode(folder.put("a.png", picture(1)), 8)


@pytest.mark.filterwarnings("ignore::UserWarning")  # what Pillow says about damage
def test_random_damage_gives_an_image_or_a_reason(folder, encoded):
    generator = torch.Generator().manual_seed(0)
    noise = Image.effect_noise((24, 20), 90).convert("RGB")
    for kind in ("JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP", "PPM", "JPEG2000"):
        content = encoded(noise, kind)
        for _ in range(20):
            damaged = bytearray(content)
            for place in torch.randint(len(damaged), (4,), generator=generator).tolist():
                damaged[place] ^= 0xFF
            path = folder.put("a", bytes(damaged))
            try:
                assert decode(path, 16).pixels.shape == (3, 16, 16)
            except UnusableImageError as error:
                assert str(error).startswith(("is ", "has ", "claims "))
