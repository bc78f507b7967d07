"""Packing and unpacking: what the page draws is what the function computed."""

import json

import numpy as np
import plotly.graph_objects as go
import pytest

from llmbook.figures import FigureError, curves
from llmbook.figures.payload import pack, plain, unpack


def frame(**arrays):
    return {"data": [{"type": "scatter", **arrays}], "layout": {"meta": {"alt": "a"}}}


def through_json(frames):
    """Pack, write as strict JSON, read back, unpack."""
    names = [f"k={i}" for i in range(len(frames))]
    return unpack(json.loads(json.dumps(pack(frames, names), allow_nan=False)))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_quantisation_stays_within_a_ten_thousandth_of_each_frames_own_range(scale):
    """Catches one step size for all frames: the frame with the smallest range would lose its digits."""
    rng = np.random.default_rng(0)
    frames = [frame(y=rng.normal(size=(7, 9)) * scale * 10.0**-i + 5) for i in range(5)]
    for before, after in zip(frames, through_json(frames), strict=True):
        y, back = before["data"][0]["y"], after["data"][0]["y"]
        assert np.abs(y - back).max() <= 1e-4 * np.ptp(y)


@pytest.mark.parametrize(
    "values",
    [
        np.array([3, 255, 0]),
        np.array([-70000, 2**31 - 1, 5]),
        np.array([1e300, -1e300, 2.5e299]),
        np.array([0.25] * 9),
        np.array([np.nan] * 3),
    ],
)
def test_integers_constants_and_extremes_come_back(values):
    """Catches overflow of a narrow type, division by a zero range, and an all-missing array."""
    (back,) = through_json([frame(y=values)])
    np.testing.assert_allclose(
        back["data"][0]["y"], values, rtol=1e-4 if values.max() > 1e9 and values.dtype == float else 0
    )


def test_missing_values_and_infinities_keep_their_places():
    """Catches NaN swallowing the range, and a masked score of −inf shown as a number."""
    holes = np.array([0.1, np.nan, 0.9, 0.4])
    ends = np.array([0.1, -np.inf, 0.9, np.inf])
    back = through_json([frame(x=holes, y=ends)])[0]["data"][0]
    np.testing.assert_allclose(back["x"], holes, atol=1e-5)
    np.testing.assert_allclose(back["y"], ends, rtol=1e-6)


def test_smooth_curves_survive_the_difference_coding():
    """Catches a running sum that does not wrap at 2¹⁶: long curves would drift."""
    x = np.linspace(0, 60, 5000)
    frames = [frame(y=np.sin(x * k)) for k in (1, 2)]
    packed = pack(frames, ["a", "b"])
    assert packed["arrays"][0]["d"] == 1
    for before, after in zip(frames, unpack(packed), strict=True):
        assert np.abs(before["data"][0]["y"] - after["data"][0]["y"]).max() < 2e-4


def test_logarithmic_axes_keep_small_values():
    """Catches 16-bit steps on a log axis: 1e-6 beside 1e3 would become 0, which a log axis cannot show."""
    y = np.geomspace(1e-6, 1e3, 30)
    (back,) = through_json([plain(curves({"y": (np.arange(1.0, 31), y)}, alt="a", log_y=True))])
    np.testing.assert_allclose(back["data"][0]["y"], y, rtol=1e-6)


def test_equal_arrays_are_stored_once():
    """Catches a payload that grows with the frames although nothing changes."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=400)
    one = len(pack([frame(y=z)], ["a"])["blob"])
    many = pack([frame(y=z, x=z)] * 50, ["a"] * 50)
    assert len(many["arrays"]) == 1
    assert len(many["blob"]) == one


def test_texts_are_exact_and_only_what_varies_is_listed():
    """Catches text going through a number, and constant values repeated for each frame."""
    frames = [
        {"data": [{"text": ["a", "<b>", "三"], "name": f"n{i}"}], "layout": {"title": {"text": "t"}}} for i in range(3)
    ]
    packed = pack(frames, list("abc"))
    assert [path for path, *_ in packed["vary"]] == [["data", 0, "name"]]
    assert unpack(packed) == frames


def test_plotly_arrays_in_base64_are_read():
    """Catches plotly ≥ 6's packed arrays, two-dimensional ones above all, kept as opaque text."""
    z = np.arange(6, dtype=np.float32).reshape(2, 3)
    back = plain(go.Figure(go.Heatmap(z=z)))["data"][0]["z"]
    np.testing.assert_array_equal(back, z)


def test_frames_that_differ_in_shape_name_both_parameters():
    """Catches frames of another size, which the page would draw into the wrong cells."""
    frames = [frame(y=np.zeros(9)), frame(y=np.zeros(10))]
    with pytest.raises(FigureError, match=r"data\[0\]\.y is \[9\] at k=1 but \[10\] at k=2"):
        pack(frames, ["k=1", "k=2"])


def test_frames_that_differ_in_keys_name_the_key():
    """Catches a trace that only some frames have."""
    frames = [frame(y=np.zeros(9)), frame(y=np.zeros(9), name="late")]
    with pytest.raises(FigureError, match=r"data\[0\]\.name is present at k=2 but not at k=1"):
        pack(frames, ["k=1", "k=2"])


def test_an_array_in_some_frames_only_is_refused():
    """Catches a value that is None in one frame and an array in another."""
    with pytest.raises(FigureError, match=r"data\[0\]\.y is numbers at k=1 but not at k=2"):
        pack([frame(y=np.zeros(9)), frame(y=None)], ["k=1", "k=2"])
