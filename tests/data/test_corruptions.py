"""foveate-C: each corruption against SciPy, scikit-image, Pillow or its definition; strengths; wrapped splits."""

from __future__ import annotations

import io
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from skimage import data as photos
from skimage.transform import downscale_local_mean

from foveate.data import Corrupted, corrupt, fashion_mnist, scene_boxes, scene_masks
from foveate.data.chance import between, generator
from foveate.data.corruptions import CORRUPTIONS, FAMILIES, STRENGTHS
from foveate.data.corruptions.weather import HAZE, MUD, WHITE
from foveate.errors import DataError, OptionError

# a Fourier transform of float32 is off by about 1e-6 of the largest value: far less than half a level of 256
ROUNDING = 1e-4


def photo(side: int = 64, number: int = 0) -> torch.Tensor:
    """A piece of scikit-image's astronaut, uint8."""
    top = 40 * number
    return torch.from_numpy(photos.astronaut()[top : top + 4 * side : 4, 100 : 100 + 4 * side : 4].copy()).movedim(
        -1, 0
    )


def changed(name: str, image: torch.Tensor, amount: float, *key: int) -> np.ndarray:
    return CORRUPTIONS[name].change(image, amount, generator("test", *key)).numpy()


def flat(value: float, side: int = 200) -> torch.Tensor:
    return torch.full((3, side, side), value)


def test_gaussian_blur_is_scipys():
    image = photo().float() / 255
    expected = ndimage.gaussian_filter(image.numpy(), (0, 1.7, 1.7), mode="nearest", truncate=6)
    # four deviations instead of six: beyond lies 1.3e-4 of the mass of both axes, of values up to 1
    assert np.abs(changed("gaussian_blur", image, 1.7) - expected).max() < 1.3e-4 + ROUNDING


def test_defocus_is_the_mean_over_a_disc():
    image = photo().float() / 255
    rows, columns = np.mgrid[-4:5, -4:5]
    disc = np.clip(3.2 + 0.5 - np.sqrt(rows**2 + columns**2), 0, 1)
    expected = [ndimage.correlate(channel, disc / disc.sum(), mode="nearest") for channel in image.double().numpy()]
    assert np.abs(changed("defocus_blur", image, 3.2) - np.stack(expected)).max() < ROUNDING


def test_motion_is_the_mean_along_a_line():
    image = photo().float() / 255
    angle = between(0, math.pi, generator("test", 5))
    points = np.linspace(-4.5, 4.5, 2001)
    steps = [(point * math.sin(angle), point * math.cos(angle)) for point in points]
    channel = image[0].double().numpy()
    seen = np.mean([ndimage.shift(channel, step, order=1, mode="nearest") for step in steps], 0)
    # 41 points of 9 pixels instead of 2001: the trapezoidal rule without its ends, off by half a step at each, 1/41
    assert np.abs(changed("motion_blur", image, 9.0, 5)[0] - seen).max() < 1 / 41


def test_zoom_is_the_mean_of_views_about_the_centre():
    image = photo(32).float() / 255
    middle, total = 15.5, np.zeros((32, 32))
    rows, columns = np.mgrid[:32, :32]
    for power in np.linspace(-1, 1, 16):
        zoom = 1.3**power
        where = [(rows - middle) * zoom + middle, (columns - middle) * zoom + middle]
        total += ndimage.map_coordinates(image[1].double().numpy(), where, order=1, mode="nearest") / 16
    assert np.abs(changed("zoom_blur", image, 0.3)[1] - total).max() < ROUNDING


@pytest.mark.parametrize("name", ["gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur"])
def test_blurs_are_centred(name):
    """What lies in the middle stays there: masks and boxes stay true."""
    point = torch.zeros(1, 33, 33)
    point[0, 16, 16] = 1
    for key in range(5):
        spread = CORRUPTIONS[name].change(point, CORRUPTIONS[name].amount(5, 33), generator("test", key))[0]
        centre = torch.tensor(ndimage.center_of_mass(spread.double().clamp(min=0).numpy()))
        assert torch.allclose(centre, torch.tensor([16.0, 16.0], dtype=centre.dtype), atol=0.01)


