"""torch without parts that a service does not read, in fresh interpreters: whoever asks for one has it."""

from importlib.metadata import version

import pytest

from recbole_perpeft.utils.late_torch import TRIED
from tests.interpreter import in_a_fresh_interpreter

tried = pytest.mark.skipif(not version("torch").startswith(TRIED), reason="a torch that stays whole")
LIGHT = (
    "from recbole_perpeft.utils.late_torch import import_torch_for_serving, know_shapes\nimport_torch_for_serving()\n"
)
# of each part that is left out, a module
PARTS = {
    "torch._decomp": "decompositions",
    "torch._prims": "rng_prims",
    "torch._refs": "linalg",
    "torch.distributions": "normal",
    "torch.export": "exported_program",
    "torch.masked": "maskedtensor",
    "torch.profiler": "profiler",
    "torch.quantization": "observer",
}
USES = {
    "draws from generators": "torch.randperm(9, generator=torch.Generator().manual_seed(3)).tolist()",
    "broadcasting in Python": "torch.broadcast_shapes((2, 1), (3,))",
    "a distribution": "torch.distributions.Normal(0.0, 2.0).log_prob(torch.ones(2)).tolist()",
    "a quantization": "torch.quantization.get_default_qconfig().activation().dtype",
    "a profile": "len(torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]).activities)",
    "an export": "torch.export.export(torch.nn.ReLU(), (torch.ones(2),)).graph",
    "a compiled function": "torch.compile(lambda x: x.sin() * 2, backend='aot_eager')(torch.ones(3)).tolist()",
    "gradients": "torch.autograd.functional.hessian(lambda x: (x**3).sum(), torch.ones(2)).tolist()",
}


def test_a_torch_of_another_version_is_left_alone():
    code = """
import sys
from recbole_perpeft.utils import late_torch
late_torch.TRIED = "0."
late_torch.import_torch_for_serving()
print("torch" in sys.modules, any(type(finder).__name__ == "_FirstThingsFirst" for finder in sys.meta_path))
"""
    assert in_a_fresh_interpreter(code) == "False False"


@tried
def test_parts_that_are_left_out_are_imported_when_something_is_read_of_them():
    code = f"""{LIGHT}
import sys
import torch
parts = {PARTS!r}
imported = lambda: [part for part, module in parts.items() if f"{{part}}.{{module}}" in sys.modules]
found = [torch.linspace(0, 1, 3).softmax(0).argmax().item(), imported(), torch.broadcast_shapes((2, 1), (3,))]
found.append(imported() == [part for part in parts if "._" in part])
from torch.distributions import Normal
found.append(torch.distributions.Normal is Normal and torch.distributions is sys.modules["torch.distributions"])
print(found)
"""
    assert in_a_fresh_interpreter(code) == "[2, [], torch.Size([2, 3]), True, True]"


@tried
@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    ["torch._decomp", "torch._prims", "torch._prims.rng_prims", "torch._refs", "torch._refs.linalg",
     "torch.utils._content_store", "torch._dynamo"],
)  # fmt: skip
def test_parts_of_compilers_are_whole_whichever_is_imported_first(first):
    code = f"""{LIGHT}
import importlib, sys
import torch
module = importlib.import_module({first!r})
print(module is sys.modules[{first!r}], module.__spec__.loader.name, torch._refs is sys.modules["torch._refs"])
print(torch.linalg.qr(torch.empty(4, 6, device="meta")).R.shape)
"""
    assert in_a_fresh_interpreter(code).splitlines() == [f"True {first} True", "torch.Size([4, 6])"]


def test_shapes_without_values_are_as_ever_once_they_are_to_be_known():
    code = """
import torch
x = torch.empty(4, 6, device="meta")
print(torch.linalg.qr(x).R.shape, torch.nn.functional.grid_sample(x[None, None], x.new_empty(1, 2, 2, 2)).shape)
"""
    expected = in_a_fresh_interpreter(code)
    assert expected == "torch.Size([4, 6]) torch.Size([1, 1, 2, 2])"
    assert in_a_fresh_interpreter(f"{LIGHT}know_shapes()\n{code}") == expected


@tried
@pytest.mark.slow
@pytest.mark.parametrize("use", USES)
def test_whoever_uses_a_part_has_it(use):
    code = f"import torch\nprint({USES[use]})"
    assert in_a_fresh_interpreter(LIGHT + code) == in_a_fresh_interpreter(code)


def test_a_torch_that_is_there_already_stays_whole():
    code = f"import torch\nparts = torch._refs, torch.export, torch.Generator\n{LIGHT}"
    code += "print(parts == (torch._refs, torch.export, torch.Generator), type(torch._refs).__name__)"
    assert in_a_fresh_interpreter(code) == "True module"
