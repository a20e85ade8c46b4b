"""Decoding: every trap keeps its picture or gets its reason."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from convclinic.data import decode as d
from convclinic.data.quiet import quiet


def saved(image: Image.Image, fmt: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + chunk(b"IEND", b"")
    )


def test_plain_pixels_pass_unchanged(photo):
    image = photo(0)
    decoded = d.decode(saved(image, "PNG"), None, name="a.png")
    assert np.array_equal(decoded.image, np.asarray(image))
    assert (decoded.height, decoded.width, decoded.traits) == (24, 32, 0)


@pytest.mark.parametrize("shape", [(8, 10, 3), (48, 64, 3), (24, 32, 1)])
@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "WEBP"])
def test_resizing_keeps_the_whole_picture(photo, shape, fmt):
    decoded = d.decode(saved(photo(1), fmt, quality=95), shape, name=f"a.{fmt.lower()}")
    wanted = (
        photo(1)
        .convert("L" if shape[2] == 1 else "RGB")
        .resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    )
    assert decoded.image.shape == shape and decoded.image.dtype == np.uint8
    assert (decoded.height, decoded.width) == (24, 32)
    assert np.abs(decoded.image.squeeze() - np.asarray(wanted).astype(float)).mean() < 12


def test_sixteen_bits_keep_their_gray_levels():
    ramp = np.linspace(0, 4095, 64 * 64).astype(np.uint16).reshape(64, 64)
    for fmt, name in (("PNG", "a.png"), ("TIFF", "a.tif")):
        decoded = d.decode(saved(Image.fromarray(ramp), fmt), (64, 64, 1), name=name, deep_max=4095)
        assert len(np.unique(decoded.image)) > 200
        assert decoded.image.max() == 255 and np.median(decoded.image) == pytest.approx(127, abs=2)
        assert decoded.traits == d.GRAY | d.DEEP16


def test_values_deeper_than_the_survey_saw_are_not_clipped():
    ramp = np.linspace(0, 60000, 4096).astype(np.uint16).reshape(64, 64)
    decoded = d.decode(saved(Image.fromarray(ramp), "PNG"), (64, 64, 1), name="a.png", deep_max=4095)
    assert (decoded.image == 255).mean() < 0.01 and len(np.unique(decoded.image)) > 200


def test_sixteen_bit_colour_is_told():
    raw = b"".join(b"\0" + b"\x80\x00\x40\x00\x20\x00" * 4 for _ in range(4))
    head = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    )
    decoded = d.decode(png, None, name="a.png")
    assert decoded.traits & d.DEEP16
    assert decoded.image[0, 0].tolist() == [128, 64, 32]


@pytest.mark.parametrize("scale", [1.0, 700.0])
def test_float_tiff(scale):
    ramp = (np.linspace(0, 1, 400).reshape(20, 20) * scale).astype(np.float32)
    decoded = d.decode(saved(Image.fromarray(ramp), "TIFF"), None, name="a.tiff")
    assert decoded.traits & d.FLOAT
    assert decoded.image[0, 0, 0] == 0 and decoded.image[-1, -1, 0] == 255


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "TIFF"])
def test_exif_rotation_is_applied(photo, orientation, fmt):
    upright = photo(3, 40, 64)
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that stores it turned
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = saved(stored, fmt, exif=exif, **({"quality": 95} if fmt == "JPEG" else {}))
    for shape in (None, (40, 64, 3), (10, 16, 3)):
        decoded = d.decode(raw, shape, name=f"a.{fmt.lower()}")
        assert (decoded.height, decoded.width) == (40, 64)
        small = upright if shape is None else upright.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
        assert np.abs(decoded.image - np.asarray(small).astype(float)).mean() < 8
        assert bool(decoded.traits & d.EXIF_ROTATED) == (orientation > 1)


def test_transparent_parts_become_white(photo):
    image = photo(4).convert("RGBA")
    image.putalpha(Image.fromarray(np.repeat(np.array([[0], [255]], np.uint8), 12, 0).repeat(32, 1)))
    decoded = d.decode(saved(image, "PNG"), None, name="a.png")
    assert (decoded.image[:12] == 255).all() and (decoded.image[12:] == np.asarray(photo(4))[12:]).all()
    assert decoded.traits == d.ALPHA


def test_palettes_with_and_without_transparency(photo):
    image = photo(5).quantize(32)
    decoded = d.decode(saved(image, "PNG"), None, name="a.png")
    assert decoded.traits == d.PALETTE
    assert np.array_equal(decoded.image, np.asarray(image.convert("RGB")))
    clear = d.decode(saved(image, "PNG", transparency=image.getpixel((0, 0))), None, name="a.png")
    assert clear.traits == d.PALETTE | d.ALPHA and clear.image[0, 0].tolist() == [255, 255, 255]


def test_cmyk(photo):
    decoded = d.decode(saved(photo(6).convert("CMYK"), "JPEG", quality=95), (24, 32, 3), name="a.jpg")
    assert decoded.traits == d.CMYK
    assert np.abs(decoded.image - np.asarray(photo(6)).astype(float)).mean() < 10


def test_gray_pixels_in_a_colour_file_are_gray(photo):
    gray = photo(7).convert("L")
    assert d.decode(saved(gray.convert("RGB"), "PNG"), None, name="a.png").traits == d.GRAY
    decoded = d.decode(saved(gray, "PNG"), None, name="a.png")
    assert decoded.image.shape == (24, 32, 1) and decoded.traits == d.GRAY


def test_of_an_animation_the_first_frame_is_taken(photo):
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "green")]
    raw = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    decoded = d.decode(raw, None, name="a.gif")
    assert decoded.traits & d.ANIMATED and decoded.image[4, 4].tolist() == [255, 0, 0]


def test_wrong_extension_is_told(photo):
    assert d.decode(saved(photo(8), "PNG"), None, name="x/a.JPG").traits == d.WRONG_EXTENSION
    assert d.decode(saved(photo(8), "JPEG"), None, name="x/a.JPEG").traits == 0


def broken_files(photo):
    jpeg, png = saved(photo(9, 200, 200), "JPEG"), saved(photo(9, 200, 200), "PNG")
    yield b"", "a.jpg", d.EMPTY
    yield b"this is a text\n" * 30, "a.jpg", d.NOT_AN_IMAGE
    yield jpeg[: len(jpeg) // 2], "a.jpg", d.TRUNCATED
    yield jpeg[:40], "a.jpg", d.TRUNCATED
    yield jpeg[: len(jpeg) // 2] + b"\0" * (len(jpeg) // 2), "a.jpg", d.TRUNCATED
    yield png[: len(png) // 2], "a.png", d.TRUNCATED
    yield huge_png(50_000, 50_000), "a.png", d.TOO_LARGE
    yield b"\0\0\0\x18ftypheic" + b"\0" * 50, "a.heic", d.UNREADABLE


def test_broken_files_get_their_reason_and_no_warning_leaks(photo):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for raw, name, reason in broken_files(photo):
            with pytest.raises(d.Unreadable) as caught:
                d.decode(raw, (32, 32, 3), name=name)
            assert caught.value.reason == reason, (name, raw[:8])


def test_between_pillows_limit_and_ours_nothing_warns_and_state_is_restored():
    before = (Image.MAX_IMAGE_PIXELS, list(warnings.filters))
    assert d.header(huge_png(14_000, 14_000))[:2] == (14_000, 14_000)
    with quiet, quiet:
        assert before[0] != Image.MAX_IMAGE_PIXELS
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
def test_arrays(channels):
    values = np.random.default_rng(0).integers(0, 256, (7, 9, *channels)).astype(np.uint8)
    decoded = d.decode(values, None, name="train/0")
    if channels in ((), (1,)):
        assert np.array_equal(decoded.image[:, :, 0], values.reshape(7, 9)) and decoded.traits == d.GRAY
    elif channels == (3,):
        assert np.array_equal(decoded.image, values)
    else:
        assert decoded.image.shape == (7, 9, 3) and decoded.traits == d.ALPHA


def test_header_needs_no_pixels(photo):
    jpeg = saved(photo(10, 60, 80), "JPEG")
    assert d.header(jpeg[: len(jpeg) - 200]) == (60, 80, "RGB")
    assert d.header(np.zeros((4, 5), np.uint16)) == (4, 5, "I;16")


def test_decoding_is_deterministic(photo):
    raw = saved(photo(11, 130, 170), "JPEG")
    first, second = (d.decode(raw, (33, 47, 3), name="a.jpg").image for _ in range(2))
    assert np.array_equal(first, second)