@pytest.mark.parametrize(
    ("name", "amount", "expected"),
    [("gaussian_noise", 0.1, 0.1), ("shot_noise", 0.1, 0.1 * 0.5**0.5), ("speckle_noise", 0.2, 0.2 * 0.5)],
)
def test_deviation_of_noise_on_grey(name, amount, expected):
    noise = changed(name, flat(0.5), amount) - 0.5
    # of 120,000 values: the mean is off by 0.0029 deviations, the deviation by 0.2 %; five times that once in 10^6
    assert abs(noise.mean()) < 5 * 0.0029 * expected
    assert noise.std() == pytest.approx(expected, rel=5 * 0.0021)


def test_noise_of_light_leaves_black_alone():
    for name in ("shot_noise", "speckle_noise"):
        assert not changed(name, flat(0.0), 0.2).any()


def test_share_of_impulses():
    values = changed("impulse_noise", flat(0.5), 0.1)
    # binomial of 120,000: deviation 0.00087 for the share of both, 0.00063 for one
    assert (values != 0.5).mean() == pytest.approx(0.1, abs=5 * 0.00087)
    assert (values == 0).mean() == pytest.approx(0.05, abs=5 * 0.00063)
    assert set(np.unique(values)) == {0.0, 0.5, 1.0}


def test_fog_is_light_lost_and_light_added():
    """One transmittance for both: recovered from black, it says what became of white."""
    dark, bright = (changed("fog", flat(value, 64), 0.8, 1) for value in (0.0, 1.0))
    through = 1 - dark / HAZE
    assert np.abs(bright - (through + HAZE * (1 - through))).max() < 1e-6
    # clouds multiply the depth by up to e and divide it by as much
    assert math.exp(-0.8 * math.e) - 1e-6 <= through.min() < through.max() <= math.exp(-0.8 / math.e) + 1e-6
    assert np.ptp(through) > 0.1


@pytest.mark.parametrize(("name", "colour"), [("snow", (WHITE,) * 3), ("spatter", MUD)])
@pytest.mark.parametrize("share", [0.02, 0.3])
def test_share_covered(name, colour, share):
    values = changed(name, flat(0.5, 100), share)
    cover = (values[2] - 0.5) / (colour[2] - 0.5)
    # a quantile of 10,000 values: up to one more or less
    assert (cover >= 0.5).mean() == pytest.approx(share, abs=1.5e-4)
    for channel, tone in zip(values, colour, strict=True):
        assert np.abs(channel - (0.5 + cover * (tone - 0.5))).max() < 1e-6


def test_mud_on_one_channel_is_as_dark_as_in_colour():
    grey = CORRUPTIONS["spatter"].change(torch.full((1, 64, 64), 1.0), 0.3, generator("test"))
    luma = 0.299 * MUD[0] + 0.587 * MUD[1] + 0.114 * MUD[2]
    assert float(grey.min()) == pytest.approx(luma, abs=1e-6)


def test_snow_falls():
    """Flakes are drawn out downwards: neighbours below are more alike than those beside."""
    down, beside = 0.0, 0.0
    for key in range(10):
        cover = changed("snow", torch.zeros(1, 96, 96), 0.1, key)[0]
        down += np.corrcoef(cover[:-4].ravel(), cover[4:].ravel())[0, 1]
        beside += np.corrcoef(cover[:, :-4].ravel(), cover[:, 4:].ravel())[0, 1]
    assert down > beside + 1


