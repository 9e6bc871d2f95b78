"""A build: what is tested, and how it is called."""

import dataclasses

import pytest
from simulator import image_hash, make_image

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image.build import APP, Build, load


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "blinky.signed.bin"
    path.write_bytes(make_image("1.2.3"))
    return path


def test_a_signed_bin_is_a_build_of_one_image(path):
    build = load(path)
    assert list(build.images) == [APP]
    assert build.image is build.images[APP]
    assert build.image.data == path.read_bytes()
    assert build.hash == image_hash(path.read_bytes())
    assert build.version == "1.2.3"
    assert build.config == {}
    assert build.path == path


@pytest.mark.parametrize(
    ("file", "name"),
    [("app.signed.bin", "app"), ("app.bin", "app"), ("app-1.2.bin", "app-1.2"), ("app", "app"), (".bin", ".bin")],
)
def test_it_is_named_by_its_file(path, file, name):
    assert load(path.rename(path.with_name(file))).name == name


def test_or_as_it_was_told(path):
    build = load(path, "release")
    assert build.name == "release"
    assert str(build) == f"release 1.2.3 ({build.hash.hex()[:12]})"


def test_a_directory_is_refused_with_advice(tmp_path):
    with pytest.raises(ImageError, match=r"is a directory; give the signed .bin in it, such as zephyr/zephyr.signed"):
        load(tmp_path)


def test_a_file_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"\x7fELF" + bytes(100))
    with pytest.raises(ImageError, match=r"x\.bin"):
        load(tmp_path / "x.bin")
    with pytest.raises(ImageError, match=r"none\.bin"):
        load(tmp_path / "none.bin")


def test_the_application_stands_for_a_build_of_several_images(path):
    app = load(path).image
    path.write_bytes(make_image("9.9.9"))
    net = load(path).image
    several = Build("all", path, {"net": net, APP: app})
    assert several.image is app
    assert several.version == "1.2.3"
    assert Build("net", path, {"net": net}).image is net, "the only image"
    with pytest.raises(ImageError, match=r"build 'none' .* holds net, other and no application image"):
        _ = Build("none", path, {"net": net, "other": net}).image


def test_a_build_does_not_change(path):
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(path).name = "other"
