"""What is taken out of a processor gives the processor's own pixels, or nothing is taken."""

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessorPil, ConvNextImageProcessorPil, SiglipImageProcessorPil, ViTImageProcessorPil

from recbole_perpeft.content.pixels import process_picture
from recbole_perpeft.content.resizing import find_resizing

CLIP = {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 18}}
SIZES = [(30, 20), (20, 30), (20, 20), (500, 7), (7, 500), (21, 20), (1, 1), (123, 457)]


def find(processor):
    return find_resizing(processor, lambda picture: process_picture(picture, processor))


@pytest.mark.parametrize("resample", list(Image.Resampling))
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (CLIPImageProcessorPil, CLIP),
        (CLIPImageProcessorPil, {**CLIP, "do_center_crop": False}),
        (SiglipImageProcessorPil, {"size": {"height": 16, "width": 12}}),
        (ViTImageProcessorPil, {"size": {"height": 33, "width": 33}}),
    ],
)
def test_equal_to_the_processor(kind: type, options: dict, resample: Image.Resampling):
    processor = kind(resample=resample, **options)
    resizing = find(processor)
    assert resizing is not None
    for seed, (width, height) in enumerate(SIZES):
        noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        direct = processor(noise, do_rescale=False, do_normalize=False, input_data_format="channels_last")
        np.testing.assert_array_equal(resizing(Image.fromarray(noise)), direct["pixel_values"][0])


class Inverting(CLIPImageProcessorPil):
    """Resizes in a way of its own."""

    def resize(self, image, size, **options):
        return 255 - super().resize(image, size, **options)


@pytest.mark.parametrize(
    "processor",
    [
        Inverting(**CLIP),
        ConvNextImageProcessorPil(size={"shortest_edge": 16}),  # enlarges before it crops
        CLIPImageProcessorPil(**CLIP | {"crop_size": {"height": 22, "width": 16}}),  # pads
        CLIPImageProcessorPil(**CLIP, do_resize=False),
        CLIPImageProcessorPil(**CLIP, do_pad=True, pad_size={"height": 40, "width": 40}),
        CLIPImageProcessorPil(size={"shortest_edge": 20, "longest_edge": 30}, do_center_crop=False),
    ],
)
def test_other_processors_are_asked_themselves(processor):
    assert find(processor) is None


def test_a_processor_that_gives_other_pixels_is_asked_itself():
    processor = CLIPImageProcessorPil(**CLIP)
    assert find_resizing(processor, lambda picture: process_picture(picture, processor) ^ 1) is None