def test_brightness_contrast_quantise():
    image = photo().float() / 255
    numbers = image.double().numpy()
    # one rounding of float32 each, of values up to 2
    assert np.abs(changed("brightness", image, 0.3) - (numbers + 0.3)).max() < 2**-22
    assert np.abs(changed("contrast", image, 0.4) - (0.4 * numbers + 0.6 * numbers.mean())).max() < 1e-6
    levels = np.unique(changed("quantise", image, 4.0))
    assert np.allclose(levels, [0, 1 / 3, 2 / 3, 1])
    assert np.abs(changed("quantise", image, 4.0) - numbers).max() <= 1 / 6 + 1e-6


def test_pixelate_is_scikit_images_local_mean():
    image = photo().float() / 255
    small = downscale_local_mean(image.double().numpy(), (1, 4, 4))
    assert np.abs(changed("pixelate", image, 0.25) - small.repeat(4, 1).repeat(4, 2)).max() < 1e-6


def test_pixelate_averages_parts_of_pixels():
    image = photo(32).float() / 255
    fine = image.double().numpy().repeat(30, 1).repeat(30, 2)  # 30 cells of 32 parts each way, as 32 pixels of 30
    small = downscale_local_mean(fine, (1, 32, 32))
    nearest = np.floor((np.arange(32) + 0.5) * 30 / 32).astype(int)
    assert np.abs(changed("pixelate", image, 0.94) - small[:, nearest][:, :, nearest]).max() < 1e-6


@pytest.mark.parametrize(("factor", "quality"), [(0.4, 80), (1.0, 50), (2.0, 25), (5.0, 10)])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows(factor, quality, channels):
    image = photo()[:channels]
    with io.BytesIO() as file:
        Image.fromarray(image.movedim(0, -1).squeeze(-1).numpy()).save(file, "JPEG", quality=quality)
        expected = np.asarray(Image.open(file)).reshape(64, 64, channels)
    found = changed("jpeg", image.float() / 255, factor) * 255
    assert np.array_equal(found.round().astype(np.uint8), expected.transpose(2, 0, 1))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_stronger_is_farther_from_the_image(name):
    images = [photo(64, number) for number in range(3)]
    distances = [
        sum(
            float((corrupt(one, name, strength, generator("c", n)).float() - one.float()).square().mean())
            for n, one in enumerate(images)
        )
        for strength in STRENGTHS
    ]
    assert distances == sorted(distances)
    assert distances[0] > 0


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_strengths_are_in_order_at_every_size(name):
    one = CORRUPTIONS[name]
    sign = 1 if one.small[4] > one.small[0] else -1
    for side in range(8, 1300):
        amounts = [one.amount(strength, side) for strength in STRENGTHS]
        amounts = [round(amount) for amount in amounts] if name == "quantise" else amounts
        assert all(sign * a < sign * b for a, b in itertools.pairwise(amounts)), side
    assert [one.amount(s, 32) for s in STRENGTHS] == pytest.approx(one.small)
    assert [one.amount(s, 224) for s in STRENGTHS] == pytest.approx(one.large)
    assert one.amount(3, 225) == pytest.approx(one.amount(3, 224), rel=0.01)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (3, 9, 31), (1, 50, 12)])
