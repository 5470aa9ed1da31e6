"""AOTInductor packages."""

import pytest
import torch

from tests.helpers.exports import CLASSES, assert_near, random_images
from transxnet import UserError, load_exported
from transxnet.deploy.export import export
from transxnet.runs.load import load_model


@pytest.mark.long
@pytest.mark.parametrize("dynamic", ["none", "batch"])
@torch.no_grad()
def test_compiled_package_gives_the_outputs_of_the_model(ours, tmp_path, console, dynamic):
    options = dict(format="pt2", dynamic=dynamic, batch=2, console=console)
    file = export(ours.path, out=tmp_path / "net.pt2", **options)
    model, exported = load_model(ours.path).model, load_exported(file)
    for count in (1, 2, 7):
        x = random_images(count, 64, 64)
        assert_near(exported(x), model(x))
    assert exported.class_names == CLASSES


def test_missing_compiler_is_an_error(theirs, tmp_path, console, monkeypatch):
    def none() -> str:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", none)
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler: No working .* Install g\+\+ or clang"):
        export(theirs.path, format="pt2", out=tmp_path / "net.pt2", console=console)
    assert not list(tmp_path.iterdir())