def test_any_size_from_eight_pixels(shape):
    image = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator("image"))
    before = image.clone()
    state = torch.get_rng_state()
    for name in CORRUPTIONS:
        for strength in (1, 5):
            found = corrupt(image, name, strength, generator("corruption", 0))
            again = corrupt(image, name, strength, generator("corruption", 0))
            assert found.shape == image.shape
            assert found.dtype == torch.uint8
            assert torch.equal(found, again)
            # a share of 0.0065 of 64 values may be none
            assert (name, strength) == ("impulse_noise", 1) or not torch.equal(found, image), name
    assert torch.equal(image, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_layout_in_memory_does_not_matter():
    image = photo(32)
    turned = image.movedim(0, -1).contiguous().movedim(-1, 0)
    for name in CORRUPTIONS:
        assert torch.equal(*(corrupt(one, name, 3, generator("c")) for one in (image, turned)))


def test_families_have_all_names_once():
    assert sorted(name for names in FAMILIES.values() for name in names) == sorted(CORRUPTIONS)
    assert {family: len(names) for family, names in FAMILIES.items()} == dict.fromkeys(FAMILIES, 4)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(3, 32, 32), "float32: intensities of scans and volumes have no common scale"),
        (torch.zeros(2, 32, 32, dtype=torch.uint8), r"the shape \(2, 32, 32\)"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), r"the shape \(1, 3, 32, 32\)"),
        (torch.zeros(3, 7, 32, dtype=torch.uint8), "a side of 7 pixels, fewer than 8"),
        (np.zeros((3, 32, 32), np.uint8), "is a ndarray"),
    ],
)
def test_what_is_no_image_is_refused(image, words):
    with pytest.raises(DataError, match=words):
        corrupt(image, "fog", 1, generator("c"))


def test_names_and_strengths_are_checked():
    image = photo(32)
    with pytest.raises(OptionError, match="did you mean 'gaussian_noise'"):
        corrupt(image, "gausian_noise", 1, generator("c"))
    for strength in (0, 6, 2.0, True):
        with pytest.raises(OptionError, match="strength must be one of 1, 2, 3, 4, 5"):
            corrupt(image, "fog", strength, generator("c"))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="seed"):
        Corrupted(fashion_mnist().test, "fog", 1, seed=-1)


def test_only_images_change():
    masks, boxes, images = scene_masks().test, scene_boxes().test, fashion_mnist().test
    for name in ("motion_blur", "spatter"):
        pixels, mask = Corrupted(masks, name, 4)[3]
        assert torch.equal(mask, masks[3][1])
        assert not torch.equal(pixels, masks[3][0])
        pixels, things = Corrupted(boxes, name, 4)[3]
        assert all(torch.equal(a, b) for a, b in zip(things, boxes[3][1], strict=True))
        assert not torch.equal(pixels, boxes[3][0])
    wrapped = Corrupted(images, "fog", 2)
    assert wrapped.names is images.names
    assert torch.equal(wrapped.labels, images.labels)
    assert [label for _, label in wrapped] == images.labels.tolist()
    assert Corrupted(boxes, "fog", 2).sizes is boxes.sizes
    assert not hasattr(wrapped, "take")  # of the split within: it would give images that are not corrupted


def test_a_draw_is_of_seed_place_name_and_strength():
    images = fashion_mnist().test
    split = Corrupted(images, "gaussian_noise", 3, seed=4)
    key = ("corruption", 4, 7, "gaussian_noise", 3)
    assert torch.equal(split[7][0], corrupt(images[7][0], "gaussian_noise", 3, generator(*key)))
    assert torch.equal(split[-1][0], split[499][0])
    assert torch.equal(pickle.loads(pickle.dumps(split))[7][0], split[7][0])
    others = [Corrupted(images, "gaussian_noise", 3, seed=5), Corrupted(images, "gaussian_noise", 2, seed=4)]
    noise = [one[7][0].float() - images[7][0].float() for one in (split, *others)]
    noise.append(split[8][0].float() - images[8][0].float())
    for a in range(4):
        for b in range(a):
            # of 784 independent values: a correlation of 0.036; five times that once in 10^6
            assert abs(np.corrcoef(noise[a].flatten(), noise[b].flatten())[0, 1]) < 0.25


def test_volumes_are_refused_when_they_are_wrapped():
    class Volumes:
        names = ("a.nii",)

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return torch.zeros(1, 16, 16, 16), 0

    with pytest.raises(DataError, match=r"a.nii is of float32: intensities of scans and volumes"):
        Corrupted(Volumes(), "fog", 1)


def test_what_is_not_there_is_an_index_error():
    with pytest.raises(IndexError):
        Corrupted(fashion_mnist().test, "fog", 1)[500]
